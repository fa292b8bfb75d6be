//! Machines without a BMC that are to be woken, in the order of their start times. Pure: time is an argument.

use std::collections::{BTreeSet, HashMap};
use std::time::{Duration, Instant};

use jiff::Timestamp;

use crate::fleet::{Host, Mac, PowerTransition};

use super::poll_time::PollTime;

/// The requests to wake machines.
#[derive(Debug, Default)]
pub struct WakeQueue {
    requests: HashMap<Mac, WakeRequest>,
    due: BTreeSet<(Instant, Mac)>,
}

/// A request to wake a machine.
#[derive(Debug)]
struct WakeRequest {
    transition: PowerTransition,
    /// Time at which it is carried out; `None` afterwards.
    due: Option<Instant>,
}

impl WakeQueue {
    /// Follows the power change of a host without a BMC. The same request is carried out once.
    pub fn follow(&mut self, host: &Host, time: PollTime) {
        let mac = host.spec.boot_mac_address;
        let Some(transition) = host.status.power_transition.as_deref() else { return self.forget(mac) };
        let identity = |of: &PowerTransition| -> (Timestamp, Option<Timestamp>) { (of.request_time, of.start_time) };
        if self.requests.get(&mac).map(|known| identity(&known.transition)) == Some(identity(transition)) {
            return;
        }
        self.forget(mac);
        let wait = transition.start_time.map(|start| start.duration_since(time.at));
        let due = time.now + wait.and_then(|wait| Duration::try_from(wait).ok()).unwrap_or_default();
        self.requests.insert(mac, WakeRequest { transition: transition.clone(), due: Some(due) });
        self.due.insert((due, mac));
    }

    /// Drops the request of a machine.
    pub fn forget(&mut self, mac: Mac) {
        if let Some(due) = self.requests.remove(&mac).and_then(|request| request.due) {
            self.due.remove(&(due, mac));
        }
    }

    /// Returns the first machine that is to be woken now, with the request.
    pub fn next(&mut self, now: Instant) -> Option<(Mac, PowerTransition)> {
        let (due, mac) = self.due.first().copied().filter(|(due, _)| *due <= now)?;
        self.due.remove(&(due, mac));
        let request = self.requests.get_mut(&mac)?;
        request.due = None;
        Some((mac, request.transition.clone()))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::fleet::{HostSpec, HostStatus, Meta, PowerOperation};

    fn host(number: u8, start: Option<i64>, requested: i64) -> Host {
        let at = |second| Timestamp::from_second(second).unwrap();
        let mut change = PowerTransition::new(PowerOperation::On, at(requested));
        change.start_time = start.map(at);
        let status = HostStatus { power_transition: Some(Box::new(change)), ..HostStatus::default() };
        let spec = HostSpec::for_mac(Mac([2, 0, 0, 0, 0, number]));
        Host { metadata: Meta::named("h".parse().unwrap(), None), spec, status }
    }

    #[test]
    fn each_request_is_carried_out_once_at_its_start_time() {
        let begin = Instant::now();
        let time = PollTime { now: begin, at: Timestamp::from_second(100).unwrap(), random: 0 };
        let mut queue = WakeQueue::default();
        for (number, start) in [(1, Some(104)), (2, None), (3, Some(102)), (4, Some(90))] {
            queue.follow(&host(number, start, 100), time);
        }
        let woken = |queue: &mut WakeQueue, second| {
            let now = begin + Duration::from_secs(second);
            std::iter::from_fn(|| queue.next(now)).map(|(mac, _)| mac.0[5]).collect::<Vec<_>>()
        };
        assert_eq!(woken(&mut queue, 0), [2, 4]);
        queue.follow(&host(2, None, 100), time);
        assert!(woken(&mut queue, 1).is_empty(), "the host changed otherwise");
        queue.follow(&host(2, None, 101), time);
        assert_eq!(woken(&mut queue, 3), [2, 3], "another request");
        queue.forget(Mac([2, 0, 0, 0, 0, 1]));
        let mut done = host(2, None, 101);
        done.status.power_transition = None;
        queue.follow(&done, time);
        assert!(woken(&mut queue, 9).is_empty());
        assert!(queue.due.is_empty() && queue.requests.len() == 2, "{queue:?}");
    }
}
