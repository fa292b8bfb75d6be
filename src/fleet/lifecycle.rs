//! The lifecycle of a host as a pure state machine: `advance(host, transition, at, policy) -> host`.
//!
//! LocalBoot -> Assigned -> Offered -> Installing -> Installed or Failed; see each `Transition`.

use std::collections::HashMap;
use std::time::{Duration, Instant};

use jiff::Timestamp;

use super::{BootMode, BootTarget, Host, Install, Mac, Phase};

/// Time within which two requests for a boot script belong to the same boot: iPXE may request it over TFTP, then over
/// HTTP. No machine passes its firmware in less time.
const SAME_BOOT_INTERVAL: Duration = Duration::from_secs(3);

/// Minimum time that is left to an install when the server starts. Only the wall clock measures the time before, and it
/// may have been wrong.
const MIN_LEFT_AT_START: Duration = Duration::from_secs(300);

/// An event of a host that may change its phase.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Transition {
    /// An install of the image in the spec was requested.
    Assign,
    /// A boot from the local disk was requested.
    Release,
    /// A hold of the host was requested.
    Hold,
    /// A boot script of the image is about to be served.
    Offer,
    /// A boot script of the image, rendered at this time, was acknowledged by the machine (TFTP): as `Offer`, which the
    /// first datagram of a transfer cannot be, because anybody can send it from the machine's address.
    OfferAcknowledged {
        /// Time at which the script was rendered; the token in it depends on it.
        since: Timestamp,
    },
    /// The config is about to be served to the installer.
    FetchConfig,
    /// The image with the embedded config was read. The boot loader reads the same bytes: this does not show that an
    /// installer runs, and it ends no install.
    CarryConfig,
    /// The machine reported a completed install.
    Complete,
    /// `install.timeout` has passed since the first offer of the install (`InstallDeadlines::overdue`).
    TimedOut {
        /// Time of the first offer.
        since: Timestamp,
    },
    /// The machine requests a boot script after `install.max_boots` boots.
    MaxBootsReached,
}

/// The configuration of how installs end.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct InstallPolicy {
    /// The condition that ends an install.
    pub completion: Completion,
    /// Time after the first offer until an install counts as failed.
    pub timeout: Duration,
    /// Number of boots with the boot script until an install counts as failed.
    pub max_boots: u32,
    /// Whether an assignment switches on a machine that is off and whose `spec.online` is not set.
    pub power_on: bool,
}

/// The event that ends an install.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Completion {
    /// The machine's POST to `boot-complete`, or cloud-init's `phone_home`.
    BootComplete,
    /// The config was fetched, as in dynamic-ignition-coreos.
    ConfigFetched,
    /// The boot script was fetched, as in mkube.
    ScriptFetched,
}

/// Applies a transition to a host. A transition without a meaning in the host's phase leaves the host unchanged.
pub fn advance(mut host: Host, change: Transition, at: Timestamp, policy: &InstallPolicy) -> Host {
    let (phase, message) = match (host.status.phase, change) {
        (_, Transition::Assign) => (Phase::Assigned, String::new()),
        (_, Transition::Release) => (Phase::LocalBoot, String::new()),
        (_, Transition::Hold) => (Phase::Held, String::new()),

        (phase, Transition::Offer | Transition::OfferAcknowledged { .. }) => {
            let served = if let Transition::OfferAcknowledged { since } = change { since } else { at };
            match phase {
                Phase::Assigned | Phase::Offered | Phase::Installing => on_offer(&mut host, served, policy),
                Phase::LocalBoot | Phase::Held | Phase::Installed | Phase::Failed => {
                    return offered_forever(host, served);
                }
            }
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

        (Phase::Offered | Phase::Installing, Transition::TimedOut { since }) if awaited_since(&host) == Some(since) => {
            (
                Phase::Failed,
                format!(
                    "the machine reported no completed install within {} s of the first offer",
                    policy.timeout.as_secs()
                ),
            )
        }
        (_, Transition::TimedOut { .. }) => return host,

        (Phase::Offered | Phase::Installing, Transition::MaxBootsReached) if is_exhausted(&host, policy) => {
            (Phase::Failed, format!("the machine reported no completed install after {} boots", policy.max_boots))
        }
        (_, Transition::MaxBootsReached) => return host,
    };
    update_install(&mut host, change, at);
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

/// Starts, ends or dates the install of a host, as the transition asks.
fn update_install(host: &mut Host, change: Transition, at: Timestamp) {
    match change {
        Transition::Assign => host.status.install = Some(Install::default()),
        Transition::Release | Transition::Hold => host.status.install = None,
        Transition::FetchConfig | Transition::CarryConfig => {
            host.status.install.get_or_insert_default().config_fetch_time.get_or_insert(at);
        }
        Transition::Offer
        | Transition::OfferAcknowledged { .. }
        | Transition::Complete
        | Transition::TimedOut { .. }
        | Transition::MaxBootsReached => {}
    }
}

fn on_offer(host: &mut Host, at: Timestamp, policy: &InstallPolicy) -> (Phase, String) {
    let again =
        host.status.last_boot_time.is_some_and(|last| at.duration_since(last).unsigned_abs() < SAME_BOOT_INTERVAL);
    host.status.last_boot_time = Some(at);
    let install = host.status.install.get_or_insert_default();
    install.first_offer_time.get_or_insert(at);
    install.boot_count = match again && install.boot_count > 0 {
        true => install.boot_count,
        false => install.boot_count.saturating_add(1),
    };
    match policy.completion {
        _ if host.spec.boot_mode == BootMode::Forever => (Phase::Offered, String::new()),
        Completion::ScriptFetched => (Phase::Installed, "the boot script was fetched".into()),
        Completion::BootComplete | Completion::ConfigFetched => (Phase::Offered, String::new()),
    }
}

/// Records a boot of a host that boots its image in every phase.
fn offered_forever(mut host: Host, at: Timestamp) -> Host {
    host.status.last_boot_time = Some(at);
    host
}

/// Returns the transition for a host that is restored from a backup with its phase, so that a finished install is not
/// repeated.
pub fn restored(image: &BootTarget, mode: BootMode, phase: Phase) -> Option<Transition> {
    match (image, phase, mode) {
        (_, Phase::Held, _) => Some(Transition::Hold),
        (BootTarget::LocalDisk | BootTarget::Menu, _, _) => None,
        (BootTarget::Image(_), Phase::LocalBoot, _) => Some(Transition::Release),
        (BootTarget::Image(_), Phase::Installed | Phase::Failed, BootMode::Once) => Some(Transition::Release),
        // The host boots its image at every boot.
        (BootTarget::Image(_), Phase::Installed | Phase::Failed, BootMode::Forever) => None,
        (BootTarget::Image(_), Phase::Assigned | Phase::Offered | Phase::Installing, _) => None,
    }
}

/// Returns the first offer of an install that has not ended and must end.
fn awaited_since(host: &Host) -> Option<Timestamp> {
    let awaited = host.spec.boot_mode == BootMode::Once && host.status.phase.is_under_way();
    host.status.install.as_ref().filter(|_| awaited)?.first_offer_time
}

/// The deadlines of the installs in progress, by the monotonic clock. A wall clock that jumps, as by NTP's first step
/// on a computer without a battery-backed clock, neither ends an install nor prolongs it.
#[derive(Debug, Default)]
pub struct InstallDeadlines {
    /// The first offer and the deadline of each install.
    until: HashMap<Mac, (Timestamp, Instant)>,
    /// Whether `overdue` was called before.
    began: bool,
}

impl InstallDeadlines {
    /// Returns the overdue installs, each with its first offer. Call it at the start and then every few seconds, with
    /// all hosts with an install in progress: an install that appears later was offered just now.
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

/// Returns the time that is left to an install that was in progress when the server started.
fn left_at_start(wall: Timestamp, first: Timestamp, policy: &InstallPolicy) -> Duration {
    let waited = Duration::try_from(wall.duration_since(first)).unwrap_or_default();
    policy.timeout.saturating_sub(waited).max(MIN_LEFT_AT_START.min(policy.timeout))
}

/// Returns whether a host has used all boots of an install. The caller checks it at the next request: the last allowed
/// boot may still succeed.
pub fn is_exhausted(host: &Host, policy: &InstallPolicy) -> bool {
    let boots = host.status.install.as_ref().map_or(0, |install| install.boot_count);
    host.spec.boot_mode == BootMode::Once && host.status.phase.is_under_way() && boots >= policy.max_boots
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::fleet::{BootTarget, HostSpec, HostStatus, Mac, Meta};

    const LIMIT: Duration = Duration::from_secs(3600);

    fn policy(completion: Completion) -> InstallPolicy {
        InstallPolicy { completion, timeout: LIMIT, max_boots: 3, power_on: false }
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

    fn after(start: Phase, changes: &[(Transition, i64)], completion: Completion) -> Phase {
        after_all(host(start), changes, completion).status.phase
    }

    fn after_all(host: Host, changes: &[(Transition, i64)], completion: Completion) -> Host {
        let policy = policy(completion);
        changes.iter().fold(host, |host, (change, second)| advance(host, *change, at(*second), &policy))
    }

    #[test]
    fn an_install_ends_when_the_machine_reports_it() {
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
    fn a_completed_install_stays_completed_until_another_is_requested() {
        for change in [
            Transition::Offer,
            Transition::FetchConfig,
            Transition::CarryConfig,
            Transition::Complete,
            Transition::TimedOut { since: at(0) },
        ] {
            let later = [(change, 1), (change, 100_000)];
            assert_eq!(after(Phase::Installed, &later, Completion::BootComplete), Phase::Installed);
            assert_eq!(after(Phase::Held, &later, Completion::ScriptFetched), Phase::Held);
        }
    }

    #[test]
    fn an_acknowledged_offer_counts_from_when_its_script_was_rendered() {
        use Transition::{Assign, Offer, OfferAcknowledged};
        for completion in [Completion::BootComplete, Completion::ConfigFetched, Completion::ScriptFetched] {
            let offered = after_all(host(Phase::LocalBoot), &[(Assign, 0), (Offer, 7)], completion);
            let late = [(Assign, 0), (OfferAcknowledged { since: at(7) }, 12)];
            let acknowledged = after_all(host(Phase::LocalBoot), &late, completion);
            assert_eq!(acknowledged.status.phase, offered.status.phase);
            let times = |host: &Host| {
                let install = host.status.install.as_ref().unwrap();
                (install.first_offer_time, install.boot_count, host.status.last_boot_time)
            };
            assert_eq!(times(&acknowledged), (Some(at(7)), 1, Some(at(7))));
            assert_eq!(times(&acknowledged), times(&offered));
        }
    }

    #[test]
    fn the_legacy_policies_end_installs_earlier() {
        let script = [(Transition::Assign, 0), (Transition::Offer, 1)];
        let config = [(Transition::Assign, 0), (Transition::Offer, 1), (Transition::FetchConfig, 2)];
        assert_eq!(after(Phase::LocalBoot, &script, Completion::ScriptFetched), Phase::Installed);
        assert_eq!(after(Phase::LocalBoot, &script, Completion::ConfigFetched), Phase::Offered);
        assert_eq!(after(Phase::LocalBoot, &config, Completion::ConfigFetched), Phase::Installed);
    }

    #[test]
    fn an_embedded_config_ends_no_install() {
        let changes = [(Transition::Assign, 0), (Transition::Offer, 1), (Transition::CarryConfig, 2)];
        let host = after_all(host(Phase::LocalBoot), &changes, Completion::ConfigFetched);
        assert_eq!(host.status.phase, Phase::Offered);
        assert_eq!(host.status.install.unwrap().config_fetch_time, Some(at(2)));
    }

    #[test]
    fn the_timeout_counts_from_the_first_offer() {
        let time_up = |second| Transition::TimedOut { since: at(second) };
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

    /// Checks one install, first offered at second 0 of the wall clock, at each (seconds of the steady clock, seconds
    /// of the wall clock); returns the steady seconds at which it was overdue.
    fn watch(deadlines: &mut InstallDeadlines, asked: &[(u64, i64)], start: Instant) -> Vec<u64> {
        let policy = policy(Completion::BootComplete);
        let [assigned, offered] = [(Transition::Assign, 0), (Transition::Offer, 0)];
        let step = |host, (change, second): (Transition, i64)| advance(host, change, at(second), &policy);
        let host = [assigned, offered].into_iter().fold(host(Phase::LocalBoot), step);
        let is_overdue = |deadlines: &mut InstallDeadlines, steady: u64, wall: i64| {
            let now = (at(wall), start + Duration::from_secs(steady));
            let found = deadlines.overdue(std::iter::once(&host), now, &policy);
            assert!(found.is_empty() || found == [(host.spec.boot_mac_address, at(0))], "{found:?}");
            !found.is_empty()
        };
        asked.iter().filter(|(steady, wall)| is_overdue(deadlines, *steady, *wall)).map(|(steady, _)| *steady).collect()
    }

    #[test]
    fn a_wall_clock_that_jumps_neither_ends_nor_prolongs_an_install() {
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
            // Half of the time is over.
            (1_800, 1_800),
            // All of it, by a clock that may be wrong: the minimum is left.
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
    fn another_install_of_the_host_has_its_own_deadline() {
        let (start, policy) = (Instant::now(), policy(Completion::BootComplete));
        let offered = |second| {
            let step = |host, (change, second)| advance(host, change, at(second), &policy);
            [(Transition::Assign, second), (Transition::Offer, second)].into_iter().fold(host(Phase::LocalBoot), step)
        };
        let mut deadlines = InstallDeadlines::default();
        let mut ask = |host: &Host, second: u64| {
            let now = (at(second as i64), start + Duration::from_secs(second));
            deadlines.overdue(std::iter::once(host), now, &policy).len()
        };
        let (first, second) = (offered(0), offered(3_000));
        assert_eq!([ask(&first, 0), ask(&second, 3_000), ask(&second, 3_700), ask(&second, 6_600)], [0, 0, 0, 1]);
    }

    #[test]
    fn boot_mode_forever_never_fails() {
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
    fn an_install_fails_after_its_last_boot() {
        use Transition::{Assign, MaxBootsReached, Offer};
        let twice = [(Assign, 0), (Offer, 10), (Offer, 60), (MaxBootsReached, 110)];
        assert_eq!(after(Phase::LocalBoot, &twice, Completion::BootComplete), Phase::Offered);
        let thrice = [(Assign, 0), (Offer, 10), (Offer, 60), (Offer, 110), (MaxBootsReached, 160)];
        assert_eq!(after(Phase::LocalBoot, &thrice, Completion::BootComplete), Phase::Failed);
        let one_boot = [(Assign, 0), (Offer, 10), (Offer, 11), (Offer, 12), (MaxBootsReached, 60)];
        assert_eq!(after(Phase::LocalBoot, &one_boot, Completion::BootComplete), Phase::Offered);
    }
}
