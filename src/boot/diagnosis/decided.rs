//! Whether a diagnosis is of the time before the present decision for a host.

use jiff::{SignedDuration, Timestamp};

use crate::fleet::{Host, Phase};

/// Time by which the decision for a host must be later than the machine's last step to be another one. A decision that the
/// step itself caused is recorded a little after it.
const DECISION_DELAY: SignedDuration = SignedDuration::from_secs(2);

/// Returns whether an operator has assigned, held or released a host since the last step of its machine. What the machine
/// showed before says nothing of that decision.
pub fn is_decided_since(host: &Host, last: Timestamp) -> bool {
    let is_decision = matches!(host.status.phase, Phase::Assigned | Phase::Held | Phase::LocalBoot);
    let is_later = |at: Timestamp| at.duration_since(last) > DECISION_DELAY;
    is_decision && host.status.phase_transition_time.is_some_and(is_later)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::fleet::{HostSpec, HostStatus, Mac, Meta};

    #[test]
    fn a_decision_after_the_last_step_takes_the_diagnosis_back() {
        let decided: Timestamp = "2026-11-29T10:00:00Z".parse().unwrap();
        let mac = Mac([2, 0, 0, 0, 0, 1]);
        let mut host = Host {
            metadata: Meta::named(mac.dashed().parse().unwrap(), None),
            spec: HostSpec::for_mac(mac),
            status: HostStatus::default(),
        };
        host.status.phase_transition_time = Some(decided);
        for (phase, seconds_before, expected) in [
            (Phase::Held, 30, true),
            (Phase::LocalBoot, 3, true),
            (Phase::Assigned, 3, true),
            // The step itself was the reason.
            (Phase::Held, 1, false),
            // The machine was seen since.
            (Phase::Held, -5, false),
            // The machine made the transition.
            (Phase::Offered, 30, false),
            (Phase::Installing, 30, false),
        ] {
            host.status.phase = phase;
            let last = decided - SignedDuration::from_secs(seconds_before);
            assert_eq!(is_decided_since(&host, last), expected, "{phase} {seconds_before}");
        }
    }
}
