//! The time in which a host's config is given away. Pure.

use std::time::Duration;

use jiff::Timestamp;

use crate::fleet::lifecycle::Completion;
use crate::fleet::{BootMode, BootTarget, Host, Phase};

use super::Reason;

/// Checks whether a host's config is given away at a time: within `token_ttl` of its last boot script, also to a client
/// that is proven to be the host. Any program behind the machine's address could read it later. A host that was never served a script has no
/// such time: its config is for a system that this server did not boot.
///
/// # Errors
/// The time is over; for a confidential config also: its install has ended.
pub fn check_config_window(
    host: &Host,
    is_confidential: bool,
    at: Timestamp,
    token_ttl: Duration,
    completion: Completion,
) -> Result<(), Reason> {
    if let Some(reason) = install_end(host, completion).filter(|_| is_confidential) {
        return Err(reason);
    }
    match is_within_ttl(host, at, token_ttl) {
        Some(false) => Err(Reason::ConfigWindowClosed),
        Some(true) | None => Ok(()),
    }
}

/// Returns whether a host was served its last boot script within `token_ttl`; `None` if it was never served one. A
/// script of the future was served before the clock was set back, as where a computer without a battery-backed clock
/// starts: it counts as served just now while the install is under way.
pub fn is_within_ttl(host: &Host, at: Timestamp, token_ttl: Duration) -> Option<bool> {
    let served = host.status.last_boot_time?;
    let is_future = served > at && host.status.phase.is_under_way();
    Some(is_future || at.duration_since(served).unsigned_abs() <= token_ttl)
}

/// Returns why the install of a host has ended; `None` while it may still need its config.
pub fn install_end(host: &Host, completion: Completion) -> Option<Reason> {
    match (host.status.phase, &host.spec.image, host.spec.boot_mode) {
        (Phase::Held, ..) => Some(Reason::Held),
        // The host boots its image at every boot, and needs its config each time.
        (Phase::Installed | Phase::Failed, BootTarget::Image(_), BootMode::Forever) => None,
        (Phase::Installed, ..) => match completion {
            Completion::BootComplete => Some(Reason::InstallCompleted),
            // The installer still runs: only the window ends its reads.
            Completion::ConfigFetched | Completion::ScriptFetched => None,
        },
        (Phase::Failed, ..) => Some(Reason::InstallFailed),
        // Without a script there was no install that could have ended.
        (Phase::LocalBoot, ..) => host.status.last_boot_time.map(|_| Reason::NotAssigned),
        (Phase::Assigned | Phase::Offered | Phase::Installing, ..) => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::fleet::{HostSpec, HostStatus, Mac, Meta};

    const TTL: Duration = Duration::from_secs(3600);

    fn at(second: i64) -> Timestamp {
        Timestamp::from_second(1_800_000_000 + second).unwrap()
    }

    fn host(phase: Phase, mode: BootMode, served: Option<i64>) -> Host {
        let mut spec = HostSpec::for_mac(Mac([2, 0, 0, 0, 0, 1]));
        (spec.image, spec.boot_mode) = (BootTarget::Image("live".parse().unwrap()), mode);
        let status = HostStatus { phase, last_boot_time: served.map(at), ..HostStatus::default() };
        Host { metadata: Meta::named("h".parse().unwrap(), None), spec, status }
    }

    #[test]
    fn the_window_follows_the_last_script_in_every_phase() {
        for phase in Phase::ALL {
            for (served, asked, open) in [
                (None, 0, true),
                (Some(0), 0, true),
                (Some(0), 3_600, true),
                (Some(0), 3_601, false),
                (Some(9_999), 0, phase.is_under_way()),
            ] {
                let host = host(phase, BootMode::Once, served);
                let got = check_config_window(&host, false, at(asked), TTL, Completion::BootComplete);
                assert_eq!(
                    got,
                    if open { Ok(()) } else { Err(Reason::ConfigWindowClosed) },
                    "{phase} {served:?} {asked}"
                );
            }
        }
    }

    #[test]
    fn a_confidential_config_ends_with_the_install() {
        use Completion::{BootComplete, ConfigFetched, ScriptFetched};
        let ended = |phase, mode, completion| {
            check_config_window(&host(phase, mode, Some(0)), true, at(1), TTL, completion).err()
        };
        for completion in [BootComplete, ConfigFetched, ScriptFetched] {
            for phase in [Phase::Assigned, Phase::Offered, Phase::Installing] {
                assert_eq!(ended(phase, BootMode::Once, completion), None);
            }
            assert_eq!(ended(Phase::Failed, BootMode::Once, completion), Some(Reason::InstallFailed));
            assert_eq!(ended(Phase::LocalBoot, BootMode::Once, completion), Some(Reason::NotAssigned));
            assert_eq!(ended(Phase::Held, BootMode::Forever, completion), Some(Reason::Held));
            for phase in [Phase::Installed, Phase::Failed] {
                assert_eq!(ended(phase, BootMode::Forever, completion), None, "it boots its image again");
            }
        }
        assert_eq!(ended(Phase::Installed, BootMode::Once, BootComplete), Some(Reason::InstallCompleted));
        for completion in [ConfigFetched, ScriptFetched] {
            assert_eq!(ended(Phase::Installed, BootMode::Once, completion), None, "the installer still runs");
        }
    }
}
