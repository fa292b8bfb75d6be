//! Schedule of power polls, and the steps and retries of a power transition. Pure: time and randomness are arguments.
//!
//! A BMC that answers is polled about once a minute. A BMC that does not answer is polled with an exponential
//! back-off. A machine is switched only by a `fleet::PowerTransition`, which an operator, a change of `spec.online` or
//! an assignment creates; `transition` has its steps. A change of the power state by other means (power button,
//! installer) is recorded and not undone. The boot device follows the decision for the host.

use std::collections::{BTreeSet, HashMap, HashSet};
use std::time::{Duration, Instant};

use crate::event::Event;
use crate::event::power_report::PowerReport;
use crate::fleet::{
    Bmc, BmcRecord, BootDevice, BootDeviceRecord, FirmwareMode, Host, Mac, Power, PowerError, PowerTransition,
    TransitionState, boot_device,
};

use super::poll_time::PollTime;
use super::transition::{Next, Run};
use super::wake_queue::WakeQueue;
use super::{BmcError, Reset};

/// Maximum number of consecutive failures. After them, the power state becomes unknown.
const MAX_FAILURES: u32 = 2;
/// Minimum time between two machines that are switched on, whoever asked for them: the inrush current of a rack.
const POWER_ON_INTERVAL: Duration = Duration::from_millis(250);
/// Pause before a boot device that could not be set is set again, and its maximum.
const BOOT_DEVICE_PAUSE: Duration = Duration::from_secs(30);
/// Maximum number of times that a boot device is set.
const MAX_BOOT_DEVICE_TRIES: u32 = 5;

/// Maximum number of concurrent requests to BMCs whose last one failed. They may hang: the others keep their places.
pub const MAX_FAILING_REQUESTS: usize = 16;

/// Next request to a BMC.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum PowerTask {
    /// Read the power state.
    Poll,
    /// Perform a power operation.
    Reset(Reset),
    /// Set the device of the next boot, in the mode of the machine's firmware.
    SetBootDevice(BootDevice, Option<FirmwareMode>),
}

/// The answer to a request.
#[derive(Debug)]
pub struct BmcAnswer {
    /// The request.
    pub task: PowerTask,
    /// The power state for a poll, nothing for another request.
    pub outcome: Result<Option<Power>, BmcError>,
    /// What was learnt of the BMC.
    pub learnt: Option<BmcRecord>,
}

/// A request that is due.
#[derive(Debug)]
pub struct BmcRequest {
    /// Boot MAC address of the host.
    pub mac: Mac,
    /// The BMC.
    pub bmc: Bmc,
    /// What is known of the BMC.
    pub record: Option<BmcRecord>,
    /// The request.
    pub task: PowerTask,
}

/// Schedule of the polls of all BMCs.
#[derive(Debug, Default)]
pub struct PowerPoller {
    states: HashMap<Mac, PollState>,
    /// Machines with a power transition, which come first.
    urgent: BTreeSet<(Instant, Mac)>,
    /// All other machines.
    due: BTreeSet<(Instant, Mac)>,
    /// Time at which a machine was last switched on.
    last_power_on: Option<Instant>,
    /// Machines with a request in progress whose last one failed.
    failing: HashSet<Mac>,
    /// Machines without a BMC that are to be woken.
    wakes: WakeQueue,
}

/// Polling state of one machine.
#[derive(Debug)]
struct PollState {
    bmc: Bmc,
    record: Option<BmcRecord>,
    /// Time of the next request; `None` while a request is in progress.
    due: Option<Instant>,
    task: PowerTask,
    failures: u32,
    /// Power state in the store.
    power: Power,
    error_is_known: bool,
    run: Option<Run>,
    boot: BootPlan,
}

/// The boot device that is to be set.
#[derive(Debug, Clone, Copy, Default)]
struct BootPlan {
    /// The device of a decision that the BMC was not told yet.
    pending: Option<BootDevice>,
    /// The device that the machine must boot from when it is switched on here.
    decided: Option<BootDevice>,
    mode: Option<FirmwareMode>,
    /// Number of times that setting it failed.
    failures: u32,
    /// Whether it was set, or given up, for the power change in progress.
    is_done: bool,
}

impl BootPlan {
    fn of(host: &Host) -> Self {
        let (pending, decided) = (boot_device::pending(host), boot_device::for_next_boot(host));
        Self { pending, decided, mode: FirmwareMode::of(host), failures: 0, is_done: false }
    }

    /// Takes over a new decision. What failed for the same device stays failed.
    fn update(&mut self, new: Self) {
        let is_same = (self.pending, self.decided) == (new.pending, new.decided);
        *self = if is_same { Self { mode: new.mode, ..*self } } else { new };
    }

    /// Returns the request to send before the machine boots by a power operation.
    fn before_boot(&self) -> Option<PowerTask> {
        Some(PowerTask::SetBootDevice(self.decided.filter(|_| !self.is_done)?, self.mode))
    }

    /// Returns the request to send as soon as possible.
    fn now(&self) -> Option<PowerTask> {
        Some(PowerTask::SetBootDevice(self.pending.filter(|_| self.failures < MAX_BOOT_DEVICE_TRIES)?, self.mode))
    }
}

impl PowerPoller {
    /// Follows the current state of a host. `is_start` spreads the first polls of many hosts.
    pub fn follow(&mut self, host: &Host, is_start: bool, time: PollTime) {
        let (mac, status) = (host.spec.boot_mac_address, &host.status);
        let Some(bmc) = &host.spec.bmc else { return self.forget(mac) };
        let transition = status.power_transition.as_deref();
        let boot = BootPlan::of(host);
        if let Some(state) = self.states.get_mut(&mac).filter(|state| state.bmc.same_access(bmc)) {
            state.record = status.bmc.as_deref().cloned();
            let has_boot_device = state.boot.pending;
            state.boot.update(boot);
            let identity = |of: &PowerTransition| (of.request_time, of.operation(), of.start_time);
            let known = state.run.as_ref().map(|run| identity(&run.transition));
            let is_new = known != transition.map(identity);
            if is_new {
                state.run = transition.map(|transition| Run::new(transition, time));
                state.boot.is_done = false;
            }
            let is_to_be_told = state.boot.pending.is_some() && state.boot.pending != has_boot_device;
            // While a request is in progress, its answer schedules the next one.
            if (is_new || is_to_be_told) && state.due.is_some() {
                let due = state.run.as_ref().map_or(time.now, |run| run.not_before(time.now));
                self.schedule(mac, due, PowerTask::Poll);
            }
            return;
        }
        self.forget(mac);
        let error_is_known = status.power_error.is_some();
        let run = transition.map(|transition| Run::new(transition, time));
        let begin = run.as_ref().map(|run| run.not_before(time.now));
        let state = PollState {
            bmc: bmc.clone(),
            record: status.bmc.as_deref().cloned(),
            due: None,
            task: PowerTask::Poll,
            failures: if error_is_known { MAX_FAILURES } else { 0 },
            power: status.power.unwrap_or(Power::Unknown),
            error_is_known,
            run,
            boot,
        };
        self.states.insert(mac, state);
        let due = begin.unwrap_or(if is_start { time.spread_start() } else { time.now });
        self.schedule(mac, due, PowerTask::Poll);
    }

    /// Follows the request to wake a host without a BMC.
    pub fn follow_wake(&mut self, host: &Host, time: PollTime) {
        self.unschedule(host.spec.boot_mac_address);
        self.states.remove(&host.spec.boot_mac_address);
        self.wakes.follow(host, time);
    }

    /// Returns the next machine that is to be woken now, with the request. It counts as one that is switched on.
    pub fn next_wake(&mut self, now: Instant) -> Option<(Mac, PowerTransition)> {
        if self.last_power_on.is_some_and(|last| last + POWER_ON_INTERVAL > now) {
            return None;
        }
        let wake = self.wakes.next(now)?;
        self.last_power_on = Some(now);
        Some(wake)
    }

    /// Stops polling a machine.
    pub fn forget(&mut self, mac: Mac) {
        self.wakes.forget(mac);
        self.unschedule(mac);
        self.states.remove(&mac);
    }

    /// Stops polling the machines that are not known any more.
    pub fn retain(&mut self, known: impl Fn(Mac) -> bool) {
        let gone: Vec<Mac> = self.states.keys().copied().filter(|mac| !known(*mac)).collect();
        gone.into_iter().for_each(|mac| self.forget(mac));
    }

    /// Returns the next request that is due. Machines with a power transition come first.
    pub fn next(&mut self, now: Instant) -> Option<BmcRequest> {
        let mac = loop {
            let mac = self.first_due(&self.urgent, now).or_else(|| self.first_due(&self.due, now))?;
            let task = self.states.get(&mac)?.task;
            let boots = matches!(task, PowerTask::Reset(reset) if reset.begins_boot());
            match self.last_power_on.map(|last| last + POWER_ON_INTERVAL).filter(|next| boots && *next > now) {
                Some(next) => self.schedule(mac, next, task),
                None => {
                    self.last_power_on = if boots { Some(now) } else { self.last_power_on };
                    break mac;
                }
            }
        };
        self.unschedule(mac);
        let state = self.states.get_mut(&mac)?;
        if let Some(run) = &mut state.run {
            run.begin_request(now);
        }
        if state.failures > 0 {
            self.failing.insert(mac);
        }
        Some(BmcRequest { mac, bmc: state.bmc.clone(), record: state.record.clone(), task: state.task })
    }

    /// Returns the first machine that is due and may be asked.
    fn first_due(&self, set: &BTreeSet<(Instant, Mac)>, now: Instant) -> Option<Mac> {
        let is_full = self.failing.len() >= MAX_FAILING_REQUESTS;
        let may_be_asked = |mac: &Mac| !is_full || self.states.get(mac).is_none_or(|state| state.failures == 0);
        let mut due = set.iter().take_while(|(due, _)| *due <= now).map(|(_, mac)| *mac);
        due.find(may_be_asked)
    }

    /// Processes the answer to a request. Returns a report if something changed.
    pub fn answered(&mut self, mac: Mac, bmc: &Bmc, answer: BmcAnswer, time: PollTime) -> Option<PowerReport> {
        self.failing.remove(&mac);
        // The host may have another BMC, or may have been deleted and created, since the request.
        let state = self.states.get_mut(&mac).filter(|state| state.due.is_none() && state.bmc.same_access(bmc))?;
        let mut report = PowerReport::new(bmc);
        let BmcAnswer { task, outcome, learnt } = answer;
        if learnt.is_some() {
            (state.record, report.learnt) = (learnt.clone(), learnt);
        }
        let (due, next) = match (outcome, task) {
            (Ok(Some(power)), _) => state.on_power(power, &mut report, time),
            (Ok(None), PowerTask::Reset(reset)) => state.on_reset(reset, &mut report, time),
            (Ok(None), PowerTask::SetBootDevice(device, _)) => state.on_boot_device(device, None, &mut report, time),
            (Ok(None), PowerTask::Poll) => (time.next_poll(0), PowerTask::Poll),
            (Err(error), PowerTask::SetBootDevice(device, _)) => {
                state.on_boot_device(device, Some(&error), &mut report, time)
            }
            (Err(error), task) => state.on_error(task, &error, &mut report, time),
        };
        self.schedule(mac, due, next);
        report.has_content().then_some(report)
    }

    /// Schedules the next request to the BMC of a machine.
    fn schedule(&mut self, mac: Mac, due: Instant, task: PowerTask) {
        self.unschedule(mac);
        let Some(state) = self.states.get_mut(&mac) else { return };
        (state.due, state.task) = (Some(due), task);
        match state.run {
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
        match &mut self.run {
            Some(run) => {
                let next = run.on_power(power, time.now);
                self.follow_up(next, report, time)
            }
            None => self.next_task(time),
        }
    }

    /// Returns the next request of a machine without a power change.
    fn next_task(&self, time: PollTime) -> (Instant, PowerTask) {
        match self.boot.now() {
            Some(task) => (time.now + BOOT_DEVICE_PAUSE * self.boot.failures, task),
            None => (time.next_poll(self.failures), PowerTask::Poll),
        }
    }

    /// Carries out a step of the power change in progress.
    fn follow_up(&mut self, next: Next, report: &mut PowerReport, time: PollTime) -> (Instant, PowerTask) {
        match next {
            Next::Send(reset) if reset.begins_boot() => {
                (time.now, self.boot.before_boot().unwrap_or(PowerTask::Reset(reset)))
            }
            Next::Send(reset) => (time.now, PowerTask::Reset(reset)),
            Next::ReadAt(due) => (due, PowerTask::Poll),
            Next::Confirmed => self.end(TransitionState::Confirmed, report, time),
            Next::Failed { reason, message } => {
                if let Some(run) = &mut self.run {
                    (run.transition.reason, run.transition.message) = (reason, message.clone());
                }
                report.events.push(Event::BmcFailed { message });
                self.end(TransitionState::Failed, report, time)
            }
        }
    }

    /// Ends the power change in progress.
    fn end(&mut self, state: TransitionState, report: &mut PowerReport, time: PollTime) -> (Instant, PowerTask) {
        report.transition = self.run.take().map(|run| Box::new(run.transition.ended(state, time.at)));
        if let Some(transition) = report.transition.as_mut().filter(|_| state == TransitionState::Confirmed) {
            transition.reason.clear();
            transition.message.clear();
        }
        self.next_task(time)
    }

    /// Processes the success of a power operation.
    fn on_reset(&mut self, reset: Reset, report: &mut PowerReport, time: PollTime) -> (Instant, PowerTask) {
        report.events.push(Event::PowerSwitched { reset: reset.word().to_owned() });
        let Some(run) = &mut self.run else { return (time.now, PowerTask::Poll) };
        // Another power change may have been requested meanwhile: it begins from the start.
        if !run.is_sending(reset) {
            return (time.now, PowerTask::Poll);
        }
        let due = run.on_accepted(reset, time);
        report.transition = Some(Box::new(run.transition.clone()));
        (due, PowerTask::Poll)
    }

    /// Processes the answer to a request to set the boot device. A BMC that cannot does not keep the machine from being
    /// switched on: the boot order of its firmware may do.
    fn on_boot_device(
        &mut self,
        device: BootDevice,
        error: Option<&BmcError>,
        report: &mut PowerReport,
        time: PollTime,
    ) -> (Instant, PowerTask) {
        let now_decided = self.boot.pending.or(self.boot.decided);
        if let Some(BmcError::Busy { .. }) = error
            && let Some(run) = &mut self.run
            && let Some(error) = error
        {
            let known = run.transition.reason.clone();
            let next = run.on_error(None, error, time.now);
            if known != run.transition.reason {
                report.transition = Some(Box::new(run.transition.clone()));
            }
            return self.follow_up(next, report, time);
        }
        self.boot.failures += u32::from(error.is_some());
        let is_final = matches!(error, None | Some(BmcError::Unsupported { .. } | BmcError::Denied { .. }))
            || self.boot.failures >= MAX_BOOT_DEVICE_TRIES;
        // A BMC that is busy is news if it stays so.
        let told_at = if matches!(error, Some(BmcError::Busy { .. })) { MAX_BOOT_DEVICE_TRIES } else { 1 };
        if let Some(error) = error.filter(|_| self.boot.failures == told_at) {
            let message = format!("boot device {} not set: {error}", device.as_str());
            report.events.push(Event::BmcFailed { message });
        }
        if is_final && now_decided == Some(device) {
            let error = error.map(ToString::to_string).unwrap_or_default();
            if error.is_empty() {
                report.events.push(Event::BootDeviceSet { device, requested: false });
            }
            report.boot_device = Some(Box::new(BootDeviceRecord { device, time: time.at, requested: false, error }));
            self.boot.pending = None;
        }
        self.boot.is_done = true;
        match self.run {
            Some(_) => (time.now, PowerTask::Poll),
            None => self.next_task(time),
        }
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
        // A BMC that is busy is no news.
        let is_busy = matches!(error, BmcError::Busy { .. });
        let is_waited_for = !is_busy && (self.power == Power::Unknown || self.run.is_some());
        if task == PowerTask::Poll && (is_waited_for || self.failures >= MAX_FAILURES) {
            is_news = !self.error_is_known;
            if is_news {
                report.power = Some(Power::Unknown);
                report.error = Some(PowerError { reason: error.reason().to_owned(), message: message.clone() });
            }
            (self.power, self.error_is_known) = (Power::Unknown, true);
        }
        let Some(run) = &mut self.run else {
            if is_news {
                report.events.push(Event::BmcFailed { message });
            }
            return (time.next_poll(self.failures), PowerTask::Poll);
        };
        let sent = if let PowerTask::Reset(reset) = task { Some(reset) } else { None };
        let known = run.transition.reason.clone();
        let next = run.on_error(sent, error, time.now);
        if known != run.transition.reason {
            report.transition = Some(Box::new(run.transition.clone()));
            if !is_busy && !matches!(next, Next::Failed { .. }) {
                report.events.push(Event::BmcFailed { message });
            }
        }
        self.follow_up(next, report, time)
    }
}

#[cfg(test)]
mod tests;
