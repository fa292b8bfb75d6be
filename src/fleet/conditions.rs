//! The conditions of a host, for `kubectl wait`. Derived from the status, never set.

use jiff::Timestamp;
use schemars::JsonSchema;
use serde::Serialize;

use super::transition_times::ConditionType;
use super::{BootRisk, Host, HostStatus, Phase, Power, TransitionState, boot_risk};

/// A condition of a host (meta.k8s.io/v1 Condition).
#[derive(Debug, Clone, PartialEq, Eq, Serialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct Condition {
    /// The type.
    pub r#type: ConditionType,
    /// Whether the condition holds.
    pub status: ConditionStatus,
    /// The reason, in one word.
    pub reason: String,
    /// The reason, for people.
    pub message: String,
    /// Time of the last change of the status.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub last_transition_time: Option<Timestamp>,
}

/// The status of a condition.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, JsonSchema)]
pub enum ConditionStatus {
    /// The condition holds.
    True,
    /// The condition does not hold.
    False,
    /// Nothing is known.
    Unknown,
}

impl ConditionStatus {
    fn of(holds: bool) -> Self {
        if holds { Self::True } else { Self::False }
    }
}

/// Returns the conditions of a host.
pub fn of(host: &Host) -> Vec<Condition> {
    ConditionType::ALL.into_iter().filter_map(|kind| condition(host, kind)).collect()
}

/// Records which conditions a change of the host has changed.
pub fn record_transitions(before: &Host, after: &mut Host, at: Timestamp) {
    let status = |host: &Host, kind| condition(host, kind).map(|condition| condition.status);
    for kind in ConditionType::ALL {
        if status(before, kind) != status(after, kind) {
            *after.status.transition_times.get_or_insert_default().of(kind) = Some(at);
        }
    }
}

fn condition(host: &Host, kind: ConditionType) -> Option<Condition> {
    let status = &host.status;
    let (holds, reason, message) = match kind {
        ConditionType::Installed => {
            (ConditionStatus::of(status.phase == Phase::Installed), status.phase.to_string(), status.message.clone())
        }
        ConditionType::ConfigDelivered => {
            host.spec.boot_config_ref.as_ref()?;
            let fetched = status.install.as_ref().is_some_and(|install| install.config_fetch_time.is_some());
            (ConditionStatus::of(fetched), if fetched { "Fetched" } else { "NotFetched" }.to_owned(), String::new())
        }
        ConditionType::ConfigRendered => {
            let rendered = status.rendered_template.as_ref()?;
            let message = match &rendered.error {
                Some(error) => error.clone(),
                None => format!("template {} version {}", rendered.template, rendered.version),
            };
            let reason = if rendered.error.is_none() { "Rendered" } else { "RenderFailed" };
            (ConditionStatus::of(rendered.error.is_none()), reason.to_owned(), message)
        }
        ConditionType::Stalled => match &status.stall {
            Some(stall) => {
                let message = format!("{}. To do: {}", stall.message, stall.remedy);
                (ConditionStatus::True, stall.reason.condition_reason(), message)
            }
            // What strangers do is not written to their objects.
            None if status.is_first_seen_only() => {
                let message = "nobody declared the host: `bootlatch host why` has the diagnosis, if there is one";
                (ConditionStatus::Unknown, "NotDeclared".to_owned(), message.to_owned())
            }
            None => (ConditionStatus::False, "BootGoesOn".to_owned(), String::new()),
        },
        ConditionType::PowerKnown => {
            host.spec.bmc.as_ref()?;
            match (status.power.unwrap_or(Power::Unknown), &status.power_error) {
                (Power::On, _) => (ConditionStatus::True, "On".to_owned(), String::new()),
                (Power::Off, _) => (ConditionStatus::True, "Off".to_owned(), String::new()),
                (Power::Unknown, None) => (ConditionStatus::Unknown, "NotAsked".to_owned(), String::new()),
                (Power::Unknown, Some(fault)) => (ConditionStatus::False, fault.reason.clone(), fault.message.clone()),
            }
        }
        ConditionType::PowerChanged => power_change(status)?,
        ConditionType::BootReady => {
            host.spec.image.image()?;
            let (holds, reason) = readiness(status.boot_risks.as_deref());
            (holds, reason, status.warnings.join("; "))
        }
    };
    let changed = status.transition_times.as_ref().and_then(|times| *times.clone().of(kind));
    let last_transition_time = changed.or(host.metadata.creation_timestamp);
    Some(Condition { r#type: kind, status: holds, reason, message, last_transition_time })
}

/// Returns the status, the reason and the message of `PowerChanged`; `None` if there is no power change.
fn power_change(status: &HostStatus) -> Option<(ConditionStatus, String, String)> {
    if let Some(change) = &status.power_transition {
        let reason = if change.state == TransitionState::Accepted { "Accepted" } else { "Asked" };
        return Some((ConditionStatus::Unknown, reason.to_owned(), change.message.clone()));
    }
    let change = status.last_power_transition.as_ref()?;
    let is_met = status.power == Some(change.target);
    Some(match change.state {
        TransitionState::Failed if !is_met => (ConditionStatus::False, change.reason.clone(), change.message.clone()),
        TransitionState::Failed => (ConditionStatus::True, "MadeUpFor".to_owned(), change.message.clone()),
        TransitionState::Sent => {
            let message = "Wake-on-LAN packets were sent; nothing confirms that they woke the machine";
            (ConditionStatus::Unknown, "Sent".to_owned(), message.to_owned())
        }
        TransitionState::Replaced => (ConditionStatus::Unknown, "Replaced".to_owned(), String::new()),
        TransitionState::Asked | TransitionState::Accepted | TransitionState::Confirmed => {
            (ConditionStatus::True, "Confirmed".to_owned(), String::new())
        }
    })
}

/// Returns the status and the reason of `BootReady`.
fn readiness(risks: Option<&[BootRisk]>) -> (ConditionStatus, String) {
    let Some(risks) = risks else { return (ConditionStatus::Unknown, "NotChecked".to_owned()) };
    let risk = boot_risk::decisive(risks);
    let holds = match risk.map(BootRisk::boot_works) {
        None | Some(Some(true)) => ConditionStatus::True,
        Some(Some(false)) => ConditionStatus::False,
        Some(None) => ConditionStatus::Unknown,
    };
    (holds, risk.map_or_else(|| "Ready".to_owned(), BootRisk::condition_reason))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::fleet::{BootStage, Certainty, HostSpec, HostStatus, Install, Mac, Meta, Stall, StallReason};

    fn at(second: i64) -> Timestamp {
        Timestamp::from_second(second).unwrap()
    }

    fn host(phase: Phase) -> Host {
        let mut metadata = Meta::named("h".parse().unwrap(), None);
        metadata.creation_timestamp = Some(at(0));
        let status = HostStatus { phase, ..HostStatus::default() };
        Host { metadata, spec: HostSpec::for_mac(Mac([2, 0, 0, 0, 0, 1])), status }
    }

    fn said(host: &Host) -> Vec<(ConditionType, ConditionStatus, String, Option<Timestamp>)> {
        let conditions = of(host).into_iter().filter(|one| one.r#type != ConditionType::Stalled);
        conditions.map(|one| (one.r#type, one.status, one.reason, one.last_transition_time)).collect()
    }

    #[test]
    fn a_transition_time_changes_with_the_status_and_not_with_each_phase() {
        let mut was = host(Phase::Assigned);
        for (second, phase, truth, since) in [
            (5, Phase::Offered, ConditionStatus::False, 0),
            (6, Phase::Installed, ConditionStatus::True, 6),
            (7, Phase::Installed, ConditionStatus::True, 6),
            (8, Phase::Assigned, ConditionStatus::False, 8),
            (9, Phase::Offered, ConditionStatus::False, 8),
        ] {
            let mut is = was.clone();
            is.status.phase = phase;
            record_transitions(&was, &mut is, at(second));
            assert_eq!(said(&is), [(ConditionType::Installed, truth, phase.to_string(), Some(at(since)))]);
            was = is;
        }
    }

    #[test]
    fn a_stall_has_its_reason_as_a_word_and_its_remedy_in_the_message() {
        let stalled = |host: &Host| of(host).into_iter().find(|one| one.r#type == ConditionType::Stalled).unwrap();
        let mut one = host(Phase::Assigned);
        assert_eq!((stalled(&one).status, stalled(&one).reason.as_str()), (ConditionStatus::False, "BootGoesOn"));
        let (entry, time) = (crate::fleet::EntryPoint::Interface("eth0".into()), at(0));
        one.status.first_seen = Some(Box::new(crate::fleet::FirstSeen { entry, time, line: None }));
        assert_eq!((stalled(&one).status, stalled(&one).reason.as_str()), (ConditionStatus::Unknown, "NotDeclared"));
        let (message, remedy) = ("It asks".to_owned(), "approve it".to_owned());
        let (stage, reason, certainty) = (BootStage::Dhcp, StallReason::NoBootProgram, Certainty::Certain);
        one.status.stall = Some(Box::new(Stall { stage, reason, certainty, message, remedy, since: at(0) }));
        let condition = stalled(&one);
        assert_eq!((condition.status, condition.reason.as_str()), (ConditionStatus::True, "NoBootProgram"));
        assert_eq!(condition.message, "It asks. To do: approve it");
    }

    #[test]
    fn a_condition_is_absent_where_the_host_has_no_such_part() {
        let mut one = host(Phase::LocalBoot);
        assert_eq!(said(&one).len(), 1);
        one.spec.boot_config_ref = Some("c".parse().unwrap());
        assert_eq!(
            said(&one)[1],
            (ConditionType::ConfigDelivered, ConditionStatus::False, "NotFetched".into(), Some(at(0)))
        );
        one.status.install = Some(Install { config_fetch_time: Some(at(1)), ..Install::default() });
        assert_eq!(said(&one)[1].1, ConditionStatus::True);
    }

    #[test]
    fn a_boot_is_ready_until_something_is_known_against_it() {
        use BootRisk::{LoaderInstead, NoLoader, SecondInterface};
        let mut one = host(Phase::Assigned);
        one.status.boot_risks = Some(vec![NoLoader]);
        assert_eq!(said(&one).len(), 1, "it boots no image");
        one.spec.image = "live".parse().unwrap();
        for (risks, expected) in [
            (None, (ConditionStatus::Unknown, "NotChecked")),
            (Some(vec![]), (ConditionStatus::True, "Ready")),
            (Some(vec![LoaderInstead]), (ConditionStatus::True, "Ready")),
            (Some(vec![SecondInterface]), (ConditionStatus::Unknown, "SecondInterface")),
            (Some(vec![SecondInterface, NoLoader]), (ConditionStatus::False, "NoLoader")),
        ] {
            one.status.boot_risks = risks.clone();
            let found = said(&one).into_iter().find(|(kind, ..)| *kind == ConditionType::BootReady);
            let found = found.map(|(_, status, reason, _)| (status, reason));
            assert_eq!(found, Some((expected.0, expected.1.to_owned())), "{risks:?}");
        }
    }
}
