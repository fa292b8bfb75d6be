use std::fmt;
use std::time::Duration;

use jiff::Timestamp;
use serde::{Deserialize, Serialize};

use super::{Bmc, Host};

/// Says whether a machine runs, by its controller's word.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Power {
    On,
    Off,
    /// Was not asked yet, or does not answer.
    Unknown,
}

impl Power {
    /// Lists all of them.
    pub const ALL: [Self; 3] = [Self::On, Self::Off, Self::Unknown];

    /// Gives the word for it in the API.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::On => "on",
            Self::Off => "off",
            Self::Unknown => "unknown",
        }
    }
}

impl fmt::Display for Power {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        out.write_str(self.as_str())
    }
}

/// Is a switching that a write of `spec.online` asked for, and that is not done yet.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct PowerTransition {
    pub target: Power,
    pub request_time: Timestamp,
}

impl PowerTransition {
    /// Is how long a switching is tried for. After a longer stop of ours it is void: the wish is an old one then, and
    /// whoever stood before the machine meanwhile knew better.
    pub const TIMEOUT: Duration = Duration::from_secs(600);

    /// Says how long it is still to be tried for; nothing once that is over.
    pub fn left(&self, now: Timestamp) -> Option<Duration> {
        let waited = now.duration_since(self.request_time);
        match waited.is_positive() {
            true => Self::TIMEOUT.checked_sub(waited.unsigned_abs()).filter(|left| !left.is_zero()),
            false => Some(Self::TIMEOUT),
        }
    }
}

/// Says why a machine's power is not known. Never carries a password.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct PowerError {
    /// Is one word for programs.
    pub reason: String,
    pub message: String,
}

/// Gives a host's status what its new spec means for its power.
///
/// Only a write that sets or changes `online` asks for a switching (or one that first gives the controller, where
/// `online` stands already): what a restart of ours or a person's finger does is no wish of the spec's.
pub fn settle(mut host: Host, before: Option<&Host>, at: Timestamp) -> Host {
    let had: Option<&Bmc> = before.and_then(|before| before.spec.bmc.as_ref());
    let status = &mut host.status;
    let Some(bmc) = &host.spec.bmc else {
        (status.power, status.power_transition_time, status.power_error, status.power_transition) =
            (None, None, None, None);
        return host;
    };
    if had != Some(bmc) || status.power.is_none() {
        (status.power, status.power_transition_time, status.power_error) = (Some(Power::Unknown), Some(at), None);
    }
    let wished = before.and_then(|before| before.spec.online);
    match host.spec.online {
        Some(on) if had.is_none() || wished != Some(on) => {
            let to = if on { Power::On } else { Power::Off };
            status.power_transition = Some(Box::new(PowerTransition { target: to, request_time: at }));
        }
        Some(_) => {}
        None => status.power_transition = None,
    }
    host
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::fleet::{HostSpec, HostStatus, Mac, Meta, Secret};

    fn host(online: Option<bool>, bmc: Option<&str>) -> Host {
        let mut spec = HostSpec::for_mac(Mac([2, 0, 0, 0, 0, 1]));
        spec.online = online;
        spec.bmc = bmc.map(|address| Bmc {
            address: address.into(),
            username: String::new(),
            password: Secret::default(),
            disable_certificate_verification: false,
        });
        Host { metadata: Meta::named("h".parse().unwrap(), None), spec, status: HostStatus::default() }
    }

    fn at(second: i64) -> Timestamp {
        Timestamp::from_second(1_800_000_000 + second).unwrap()
    }

    #[test]
    fn only_a_write_that_changes_the_wish_switches() {
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
            let before = settle(before, None, at(0));
            // The switching of the first write is done.
            let before = Host { status: HostStatus { power_transition: None, ..before.status.clone() }, ..before };
            after.status = before.status.clone();
            let told =
                settle(after.clone(), Some(&before), at(1)).status.power_transition.map(|switching| switching.target);
            assert_eq!(told, to, "{:?} -> {:?}", before.spec, after.spec);
        }
    }

    #[test]
    fn another_controller_knows_nothing_yet_and_none_is_asked_no_more() {
        let mut first = settle(host(None, Some("a")), None, at(0));
        assert_eq!(first.status.power, Some(Power::Unknown));
        first.status.power = Some(Power::On);
        let mut same = host(None, Some("a"));
        same.status = first.status.clone();
        assert_eq!(settle(same, Some(&first), at(1)).status.power, Some(Power::On));
        for (bmc, power) in [(Some("b"), Some(Power::Unknown)), (None, None)] {
            let mut other = host(None, bmc);
            other.status = first.status.clone();
            assert_eq!(settle(other, Some(&first), at(1)).status.power, power, "{bmc:?}");
        }
    }

    #[test]
    fn an_old_wish_is_void() {
        let switching = PowerTransition { target: Power::On, request_time: at(0) };
        assert_eq!(switching.left(at(-5)), Some(PowerTransition::TIMEOUT));
        assert_eq!(switching.left(at(10)), Some(PowerTransition::TIMEOUT - Duration::from_secs(10)));
        assert_eq!(switching.left(at(600)), None);
    }
}
