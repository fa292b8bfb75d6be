//! Power changes that a write of `spec.online` requests.

use jiff::Timestamp;

use super::{Bmc, Host, Power, PowerTransition};

/// Applies a new spec to the power part of the host's status.
///
/// Only a write that sets or changes `online` requests a power change, or a write that adds the BMC while `online` is
/// set already. Neither a restart of this server nor a person at the power button changes `online`.
pub fn apply_spec(mut host: Host, before: Option<&Host>, at: Timestamp) -> Host {
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
    let requested = before.and_then(|before| before.spec.online);
    match host.spec.online {
        Some(on) if had.is_none() || requested != Some(on) => {
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
    use std::time::Duration;

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
        let transition = PowerTransition { target: Power::On, request_time: at(0) };
        assert_eq!(transition.time_left(at(-5)), Some(PowerTransition::TIMEOUT));
        assert_eq!(transition.time_left(at(10)), Some(PowerTransition::TIMEOUT - Duration::from_secs(10)));
        assert_eq!(transition.time_left(at(600)), None);
    }
}
