//! The state machine of a power change: asked, accepted by the BMC, and confirmed by reading the power state back, or
//! failed. Pure: time is an argument.

use std::time::{Duration, Instant};

use crate::fleet::{AcceptedReset, Power, PowerOperation, PowerTransition, Reset, TransitionState};

use super::BmcError;
use super::poll_time::PollTime;

/// Number of times that an operation is tried.
const MAX_TRIES: u32 = 3;
/// Time in which an accepted operation must have its effect, before the next try.
pub const TRY_TIME: Duration = Duration::from_secs(30);
/// Time from an accepted operation until the power state is first read back.
pub const FIRST_READ: Duration = Duration::from_secs(5);
/// Interval in which it is read back afterwards.
pub const READ_INTERVAL: Duration = Duration::from_secs(3);
/// Time for a graceful shutdown before the power is cut; the same as in the Metal3 operator.
pub const SHUTDOWN_TIMEOUT: Duration = Duration::from_secs(180);
/// Pause after a failed request, and after a BMC that is busy and names none.
const RETRY_PAUSE: Duration = Duration::from_secs(5);
/// Maximum pause that a busy BMC may ask for.
const MAX_RETRY_AFTER: Duration = Duration::from_secs(60);

/// What to do next.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Next {
    /// Send this operation.
    Send(Reset),
    /// Read the power state at this time.
    ReadAt(Instant),
    /// The power change is over. A failure has its reason, as a code and for people.
    Confirmed,
    /// The power change is given up.
    Failed {
        /// The reason, in one word.
        reason: String,
        /// The reason, for people.
        message: String,
    },
}

/// A power change in progress.
#[derive(Debug, Clone)]
pub struct Run {
    /// The part that is kept in the store.
    pub transition: PowerTransition,
    /// Time at which the power change begins.
    begin: Instant,
    /// Time at which the power change is given up in any case.
    deadline: Instant,
    /// The operation that is being tried.
    current: Option<Reset>,
    /// Begin of the present try.
    tried_since: Option<Instant>,
    accepted_at: Option<Instant>,
    /// Time of the first attempt to shut the machine down.
    shutdown_since: Option<Instant>,
    /// Operations that the BMC does not support.
    unsupported: Vec<Reset>,
}

impl Run {
    /// Returns the run of a power change, which may have begun before a restart of this server.
    pub fn new(transition: &PowerTransition, time: PollTime) -> Self {
        let ago = |accepted: AcceptedReset| {
            let passed = Duration::try_from(time.at.duration_since(accepted.time)).unwrap_or_default();
            time.now.checked_sub(passed).unwrap_or(time.now)
        };
        let accepted_at = transition.accepted.map(ago);
        let wait = transition.start_time.map(|start| start.duration_since(time.at));
        let begin = time.now + wait.and_then(|wait| Duration::try_from(wait).ok()).unwrap_or_default();
        let is_shutdown = |accepted: &AcceptedReset| accepted.reset == Reset::GracefulShutdown;
        Self {
            begin,
            deadline: begin + transition.time_left(time.at).unwrap_or_default(),
            current: transition.accepted.map(|accepted| accepted.reset),
            tried_since: None,
            accepted_at,
            shutdown_since: transition.accepted.filter(is_shutdown).and(accepted_at),
            unsupported: Vec::new(),
            transition: transition.clone(),
        }
    }

    /// Returns the time from which on the BMC may be asked for it.
    pub fn not_before(&self, now: Instant) -> Instant {
        self.begin.max(now)
    }

    /// Notes that a request begins: a BMC that hangs uses up the time of the try.
    pub fn begin_request(&mut self, now: Instant) {
        self.tried_since.get_or_insert(now);
    }

    /// Returns what follows from the power state.
    pub fn on_power(&mut self, power: Power, now: Instant) -> Next {
        if now < self.begin {
            self.tried_since = None;
            return Next::ReadAt(self.begin);
        }
        let Some(wanted) = self.wanted(power, now) else { return Next::Confirmed };
        if now >= self.deadline {
            let PowerTransition { reason, message, .. } = &self.transition;
            return match message.is_empty() {
                true => self.failed("TimedOut", &format!("the machine is still {power}")),
                false => self.failed(reason, message),
            };
        }
        let accepted = self.transition.accepted.map(|accepted| accepted.reset);
        // A restart shows as off for a while.
        let is_restarting = matches!(accepted, Some(Reset::ForceRestart | Reset::PowerCycle)) && wanted == Reset::On;
        let limit = if wanted == Reset::GracefulShutdown { SHUTDOWN_TIMEOUT } else { TRY_TIME };
        match self.accepted_at {
            Some(since) if (accepted == Some(wanted) || is_restarting) && now < since + limit => {
                self.tried_since = None;
                Next::ReadAt(now + READ_INTERVAL)
            }
            Some(_) if accepted == Some(wanted) && self.transition.tries >= MAX_TRIES => {
                let message = format!("the BMC accepted {wanted} {MAX_TRIES} times, and the machine is still {power}");
                self.failed("NotConfirmed", &message)
            }
            Some(_) if accepted == Some(wanted) => {
                self.transition.tries += 1;
                self.tried_since = Some(now);
                self.send(wanted, now)
            }
            Some(_) | None => {
                if self.current != Some(wanted) {
                    (self.current, self.transition.tries, self.tried_since) = (Some(wanted), 1, Some(now));
                }
                self.send(wanted, now)
            }
        }
    }

    /// Returns whether an operation is the one that was sent last.
    pub fn is_sending(&self, reset: Reset) -> bool {
        self.current == Some(reset)
    }

    fn send(&mut self, reset: Reset, now: Instant) -> Next {
        if reset == Reset::GracefulShutdown {
            self.shutdown_since.get_or_insert(now);
        }
        Next::Send(reset)
    }

    /// Records that the BMC accepted an operation. Returns the time of the first read.
    pub fn on_accepted(&mut self, reset: Reset, time: PollTime) -> Instant {
        self.transition.state = TransitionState::Accepted;
        self.transition.accepted = Some(AcceptedReset { reset, time: time.at });
        self.transition.tries = self.transition.tries.max(1);
        self.transition.reason.clear();
        self.transition.message.clear();
        (self.accepted_at, self.tried_since) = (Some(time.now), None);
        time.now + FIRST_READ
    }

    /// Returns what follows from a failed request: `sent` is the operation, if it was one.
    ///
    /// A refusal for now (busy, in self-test) is waited out. It is neither a reason to give up nor one to cut the power.
    pub fn on_error(&mut self, sent: Option<Reset>, error: &BmcError, now: Instant) -> Next {
        (self.transition.reason, self.transition.message) = (error.reason().to_owned(), error.to_string());
        if now >= self.deadline {
            return self.failed(error.reason(), &error.to_string());
        }
        match (error, sent) {
            (BmcError::Busy { retry_after, .. }, _) => {
                self.tried_since = None;
                let pause = retry_after.unwrap_or(RETRY_PAUSE).clamp(Duration::from_secs(1), MAX_RETRY_AFTER);
                Next::ReadAt(now + pause)
            }
            (
                BmcError::Unsupported { .. },
                Some(reset @ (Reset::GracefulShutdown | Reset::ForceRestart | Reset::PowerCycle)),
            ) => {
                self.unsupported.push(reset);
                Next::ReadAt(now)
            }
            // It is tried until `SHUTDOWN_TIMEOUT`, as a shutdown that is accepted is waited for.
            (BmcError::Refused { .. }, Some(Reset::GracefulShutdown)) => Next::ReadAt(now + 2 * RETRY_PAUSE),
            (BmcError::Denied { .. } | BmcError::Unsupported { .. } | BmcError::Address(_), _) => {
                self.failed(error.reason(), &error.to_string())
            }
            (BmcError::Refused { .. } | BmcError::Unreachable { .. } | BmcError::InvalidReply { .. }, _) => {
                let since = *self.tried_since.get_or_insert(now);
                if now >= since + TRY_TIME {
                    if self.transition.tries >= MAX_TRIES {
                        return self.failed(error.reason(), &error.to_string());
                    }
                    self.transition.tries = self.transition.tries.max(1) + 1;
                    self.tried_since = Some(now);
                }
                Next::ReadAt(now + RETRY_PAUSE)
            }
        }
    }

    /// Returns the operation that has to be in effect; `None` if all is done.
    fn wanted(&self, power: Power, now: Instant) -> Option<Reset> {
        let accepted = self.transition.accepted.map(|accepted| accepted.reset);
        let on = (power != Power::On).then_some(Reset::On);
        match (self.transition.operation(), accepted) {
            (PowerOperation::On, _) | (PowerOperation::Restart | PowerOperation::Reset, Some(Reset::On)) => on,
            (PowerOperation::ForceOff, _) => (power != Power::Off).then_some(Reset::ForceOff),
            (PowerOperation::Off, _) => (power != Power::Off).then(|| self.off(now)),
            (PowerOperation::Restart, _) => Some(if power == Power::Off { Reset::On } else { self.off(now) }),
            (PowerOperation::Reset, Some(Reset::ForceRestart | Reset::PowerCycle)) => on,
            (PowerOperation::Reset, _) => Some(if power == Power::Off { Reset::On } else { self.hard_reset() }),
        }
    }

    /// Returns the operation by which the machine is switched off now.
    fn off(&self, now: Instant) -> Reset {
        let is_over = self.shutdown_since.is_some_and(|since| now >= since + SHUTDOWN_TIMEOUT);
        let was_cut = self.transition.accepted.is_some_and(|accepted| accepted.reset == Reset::ForceOff);
        match is_over || was_cut || self.unsupported.contains(&Reset::GracefulShutdown) {
            true => Reset::ForceOff,
            false => Reset::GracefulShutdown,
        }
    }

    /// Returns the operation by which the machine is restarted without a shutdown.
    fn hard_reset(&self) -> Reset {
        let ways = [Reset::ForceRestart, Reset::PowerCycle];
        ways.into_iter().find(|way| !self.unsupported.contains(way)).unwrap_or(Reset::ForceOff)
    }

    fn failed(&self, reason: &str, message: &str) -> Next {
        let operation = match self.transition.operation() {
            PowerOperation::On => "not switched on",
            PowerOperation::Off | PowerOperation::ForceOff => "not switched off",
            PowerOperation::Restart | PowerOperation::Reset => "not restarted",
        };
        Next::Failed { reason: reason.to_owned(), message: format!("{operation}: {message}") }
    }
}

#[cfg(test)]
mod tests;
