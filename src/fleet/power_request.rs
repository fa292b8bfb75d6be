//! Power changes that a write of `spec.online`, an operator or an assignment requests.

use std::time::Duration;

use jiff::Timestamp;

use super::lifecycle::InstallPolicy;
use super::{Bmc, HardwareDetails, Host, HostStatus, Power, PowerOperation, PowerTransition, TransitionState};

/// Time in which a machine is switched on after all when its BMC, which was not reachable, answers again.
const RECONCILE_TIME: Duration = Duration::from_secs(24 * 3600);

/// Applies a new spec to the power part of the host's status.
///
/// Only a write that sets or changes `online` requests a power change, or a write that adds the BMC while `online` is
/// set already, or corrects the BMC that a power change failed with. Neither a restart of this server nor a person at
/// the power button changes `online`.
pub fn apply_spec(mut host: Host, before: Option<&Host>, at: Timestamp) -> Host {
    let had: Option<&Bmc> = before.and_then(|before| before.spec.bmc.as_ref());
    let status = &mut host.status;
    let Some(bmc) = &host.spec.bmc else {
        // A host without a BMC before keeps the request to wake it.
        let wake = if had.is_none() {
            (status.power_transition.take(), status.last_power_transition.take())
        } else {
            (None, None)
        };
        if had.is_some() {
            clear_inventory(status);
        }
        clear(status);
        (status.power_transition, status.last_power_transition) = wake;
        return host;
    };
    let is_other = !had.is_some_and(|had| had.same_access(bmc));
    if is_other || status.power.is_none() {
        (status.power, status.power_transition_time, status.power_error) = (Some(Power::Unknown), Some(at), None);
    }
    let verified = |bmc: &Bmc| (bmc.address.clone(), bmc.disable_certificate_verification);
    if had.map(verified) != Some(verified(bmc)) {
        status.bmc = None;
    }
    if had.is_some_and(|had| had.address != bmc.address) {
        clear_inventory(status);
    }
    let requested = before.and_then(|before| before.spec.online);
    match host.spec.online {
        Some(on) if had.is_none() || requested != Some(on) || (is_other && has_failed(status, on)) => {
            host = request(host, if on { PowerOperation::On } else { PowerOperation::Off }, at);
        }
        Some(_) => {}
        None if requested.is_some() => host = cancelled(host, at),
        None => {}
    }
    host
}

/// Requests a power operation of a host with a BMC. It replaces one that is in progress.
pub fn request(host: Host, operation: PowerOperation, at: Timestamp) -> Host {
    request_later(host, operation, None, at)
}

/// Requests a power operation of a host, from a start time on. It replaces one that is in progress. A host without a BMC can
/// only be switched on, by Wake-on-LAN.
pub fn request_later(mut host: Host, operation: PowerOperation, start: Option<Timestamp>, at: Timestamp) -> Host {
    if host.spec.bmc.is_some() || operation == PowerOperation::On {
        host = cancelled(host, at);
        let mut transition = PowerTransition::new(operation, at);
        transition.start_time = start.filter(|start| *start > at);
        host.status.power_transition = Some(Box::new(transition));
    }
    host
}

/// Ends the power change in progress, because another one was requested.
fn cancelled(mut host: Host, at: Timestamp) -> Host {
    // One that was requested at the same moment is part of the same write.
    if let Some(transition) = host.status.power_transition.take().filter(|transition| transition.request_time != at) {
        host.status.last_power_transition = Some(Box::new(transition.ended(TransitionState::Replaced, at)));
    }
    host
}

/// Switches a machine on that was assigned an image while it is off, if its spec or the configuration asks for that.
pub fn on_assign(host: Host, at: Timestamp, policy: &InstallPolicy) -> Host {
    let is_wanted = host.spec.online.unwrap_or(policy.power_on);
    let is_coming = host.status.power_transition.as_ref().is_some_and(|change| change.target == Power::On);
    match host.spec.bmc.is_some() && is_wanted && !is_coming && host.status.power != Some(Power::On) {
        true => request(host, PowerOperation::On, at),
        false => host,
    }
}

/// Records the new state of a power change, or its end. That of a change which was replaced meanwhile has no effect.
pub fn apply_progress(status: &mut HostStatus, progress: Option<Box<PowerTransition>>) {
    let Some(progress) = progress else { return };
    if status.power_transition.as_ref().map(|known| known.request_time) != Some(progress.request_time) {
        return;
    }
    match progress.state.is_end() {
        true => (status.power_transition, status.last_power_transition) = (None, Some(progress)),
        false => status.power_transition = Some(progress),
    }
}

/// Requests the power-on of a host again that failed because its BMC was not reachable, once that answers again.
///
/// What a person did meanwhile stands: nothing that was confirmed once is requested again, and no power is cut late.
pub fn reconcile(host: Host, before: &Host, at: Timestamp) -> Host {
    let status = &host.status;
    let answers_again = before.status.power == Some(Power::Unknown) && status.power == Some(Power::Off);
    let is_recent = |change: &PowerTransition| at.duration_since(change.request_time).unsigned_abs() < RECONCILE_TIME;
    let is_unmet = status.last_power_transition.as_ref().is_some_and(|change| {
        change.state == TransitionState::Failed
            && change.target == Power::On
            && change.reason == "Unreachable"
            && is_recent(change)
    });
    match answers_again && is_unmet && host.spec.online == Some(true) && status.power_transition.is_none() {
        true => request(host, PowerOperation::On, at),
        false => host,
    }
}

/// Returns whether the last power change was to this state, and failed.
fn has_failed(status: &HostStatus, on: bool) -> bool {
    let target = if on { Power::On } else { Power::Off };
    status.last_power_transition.as_ref().is_some_and(|change| {
        change.state == TransitionState::Failed && change.target == target && status.power_transition.is_none()
    })
}

/// Removes all that only a BMC gives.
fn clear(status: &mut HostStatus) {
    (status.power, status.power_transition_time, status.power_error) = (None, None, None);
    (status.power_transition, status.last_power_transition) = (None, None);
    (status.boot_device, status.bmc) = (None, None);
}

/// Removes the hardware that only a BMC shows: another one is of another machine.
fn clear_inventory(status: &mut HostStatus) {
    let left = status.hardware.as_ref().map(|known| known.without_inventory());
    status.hardware = left.filter(|left| *left != HardwareDetails::default()).map(Box::new);
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::fleet::{HostSpec, HostStatus, Mac, Meta, Secret};

    fn host(online: Option<bool>, bmc: Option<&str>) -> Host {
        let mut spec = HostSpec::for_mac(Mac([2, 0, 0, 0, 0, 1]));
        spec.online = online;
        spec.bmc = bmc.map(|address| Bmc::new(address, "", Secret::default()));
        Host { metadata: Meta::named("h".parse().unwrap(), None), spec, status: HostStatus::default() }
    }

    fn at(second: i64) -> Timestamp {
        Timestamp::from_second(1_800_000_000 + second).unwrap()
    }

    #[test]
    fn only_a_write_that_changes_online_requests_a_power_change() {
        let rows = [
            (host(None, None), host(Some(true), None), None),
            (host(None, Some("a")), host(Some(true), Some("a")), Some(Power::On)),
            (host(Some(true), Some("a")), host(Some(true), Some("a")), None),
            (host(Some(true), Some("a")), host(Some(true), Some("b")), None),
            (host(Some(true), None), host(Some(true), Some("a")), Some(Power::On)),
            (host(Some(true), Some("a")), host(Some(false), Some("a")), Some(Power::Off)),
            (host(Some(true), Some("a")), host(None, Some("a")), None),
        ];
        for (before, mut after, to) in rows {
            let before = apply_spec(before, None, at(0));
            // The power change of the first write is completed.
            let before = Host { status: HostStatus { power_transition: None, ..before.status.clone() }, ..before };
            after.status = before.status.clone();
            let requested = apply_spec(after.clone(), Some(&before), at(1))
                .status
                .power_transition
                .map(|transition| transition.target);
            assert_eq!(requested, to, "{:?} -> {:?}", before.spec, after.spec);
        }
    }

    #[test]
    fn another_bmc_has_not_the_hardware_of_the_one_before() {
        let nics = r#"{"ramMebibytes": 2048, "biosVersion": "1", "nics": [{"mac": "52:54:00:00:00:01"}]}"#;
        let known: HardwareDetails = serde_json::from_str(nics).unwrap();
        let mut before = host(None, Some("a"));
        before.status.hardware = Some(Box::new(known.clone()));
        for (bmc, is_kept) in [(Some("a"), true), (Some("b"), false), (None, false)] {
            let after = Host { status: before.status.clone(), ..host(None, bmc) };
            let hardware = *apply_spec(after, Some(&before), at(1)).status.hardware.unwrap();
            assert_eq!(hardware, if is_kept { known.clone() } else { known.without_inventory() }, "{bmc:?}");
        }
        let added = Host { status: before.status.clone(), ..host(None, Some("a")) };
        let kept = apply_spec(added, Some(&host(None, None)), at(1)).status.hardware;
        assert_eq!(kept.as_deref(), Some(&known), "a host that had no BMC keeps what it reported");
    }

    #[test]
    fn a_bmc_whose_console_is_wanted_is_the_same_bmc() {
        let (_, before) = after_failure(TransitionState::Failed, "Refused", 1000);
        let mut after = before.clone();
        after.spec.bmc.as_mut().unwrap().console = true;
        after.status.power = Some(Power::On);
        let applied = apply_spec(after.clone(), Some(&before), at(5));
        assert_eq!(applied.status, after.status, "neither the power nor a request changes");
        let bmc = after.spec.bmc.unwrap();
        assert!(bmc.same_access(before.spec.bmc.as_ref().unwrap()));
        assert!(!bmc.same_access(&Bmc { username: "other".to_owned(), ..bmc.clone() }));
        assert!(!bmc.same_access(&Bmc { disable_certificate_verification: true, ..bmc.clone() }));
    }

    #[test]
    fn a_new_bmc_has_an_unknown_state_and_no_bmc_has_none() {
        let mut first = apply_spec(host(None, Some("a")), None, at(0));
        assert_eq!(first.status.power, Some(Power::Unknown));
        first.status.power = Some(Power::On);
        let mut same = host(None, Some("a"));
        same.status = first.status.clone();
        assert_eq!(apply_spec(same, Some(&first), at(1)).status.power, Some(Power::On));
        for (bmc, power) in [(Some("b"), Some(Power::Unknown)), (None, None)] {
            let mut other = host(None, bmc);
            other.status = first.status.clone();
            assert_eq!(apply_spec(other, Some(&first), at(1)).status.power, power, "{bmc:?}");
        }
    }

    #[test]
    fn a_power_change_is_given_up_in_time() {
        let transition = PowerTransition::new(PowerOperation::On, at(0));
        assert_eq!(transition.time_left(at(-5)), Some(PowerTransition::TIMEOUT));
        assert_eq!(transition.time_left(at(10)), Some(PowerTransition::TIMEOUT - Duration::from_secs(10)));
        assert_eq!(transition.time_left(at(600)), None);
    }

    fn policy(power_on: bool) -> InstallPolicy {
        let completion = super::super::lifecycle::Completion::BootComplete;
        InstallPolicy { completion, timeout: Duration::from_secs(3600), max_boots: 3, power_on }
    }

    #[test]
    fn an_assignment_switches_on_what_is_to_be_on() {
        for (online, power_on, power, is_switched) in [
            (Some(true), false, Power::Off, true),
            (Some(true), false, Power::Unknown, true),
            (Some(true), false, Power::On, false),
            (Some(false), true, Power::Off, false),
            (None, false, Power::Off, false),
            (None, true, Power::Off, true),
        ] {
            let mut host = host(online, Some("a"));
            host.status.power = Some(power);
            let after = on_assign(host, at(5), &policy(power_on));
            let change = after.status.power_transition.map(|change| change.operation());
            assert_eq!(change, is_switched.then_some(PowerOperation::On), "{online:?} {power_on} {power}");
        }
        assert_eq!(on_assign(host(Some(true), None), at(5), &policy(true)).status.power_transition, None, "no BMC");
    }

    /// Returns a host that is off now, whose last power change to on ended like this.
    fn after_failure(state: TransitionState, reason: &str, second: i64) -> (Host, Host) {
        let mut host = host(Some(true), Some("a"));
        let mut change = PowerTransition::new(PowerOperation::On, at(0)).ended(state, at(90));
        change.reason = reason.into();
        host.status.last_power_transition = Some(Box::new(change));
        host.status.power = Some(Power::Unknown);
        let mut now = host.clone();
        now.status.power = Some(Power::Off);
        (reconcile(now, &host, at(second)), host)
    }

    #[test]
    fn a_bmc_that_answers_again_is_asked_for_what_was_not_done() {
        use TransitionState::{Confirmed, Failed, Replaced};
        for (state, reason, second, is_repeated) in [
            (Failed, "Unreachable", 1000, true),
            (Failed, "Unreachable", 100_000, false),
            (Failed, "NotConfirmed", 1000, false),
            (Confirmed, "", 1000, false),
            (Replaced, "Unreachable", 1000, false),
        ] {
            let (after, _) = after_failure(state, reason, second);
            assert_eq!(after.status.power_transition.is_some(), is_repeated, "{state:?} {reason} {second}");
        }
    }

    #[test]
    fn a_corrected_bmc_is_asked_for_what_failed() {
        let (_, before) = after_failure(TransitionState::Failed, "Refused", 1000);
        let mut corrected = before.clone();
        if let Some(bmc) = &mut corrected.spec.bmc {
            bmc.password = Secret("better".into());
        }
        assert!(apply_spec(corrected, Some(&before), at(5)).status.power_transition.is_some());
        assert!(apply_spec(before.clone(), Some(&before), at(5)).status.power_transition.is_none());
    }

    #[test]
    fn another_request_replaces_the_one_in_progress() {
        let host = request(host(None, Some("a")), PowerOperation::Off, at(0));
        let host = request(host, PowerOperation::Restart, at(1));
        let last = host.status.last_power_transition.as_ref().unwrap();
        assert_eq!((last.state, last.request_time), (TransitionState::Replaced, at(0)));
        let mut status = host.status.clone();
        apply_progress(&mut status, Some(Box::new(last.ended(TransitionState::Confirmed, at(2)))));
        assert_eq!(status, host.status, "an answer to the earlier request");
    }
}
