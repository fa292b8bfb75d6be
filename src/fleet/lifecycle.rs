//! The life of a host as a pure state machine: `advance(host, change, at, policy) -> host`.
//!
//! Seen -> Assigned -> Offered -> Installing -> Installed or Failed; see each `Transition`.

use std::collections::HashMap;
use std::time::{Duration, Instant};

use jiff::Timestamp;

use super::{BootMode, BootTarget, Host, Install, Mac, Phase};

/// One boot may ask for its script twice (by TFTP beside the program, then by HTTP): within this
/// time it counts once. No machine gets through its firmware faster.
const SAME_BOOT: Duration = Duration::from_secs(3);

/// Is what an install is left with, at the least, when the server starts: how long it was silent before is then told
/// by the wall clock alone, which may have been wrong at either end.
const LEFT_AT_START: Duration = Duration::from_secs(300);

/// Is something that happened to a host, or that somebody asked for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Transition {
    /// Somebody asked for an install of the image that the spec names.
    Assign,
    /// Somebody asked for the local disk.
    Release,
    /// Somebody asked that the host be left alone.
    Hold,
    /// A script that boots the image is about to be served.
    Offer,
    /// The installer asked for its config.
    FetchConfig,
    /// The machine was given its config within its image. Its boot reads the same bytes: this is no word of an
    /// installer, and ends no install.
    CarryConfig,
    /// The machine said that it is done.
    Complete,
    /// The site's limit passed without a word since the first offer that was made then (`InstallDeadlines::overdue`).
    TimeUp { since: Timestamp },
    /// The machine asks again after as many boots as the site allows an install.
    GiveUp,
}

/// Holds what a site says about the end of an install.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct InstallPolicy {
    pub completion: Completion,
    /// Is how long after its first offer a machine may stay silent.
    pub timeout: Duration,
    /// Is how many boots may be given the script before the install counts as failed.
    pub max_boots: u32,
}

/// Names what ends an install.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Completion {
    /// The machine's POST to `boot-complete`, or cloud-init's `phone_home`.
    BootComplete,
    /// The config was fetched: dynamic-ignition-coreos's rule.
    ConfigFetched,
    /// The script was fetched: mkube's rule.
    ScriptFetched,
}

/// Moves a host on. A change that means nothing in the host's phase leaves the host as it is.
pub fn advance(mut host: Host, change: Transition, at: Timestamp, policy: &InstallPolicy) -> Host {
    let (phase, message) = match (host.status.phase, change) {
        (_, Transition::Assign) => (Phase::Assigned, String::new()),
        (_, Transition::Release) => (Phase::LocalBoot, String::new()),
        (_, Transition::Hold) => (Phase::Held, String::new()),

        (Phase::Assigned | Phase::Offered | Phase::Installing, Transition::Offer) => on_offer(&mut host, at, policy),
        (Phase::LocalBoot | Phase::Held | Phase::Installed | Phase::Failed, Transition::Offer) => {
            return offered_forever(host, at);
        }

        (Phase::Assigned | Phase::Offered | Phase::Installing, Transition::FetchConfig) => match policy.completion {
            Completion::ConfigFetched if host.spec.boot_mode == BootMode::Once => {
                (Phase::Installed, "the config was fetched".into())
            }
            Completion::BootComplete | Completion::ConfigFetched | Completion::ScriptFetched => {
                (Phase::Installing, String::new())
            }
        },
        (phase @ (Phase::Assigned | Phase::Offered | Phase::Installing), Transition::CarryConfig) => {
            (phase, std::mem::take(&mut host.status.message))
        }
        (
            Phase::LocalBoot | Phase::Held | Phase::Installed | Phase::Failed,
            Transition::FetchConfig | Transition::CarryConfig,
        ) => {
            return host;
        }

        // A machine that was given up on and then reports is done all the same: it would know.
        (Phase::Assigned | Phase::Offered | Phase::Installing | Phase::Failed, Transition::Complete) => {
            (Phase::Installed, String::new())
        }
        (Phase::LocalBoot | Phase::Held | Phase::Installed, Transition::Complete) => return host,

        (Phase::Offered | Phase::Installing, Transition::TimeUp { since }) if awaited_since(&host) == Some(since) => (
            Phase::Failed,
            format!("no word from the machine within {} s of its first offer", policy.timeout.as_secs()),
        ),
        (_, Transition::TimeUp { .. }) => return host,

        (Phase::Offered | Phase::Installing, Transition::GiveUp) if is_exhausted(&host, policy) => {
            (Phase::Failed, format!("{} boots, and no word from the machine that it is done", policy.max_boots))
        }
        (_, Transition::GiveUp) => return host,
    };
    match change {
        Transition::Assign => host.status.install = Some(Install::default()),
        Transition::Release | Transition::Hold => host.status.install = None,
        Transition::FetchConfig | Transition::CarryConfig => {
            host.status.install.get_or_insert_default().config_fetch_time.get_or_insert(at);
        }
        Transition::Offer | Transition::Complete | Transition::TimeUp { .. } | Transition::GiveUp => {}
    }
    if phase == Phase::Installed {
        host.status.install.get_or_insert_default().completion_time = Some(at);
    }
    if phase != host.status.phase {
        host.status.phase_transition_time = Some(at);
    }
    host.status.phase = phase;
    host.status.message = message;
    host
}

fn on_offer(host: &mut Host, at: Timestamp, policy: &InstallPolicy) -> (Phase, String) {
    let again = host.status.last_boot_time.is_some_and(|last| at.duration_since(last).unsigned_abs() < SAME_BOOT);
    host.status.last_boot_time = Some(at);
    let install = host.status.install.get_or_insert_default();
    install.first_offer_time.get_or_insert(at);
    install.boot_count = match again && install.boot_count > 0 {
        true => install.boot_count,
        false => install.boot_count.saturating_add(1),
    };
    match policy.completion {
        _ if host.spec.boot_mode == BootMode::Forever => (Phase::Offered, String::new()),
        Completion::ScriptFetched => (Phase::Installed, "the script was fetched".into()),
        Completion::BootComplete | Completion::ConfigFetched => (Phase::Offered, String::new()),
    }
}

/// Counts the boots of a host that is `Installed` and boots its image for ever all the same.
fn offered_forever(mut host: Host, at: Timestamp) -> Host {
    host.status.last_boot_time = Some(at);
    host
}

/// Gives what a host is moved on by that is created as the copy of one that was in a phase: what was installed is
/// not installed over.
pub fn restored(image: &BootTarget, mode: BootMode, phase: Phase) -> Option<Transition> {
    match (image, phase, mode) {
        (_, Phase::Held, _) => Some(Transition::Hold),
        (BootTarget::LocalDisk | BootTarget::Menu, _, _) => None,
        (BootTarget::Image(_), Phase::LocalBoot, _) => Some(Transition::Release),
        (BootTarget::Image(_), Phase::Installed | Phase::Failed, BootMode::Once) => Some(Transition::Release),
        // It boots its image at every boot.
        (BootTarget::Image(_), Phase::Installed | Phase::Failed, BootMode::Forever) => None,
        (BootTarget::Image(_), Phase::Assigned | Phase::Offered | Phase::Installing, _) => None,
    }
}

/// Gives the first offer of an install that must come to an end and has not.
fn awaited_since(host: &Host) -> Option<Timestamp> {
    let awaited = host.spec.boot_mode == BootMode::Once && host.status.phase.is_under_way();
    host.status.install.as_ref().filter(|_| awaited)?.first_offer_time
}

/// Measures how long the installs under way are silent, by a clock that nobody sets: a wall clock that jumps, as by
/// NTP's first step on a machine without a clock of its own, neither ends an install nor keeps one from its end.
#[derive(Debug, Default)]
pub struct InstallDeadlines {
    /// Holds each install, by its first offer, and when its time is up.
    until: HashMap<Mac, (Timestamp, Instant)>,
    began: bool,
}

impl InstallDeadlines {
    /// Finds the installs whose time is up, each with its first offer. It is asked once at the start and then every
    /// few seconds, with all hosts whose install is under way: one that it finds later was first offered just now.
    pub fn overdue<'a>(
        &mut self,
        hosts: impl Iterator<Item = &'a Host>,
        (wall, steady): (Timestamp, Instant),
        policy: &InstallPolicy,
    ) -> Vec<(Mac, Timestamp)> {
        let (known, mut overdue) = (std::mem::take(&mut self.until), Vec::new());
        for host in hosts {
            let (mac, Some(first)) = (host.spec.boot_mac_address, awaited_since(host)) else { continue };
            let until = match known.get(&mac) {
                Some((same, until)) if *same == first => *until,
                _ if self.began => steady + policy.timeout,
                _ => steady + left_at_start(wall, first, policy),
            };
            self.until.insert(mac, (first, until));
            if until <= steady {
                overdue.push((mac, first));
            }
        }
        self.began = true;
        overdue
    }
}

/// Gives the time that is left to an install that was under way when the server started.
fn left_at_start(wall: Timestamp, first: Timestamp, policy: &InstallPolicy) -> Duration {
    let waited = Duration::try_from(wall.duration_since(first)).unwrap_or_default();
    policy.timeout.saturating_sub(waited).max(LEFT_AT_START.min(policy.timeout))
}

/// Says whether a host has had every boot that the site allows an install. They are counted when the machine asks
/// once more: its last allowed one may still succeed.
pub fn is_exhausted(host: &Host, policy: &InstallPolicy) -> bool {
    let offers = host.status.install.as_ref().map_or(0, |install| install.boot_count);
    host.spec.boot_mode == BootMode::Once && host.status.phase.is_under_way() && offers >= policy.max_boots
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::fleet::{BootTarget, HostSpec, HostStatus, Mac, Meta};

    const LIMIT: Duration = Duration::from_secs(3600);

    fn policy(done_when: Completion) -> InstallPolicy {
        InstallPolicy { completion: done_when, timeout: LIMIT, max_boots: 3 }
    }

    fn host(phase: Phase) -> Host {
        let mut spec = HostSpec::for_mac(Mac([2, 0, 0, 0, 0, 1]));
        spec.image = BootTarget::Image("live".parse().unwrap());
        let status = HostStatus { phase, ..HostStatus::default() };
        Host { metadata: Meta::named("h".parse().unwrap(), None), spec, status }
    }

    fn at(second: i64) -> Timestamp {
        Timestamp::from_second(1_800_000_000 + second).unwrap()
    }

    fn after(start: Phase, changes: &[(Transition, i64)], done_when: Completion) -> Phase {
        after_all(host(start), changes, done_when).status.phase
    }

    fn after_all(host: Host, changes: &[(Transition, i64)], done_when: Completion) -> Host {
        let policy = policy(done_when);
        changes.iter().fold(host, |host, (change, second)| advance(host, *change, at(*second), &policy))
    }

    #[test]
    fn an_install_ends_when_the_machine_says_so() {
        use Transition::{Assign, Complete, FetchConfig, Offer};
        let rows: [(&[(Transition, i64)], Phase); 6] = [
            (&[(Assign, 0)], Phase::Assigned),
            (&[(Assign, 0), (Offer, 1)], Phase::Offered),
            (&[(Assign, 0), (Offer, 1), (FetchConfig, 2)], Phase::Installing),
            (&[(Assign, 0), (Offer, 1), (FetchConfig, 2), (Offer, 3)], Phase::Offered),
            (&[(Assign, 0), (Offer, 1), (FetchConfig, 2), (Complete, 3)], Phase::Installed),
            (&[(Assign, 0), (Offer, 1), (FetchConfig, 2), (Complete, 3), (Assign, 4)], Phase::Assigned),
        ];
        for (changes, phase) in rows {
            assert_eq!(after(Phase::LocalBoot, changes, Completion::BootComplete), phase, "{changes:?}");
        }
    }

    #[test]
    fn what_is_done_stays_done_until_somebody_asks() {
        for change in [
            Transition::Offer,
            Transition::FetchConfig,
            Transition::CarryConfig,
            Transition::Complete,
            Transition::TimeUp { since: at(0) },
        ] {
            let later = [(change, 1), (change, 100_000)];
            assert_eq!(after(Phase::Installed, &later, Completion::BootComplete), Phase::Installed);
            assert_eq!(after(Phase::Held, &later, Completion::ScriptFetched), Phase::Held);
        }
    }

    #[test]
    fn the_legacy_rules_are_kept_by_name() {
        let script = [(Transition::Assign, 0), (Transition::Offer, 1)];
        let config = [(Transition::Assign, 0), (Transition::Offer, 1), (Transition::FetchConfig, 2)];
        assert_eq!(after(Phase::LocalBoot, &script, Completion::ScriptFetched), Phase::Installed);
        assert_eq!(after(Phase::LocalBoot, &script, Completion::ConfigFetched), Phase::Offered);
        assert_eq!(after(Phase::LocalBoot, &config, Completion::ConfigFetched), Phase::Installed);
    }

    #[test]
    fn a_config_that_came_with_its_image_ends_no_install() {
        let changes = [(Transition::Assign, 0), (Transition::Offer, 1), (Transition::CarryConfig, 2)];
        let host = after_all(host(Phase::LocalBoot), &changes, Completion::ConfigFetched);
        assert_eq!(host.status.phase, Phase::Offered);
        assert_eq!(host.status.install.unwrap().config_fetch_time, Some(at(2)));
    }

    #[test]
    fn silence_counts_from_the_first_offer_whatever_comes_after() {
        let time_up = |second| Transition::TimeUp { since: at(second) };
        let looping =
            [(Transition::Assign, 0), (Transition::Offer, 10), (Transition::Offer, 3_000), (time_up(10), 3_610)];
        assert_eq!(after(Phase::LocalBoot, &looping, Completion::BootComplete), Phase::Failed);
        let back =
            [(Transition::Assign, 0), (Transition::Offer, 10), (time_up(10), 3_610), (Transition::Complete, 4_000)];
        assert_eq!(after(Phase::LocalBoot, &back, Completion::BootComplete), Phase::Installed);
        let another =
            [(Transition::Assign, 0), (Transition::Offer, 10), (Transition::Assign, 20), (Transition::Offer, 30)];
        let late = another.iter().chain(&[(time_up(10), 3_610)]).copied().collect::<Vec<_>>();
        assert_eq!(
            after(Phase::LocalBoot, &late, Completion::BootComplete),
            Phase::Offered,
            "the time of another install"
        );
        let unoffered = [(Transition::Assign, 0), (time_up(0), 9_999)];
        assert_eq!(after(Phase::LocalBoot, &unoffered, Completion::BootComplete), Phase::Assigned);
    }

    /// Asks a vigil of one install that was first offered at second 0 of the wall clock, at each (seconds of the
    /// steady clock, of the wall clock), and gives the steady seconds at which it was overdue.
    fn watch(vigil: &mut InstallDeadlines, asked: &[(u64, i64)], start: Instant) -> Vec<u64> {
        let policy = policy(Completion::BootComplete);
        let [assigned, offered] = [(Transition::Assign, 0), (Transition::Offer, 0)];
        let step = |host, (change, second): (Transition, i64)| advance(host, change, at(second), &policy);
        let host = [assigned, offered].into_iter().fold(host(Phase::LocalBoot), step);
        let is_overdue = |vigil: &mut InstallDeadlines, steady: u64, wall: i64| {
            let now = (at(wall), start + Duration::from_secs(steady));
            let found = vigil.overdue(std::iter::once(&host), now, &policy);
            assert!(found.is_empty() || found == [(host.spec.boot_mac_address, at(0))], "{found:?}");
            !found.is_empty()
        };
        asked.iter().filter(|(steady, wall)| is_overdue(vigil, *steady, *wall)).map(|(steady, _)| *steady).collect()
    }

    #[test]
    fn a_wall_clock_that_jumps_ends_no_install_and_keeps_none_from_its_end() {
        let (start, day) = (Instant::now(), 86_400);
        let began = || InstallDeadlines { began: true, ..InstallDeadlines::default() };
        for jump in [0, day, -day, 56 * 365 * day] {
            let asked = [(1, 1), (2, 2 + jump), (3_600, 3_600 + jump), (3_601, 3_601 + jump), (9_000, 9_000 + jump)];
            assert_eq!(watch(&mut began(), &asked, start), [3_601, 9_000], "a jump of {jump} s");
        }
    }

    #[test]
    fn across_a_restart_the_wall_clock_counts_within_bounds() {
        let start = Instant::now();
        for (wall, end) in [
            // Half of its time is over.
            (1_800, 1_800),
            // All of it, by a clock that may be wrong: the machine is given a moment.
            (3_590, 300),
            (1_000_000_000, 300),
            // The clock was set back since.
            (-1_000_000_000, 3_600),
        ] {
            let asked = [(0, wall), (end - 1, wall), (end, wall)];
            assert_eq!(watch(&mut InstallDeadlines::default(), &asked, start), [end], "the wall clock says {wall} s");
        }
    }

    #[test]
    fn another_install_of_the_host_has_its_own_time() {
        let (start, policy) = (Instant::now(), policy(Completion::BootComplete));
        let offered = |second| {
            let step = |host, (change, second)| advance(host, change, at(second), &policy);
            [(Transition::Assign, second), (Transition::Offer, second)].into_iter().fold(host(Phase::LocalBoot), step)
        };
        let mut vigil = InstallDeadlines::default();
        let mut ask = |host: &Host, second: u64| {
            let now = (at(second as i64), start + Duration::from_secs(second));
            vigil.overdue(std::iter::once(host), now, &policy).len()
        };
        let (first, second) = (offered(0), offered(3_000));
        assert_eq!([ask(&first, 0), ask(&second, 3_000), ask(&second, 3_700), ask(&second, 6_600)], [0, 0, 0, 1]);
    }

    #[test]
    fn a_host_that_boots_its_image_for_ever_never_fails() {
        let mut forever = host(Phase::Assigned);
        forever.spec.boot_mode = BootMode::Forever;
        for second in [0, 10, 20, 30] {
            forever = advance(forever, Transition::Offer, at(second), &policy(Completion::ScriptFetched));
        }
        assert_eq!(forever.status.phase, Phase::Offered);
        assert_eq!(awaited_since(&forever), None);
        assert!(!is_exhausted(&forever, &policy(Completion::BootComplete)));
    }

    #[test]
    fn a_machine_that_keeps_coming_back_is_given_up_on() {
        use Transition::{Assign, GiveUp, Offer};
        let twice = [(Assign, 0), (Offer, 10), (Offer, 60), (GiveUp, 110)];
        assert_eq!(after(Phase::LocalBoot, &twice, Completion::BootComplete), Phase::Offered);
        let thrice = [(Assign, 0), (Offer, 10), (Offer, 60), (Offer, 110), (GiveUp, 160)];
        assert_eq!(after(Phase::LocalBoot, &thrice, Completion::BootComplete), Phase::Failed);
        let one_boot = [(Assign, 0), (Offer, 10), (Offer, 11), (Offer, 12), (GiveUp, 60)];
        assert_eq!(after(Phase::LocalBoot, &one_boot, Completion::BootComplete), Phase::Offered);
    }
}
