//! What is known of a host, in the form that Kubernetes' clients wait for. Derived, never set by itself.

use jiff::Timestamp;
use serde::{Deserialize, Serialize};

use super::{Host, Phase, Power};

/// Is one thing that holds of a host, or does not (meta.k8s.io/v1 Condition).
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Condition {
    pub r#type: ConditionType,
    pub status: ConditionStatus,
    pub reason: String,
    pub message: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub last_transition_time: Option<Timestamp>,
}

/// Says what a condition is about: Kubernetes' `type`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
pub enum ConditionType {
    /// The machine said that its install is done, and no other was asked for since.
    Installed,
    /// Its installer was given its config in this install. Absent where it has none.
    ConfigDelivered,
    /// Its controller says whether it runs. Absent where it has none.
    PowerKnown,
}

impl ConditionType {
    /// Lists all of them, in the order that they are shown in.
    pub const ALL: [Self; 3] = [Self::Installed, Self::ConfigDelivered, Self::PowerKnown];
}

/// Says whether a condition holds: Kubernetes' `status`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
pub enum ConditionStatus {
    True,
    False,
    Unknown,
}

impl ConditionStatus {
    /// Lists all of them.
    pub const ALL: [Self; 3] = [Self::True, Self::False, Self::Unknown];

    fn of(holds: bool) -> Self {
        if holds { Self::True } else { Self::False }
    }
}

/// Holds when each condition last turned; since the host was made where it never did.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct TransitionTimes {
    #[serde(skip_serializing_if = "Option::is_none")]
    installed: Option<Timestamp>,
    #[serde(skip_serializing_if = "Option::is_none")]
    config_delivered: Option<Timestamp>,
    #[serde(skip_serializing_if = "Option::is_none")]
    power_known: Option<Timestamp>,
}

impl TransitionTimes {
    fn of(&mut self, topic: ConditionType) -> &mut Option<Timestamp> {
        match topic {
            ConditionType::Installed => &mut self.installed,
            ConditionType::ConfigDelivered => &mut self.config_delivered,
            ConditionType::PowerKnown => &mut self.power_known,
        }
    }
}

/// Lists what is known of a host.
pub fn of(host: &Host) -> Vec<Condition> {
    ConditionType::ALL.into_iter().filter_map(|topic| condition(host, topic)).collect()
}

/// Notes which conditions a change has turned.
pub fn record_transitions(before: &Host, after: &mut Host, at: Timestamp) {
    let truth = |host: &Host, topic| condition(host, topic).map(|condition| condition.status);
    for topic in ConditionType::ALL {
        if truth(before, topic) != truth(after, topic) {
            *after.status.transition_times.get_or_insert_default().of(topic) = Some(at);
        }
    }
}

fn condition(host: &Host, topic: ConditionType) -> Option<Condition> {
    let status = &host.status;
    let (truth, reason, message) = match topic {
        ConditionType::Installed => {
            (ConditionStatus::of(status.phase == Phase::Installed), status.phase.to_string(), status.message.clone())
        }
        ConditionType::ConfigDelivered => {
            host.spec.boot_config_ref.as_ref()?;
            let fetched = status.install.as_ref().is_some_and(|install| install.config_fetch_time.is_some());
            (ConditionStatus::of(fetched), if fetched { "Fetched" } else { "NotFetched" }.to_owned(), String::new())
        }
        ConditionType::PowerKnown => {
            host.spec.bmc.as_ref()?;
            match (status.power.unwrap_or(Power::Unknown), &status.power_error) {
                (Power::On, _) => (ConditionStatus::True, "On".to_owned(), String::new()),
                (Power::Off, _) => (ConditionStatus::True, "Off".to_owned(), String::new()),
                (Power::Unknown, None) => (ConditionStatus::Unknown, "NotAsked".to_owned(), String::new()),
                (Power::Unknown, Some(fault)) => (ConditionStatus::False, fault.reason.clone(), fault.message.clone()),
            }
        }
    };
    let turned = status.transition_times.as_ref().and_then(|turns| *turns.clone().of(topic));
    let last_transition_time = turned.or(host.metadata.creation_timestamp);
    Some(Condition { r#type: topic, status: truth, reason, message, last_transition_time })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::fleet::{HostSpec, HostStatus, Install, Mac, Meta};

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
        of(host).into_iter().map(|one| (one.r#type, one.status, one.reason, one.last_transition_time)).collect()
    }

    #[test]
    fn a_condition_turns_when_its_truth_does_and_not_with_each_phase() {
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
    fn what_a_host_does_not_have_is_not_told_of() {
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
}
