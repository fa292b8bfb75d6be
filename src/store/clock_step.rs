//! The effect of a step of the wall clock on the stored times. Pure.

use std::sync::Arc;

use jiff::{SignedDuration, Timestamp};

use crate::event::Event;
use crate::fleet::{Host, Lease, Object};

use super::apply::{Applied, write};
use super::snapshot::Snapshot;

/// Maximum distance of a time that moves with the clock from the time before the step. What is further off was stored
/// by another clock, or no decision depends on it: tokens and leases last hours.
const MAX_DISTANCE: SignedDuration = SignedDuration::from_hours(7 * 24);

/// Moves the stored times that decisions depend on by a step of the clock, so that tokens, config windows and leases last
/// as long as without it. `before` is the time that the clock would show without the step. The first offer of an install
/// stays: its token names it. Returns the changed hosts and leases.
pub fn apply_clock_step(state: &mut Snapshot, step: SignedDuration, before: Timestamp) -> (Vec<Applied>, Vec<Lease>) {
    let is_recent = |at: Timestamp| at <= before && before.duration_since(at) <= MAX_DISTANCE;
    let hosts: Vec<Arc<Host>> =
        state.whole_hosts().filter(|host| host.status.last_boot_time.is_some_and(is_recent)).cloned().collect();
    let follow = |host: Arc<Host>| {
        let mut after = Host::clone(&host);
        after.status.last_boot_time = host.status.last_boot_time.map(|at| moved(at, step));
        let events = match host.status.phase.is_under_way() {
            true => vec![(host.spec.boot_mac_address, Event::ClockStepped { seconds: step.as_secs() })],
            false => Vec::new(),
        };
        write(state, Object::Host(Arc::new(after)), Some(Object::Host(host)), events, before)
    };
    let moved_hosts = hosts.into_iter().map(follow).collect();
    let is_running = |lease: &Lease| lease.until > before && lease.until.duration_since(before) <= MAX_DISTANCE;
    let leases = state.leases().filter(|lease| is_running(lease));
    let moved_leases = leases.map(|lease| Lease { until: moved(lease.until, step), ..Lease::clone(lease) }).collect();
    (moved_hosts, moved_leases)
}

/// Returns a time, moved.
fn moved(at: Timestamp, step: SignedDuration) -> Timestamp {
    at.saturating_add(step).unwrap_or(at)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::fleet::{HostSpec, HostStatus, LeaseState, Mac, Meta, Phase};

    const HOUR: i64 = 3600;
    const DAY: i64 = 24 * HOUR;

    fn at(second: i64) -> Timestamp {
        Timestamp::from_second(1_800_000_000 + second).unwrap()
    }

    /// Returns a state with a host that was served its script, and with a lease, at seconds from now.
    fn state(phase: Phase, served: i64, until: i64) -> Snapshot {
        let mut state = Snapshot::default();
        let mac = Mac([2, 0, 0, 0, 0, 1]);
        let status = HostStatus { phase, last_boot_time: Some(at(served)), ..HostStatus::default() };
        let metadata = Meta::named("h".parse().unwrap(), None);
        state.put(Object::Host(Arc::new(Host { metadata, spec: HostSpec::for_mac(mac), status })));
        let address = [10, 0, 0, 1].into();
        let held = LeaseState::Bound;
        state.put_lease(Lease { address, mac, client: None, hostname: None, held, until: at(until) });
        state
    }

    #[test]
    fn recent_times_move_with_the_clock() {
        // (served, until) in seconds from the time before the step; whether each moves.
        for (served, until, host_moves, lease_moves) in [
            (0, 1, true, true),
            (-7 * DAY, 7 * DAY, true, true),
            (-7 * DAY - 1, 7 * DAY + 1, false, false),
            (1, 0, false, false),
            (330 * DAY, 330 * DAY, false, false),
        ] {
            for step in [HOUR, -HOUR, 330 * DAY] {
                let mut state = state(Phase::Installing, served, until);
                let (hosts, leases) = apply_clock_step(&mut state, SignedDuration::from_secs(step), at(0));
                assert_eq!((hosts.len(), leases.len()), (host_moves.into(), lease_moves.into()), "{served} {until}");
                let host = state.hosts().next().unwrap();
                let expected = if host_moves { served + step } else { served };
                assert_eq!(host.status.last_boot_time, Some(at(expected)), "{served} {step}");
                assert!(leases.iter().all(|lease| lease.until == at(until + step)), "{until} {step}");
            }
        }
    }

    #[test]
    fn a_step_is_an_event_of_installs_under_way() {
        for phase in Phase::ALL {
            let (hosts, _) = apply_clock_step(&mut state(phase, 0, 1), SignedDuration::from_secs(-HOUR), at(0));
            let events: Vec<_> = hosts.iter().flat_map(|host| &host.events).map(|(_, event)| event.clone()).collect();
            let expected = if phase.is_under_way() { vec![Event::ClockStepped { seconds: -HOUR }] } else { Vec::new() };
            assert_eq!(events, expected, "{phase}");
        }
    }
}
