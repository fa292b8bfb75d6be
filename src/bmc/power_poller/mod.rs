//! Schedule of power polls, and the steps and retries of a power transition. Pure: time and randomness are arguments.
//!
//! A BMC that answers is polled about once a minute. A BMC that does not answer is polled with an exponential
//! back-off. A machine is switched only by a `fleet::PowerTransition`, which a change of `spec.online` creates. A
//! change of the power state by other means (power button, installer) is recorded and not undone.

use std::collections::{BTreeSet, HashMap};
use std::time::{Duration, Instant};

use jiff::Timestamp;

use crate::event::Event;
use crate::event::power_report::PowerReport;
use crate::fleet::{Bmc, Host, Mac, Power, PowerError, PowerTransition};

use super::{BmcError, Reset};

/// Interval between polls of a BMC; the same as in OpenStack Ironic.
pub const POLL_INTERVAL: Duration = Duration::from_secs(60);
/// Maximum random deviation from the interval, in percent, so that BMCs are not polled at the same time.
const MAX_JITTER_PERCENT: u32 = 20;
/// Maximum interval between polls of a BMC that does not answer.
const MAX_BACK_OFF: Duration = Duration::from_secs(15 * 60);
/// Maximum number of consecutive failures. After them, the power state becomes unknown.
const MAX_FAILURES: u32 = 2;
/// Interval between polls during a power transition.
const TRANSITION_POLL_INTERVAL: Duration = Duration::from_secs(5);
/// Time for a graceful shutdown before the power is cut; the same as in the Metal3 operator.
const SHUTDOWN_TIMEOUT: Duration = Duration::from_secs(180);

/// Next request to a BMC.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum PowerTask {
    /// Read the power state.
    Poll,
    /// Perform a power operation.
    Reset(Reset),
}

/// The current time and a random number for jitter.
#[derive(Debug, Clone, Copy)]
pub struct PollTime {
    /// Monotonic time.
    pub now: Instant,
    /// Wall-clock time.
    pub at: Timestamp,
    /// Random number.
    pub random: u32,
}

impl PollTime {
    /// Returns a random time within the next interval, to spread the polls at start.
    fn spread_start(&self) -> Instant {
        self.now + POLL_INTERVAL * (self.random % 1000) / 1000
    }

    /// Returns the time of the next poll after a number of consecutive failures.
    fn next_poll(&self, failures: u32) -> Instant {
        let plain = POLL_INTERVAL.saturating_mul(1 << failures.saturating_sub(1).min(8)).min(MAX_BACK_OFF);
        self.now + plain * (100 - MAX_JITTER_PERCENT + self.random % (2 * MAX_JITTER_PERCENT + 1)) / 100
    }
}

/// Schedule of the polls of all BMCs.
#[derive(Debug, Default)]
pub struct PowerPoller {
    states: HashMap<Mac, PollState>,
    /// Machines with a power transition, which come first.
    urgent: BTreeSet<(Instant, Mac)>,
    /// All other machines.
    due: BTreeSet<(Instant, Mac)>,
}

/// Polling state of one machine.
#[derive(Debug)]
struct PollState {
    bmc: Bmc,
    /// Time of the next request; `None` while a request is in progress.
    due: Option<Instant>,
    task: PowerTask,
    failures: u32,
    /// Power state in the store.
    power: Power,
    error_is_known: bool,
    request: Option<PowerRequest>,
}

/// A power transition in progress.
#[derive(Debug, Clone, Copy)]
struct PowerRequest {
    target: Power,
    requested_at: Timestamp,
    deadline: Instant,
    /// Last operation that was sent, and its time.
    last_reset: Option<(Reset, Instant)>,
    failures: u32,
}

impl PowerRequest {
    fn new(transition: &PowerTransition, time: PollTime) -> Self {
        let deadline = time.now + transition.time_left(time.at).unwrap_or_default();
        let (target, requested_at) = (transition.target, transition.request_time);
        Self { target, requested_at, deadline, last_reset: None, failures: 0 }
    }

    /// Returns the operation to send now; `None` to wait.
    fn next(&self, now: Instant) -> Option<Reset> {
        match (self.target, self.last_reset) {
            (Power::On, None) => Some(Reset::On),
            (Power::Off, None) => Some(Reset::GracefulShutdown),
            (Power::Off, Some((Reset::GracefulShutdown, since))) if now >= since + SHUTDOWN_TIMEOUT => {
                Some(Reset::ForceOff)
            }
            (Power::On | Power::Off | Power::Unknown, _) => None,
        }
    }

    /// Returns the event of a transition that timed out.
    fn timeout_event(&self, reason: &str) -> Event {
        let limit = PowerTransition::TIMEOUT.as_secs();
        Event::BmcFailed { message: format!("power not {} within {limit} s: {reason}", self.target) }
    }
}

impl PowerPoller {
    /// Follows the current state of a host. `is_start` spreads the first polls of many hosts.
    pub fn follow(&mut self, host: &Host, is_start: bool, time: PollTime) {
        let (mac, status) = (host.spec.boot_mac_address, &host.status);
        let Some(bmc) = &host.spec.bmc else { return self.forget(mac) };
        let request = status.power_transition.as_deref().map(|transition| PowerRequest::new(transition, time));
        if let Some(state) = self.states.get_mut(&mac).filter(|state| state.bmc == *bmc) {
            if state.request.map(|request| request.requested_at) != request.map(|request| request.requested_at) {
                state.request = request;
                // While a request is in progress, its answer schedules the next one.
                if state.due.is_some() {
                    self.schedule(mac, time.now, PowerTask::Poll);
                }
            }
            return;
        }
        self.forget(mac);
        let error_is_known = status.power_error.is_some();
        let state = PollState {
            bmc: bmc.clone(),
            due: None,
            task: PowerTask::Poll,
            failures: if error_is_known { MAX_FAILURES } else { 0 },
            power: status.power.unwrap_or(Power::Unknown),
            error_is_known,
            request,
        };
        self.states.insert(mac, state);
        let due = if is_start && request.is_none() { time.spread_start() } else { time.now };
        self.schedule(mac, due, PowerTask::Poll);
    }

    /// Stops polling a machine.
    pub fn forget(&mut self, mac: Mac) {
        self.unschedule(mac);
        self.states.remove(&mac);
    }

    /// Stops polling the machines that are not known any more.
    pub fn retain(&mut self, known: impl Fn(Mac) -> bool) {
        let gone: Vec<Mac> = self.states.keys().copied().filter(|mac| !known(*mac)).collect();
        gone.into_iter().for_each(|mac| self.forget(mac));
    }

    /// Returns the next request that is due. Machines with a power transition come first.
    pub fn next(&mut self, now: Instant) -> Option<(Mac, Bmc, PowerTask)> {
        let is_due = |set: &BTreeSet<(Instant, Mac)>| set.first().copied().filter(|(due, _)| *due <= now);
        let (_, mac) = is_due(&self.urgent).or_else(|| is_due(&self.due))?;
        self.unschedule(mac);
        let state = self.states.get(&mac)?;
        Some((mac, state.bmc.clone(), state.task))
    }

    /// Processes the answer to a request: the power state for a poll. Returns a report if something changed.
    pub fn answered(
        &mut self,
        mac: Mac,
        bmc: &Bmc,
        task: PowerTask,
        outcome: Result<Option<Power>, BmcError>,
        time: PollTime,
    ) -> Option<PowerReport> {
        // The host may have another BMC, or may have been deleted and created, since the request.
        let state = self.states.get_mut(&mac).filter(|state| state.due.is_none() && state.bmc == *bmc)?;
        let mut report = PowerReport::new(bmc);
        let (due, next) = match (outcome, task) {
            (Ok(Some(power)), _) => state.on_power(power, &mut report, time),
            (Ok(None), PowerTask::Reset(reset)) => state.on_reset(reset, &mut report, time),
            (Ok(None), PowerTask::Poll) => (time.next_poll(0), PowerTask::Poll),
            (
                Err(BmcError::Refused { .. } | BmcError::Unsupported { .. }),
                PowerTask::Reset(Reset::GracefulShutdown),
            ) => (time.now, PowerTask::Reset(Reset::ForceOff)),
            (Err(error), task) => state.on_error(task, &error, &mut report, time),
        };
        self.schedule(mac, due, next);
        let is_news = report.power.is_some() || report.ended_transition.is_some() || !report.events.is_empty();
        is_news.then_some(report)
    }

    /// Schedules the next request to the BMC of a machine.
    fn schedule(&mut self, mac: Mac, due: Instant, task: PowerTask) {
        self.unschedule(mac);
        let Some(state) = self.states.get_mut(&mac) else { return };
        (state.due, state.task) = (Some(due), task);
        match state.request {
            Some(_) => self.urgent.insert((due, mac)),
            None => self.due.insert((due, mac)),
        };
    }

    /// Removes a machine from the schedule.
    fn unschedule(&mut self, mac: Mac) {
        if let Some(due) = self.states.get_mut(&mac).and_then(|state| state.due.take()) {
            self.urgent.remove(&(due, mac));
            self.due.remove(&(due, mac));
        }
    }
}

impl PollState {
    /// Processes a power state. Returns the next request and its time.
    fn on_power(&mut self, power: Power, report: &mut PowerReport, time: PollTime) -> (Instant, PowerTask) {
        if power != self.power || self.error_is_known {
            report.power = Some(power);
        }
        (self.power, self.failures, self.error_is_known) = (power, 0, false);
        let Some(request) = &self.request else { return (time.next_poll(0), PowerTask::Poll) };
        if request.target == power || time.now >= request.deadline {
            report.ended_transition = Some(request.requested_at);
            if request.target != power {
                report.events.push(request.timeout_event(&format!("the machine is still {power}")));
            }
            self.request = None;
            return (time.next_poll(0), PowerTask::Poll);
        }
        match request.next(time.now) {
            Some(reset) => (time.now, PowerTask::Reset(reset)),
            None => (time.now + TRANSITION_POLL_INTERVAL, PowerTask::Poll),
        }
    }

    /// Processes the success of a power operation.
    fn on_reset(&mut self, reset: Reset, report: &mut PowerReport, time: PollTime) -> (Instant, PowerTask) {
        report.events.push(Event::PowerSwitched { reset: reset.as_str().to_owned() });
        // Another transition may have been requested meanwhile: it begins from the start.
        let matches = |request: &&mut PowerRequest| (request.target == Power::On) == (reset == Reset::On);
        if let Some(request) = self.request.as_mut().filter(matches) {
            request.last_reset = Some((reset, time.now));
        }
        (time.now + TRANSITION_POLL_INTERVAL, PowerTask::Poll)
    }

    /// Processes a failed request. It is sent again after a pause, if that can help.
    fn on_error(
        &mut self,
        task: PowerTask,
        error: &BmcError,
        report: &mut PowerReport,
        time: PollTime,
    ) -> (Instant, PowerTask) {
        let message = error.to_string();
        self.failures += 1;
        let mut is_news = false;
        if task == PowerTask::Poll && (self.power == Power::Unknown || self.failures >= MAX_FAILURES) {
            is_news = !self.error_is_known;
            if is_news {
                report.power = Some(Power::Unknown);
                report.error = Some(PowerError { reason: error.reason().to_owned(), message: message.clone() });
            }
            (self.power, self.error_is_known) = (Power::Unknown, true);
        }
        let Some(request) = &mut self.request else {
            if is_news {
                report.events.push(Event::BmcFailed { message });
            }
            return (time.next_poll(self.failures), PowerTask::Poll);
        };
        request.failures += 1;
        if time.now >= request.deadline {
            report.ended_transition = Some(request.requested_at);
            report.events.push(request.timeout_event(&message));
            self.request = None;
            return (time.next_poll(self.failures), PowerTask::Poll);
        }
        if is_news || request.failures == 1 {
            report.events.push(Event::BmcFailed { message });
        }
        (time.now + TRANSITION_POLL_INTERVAL * (1 << (request.failures - 1).min(4)), PowerTask::Poll)
    }
}

#[cfg(test)]
mod tests;
