//! When each controller is asked for its machine's power, and what a machine that is to be switched is told. Pure.
//!
//! A controller that answers is asked every minute or so; one that does not is left alone for longer each time. A
//! machine is switched because a write of its `spec.online` said so, for as long as `fleet::Switching` lasts, and
//! for no other reason: what a person's finger or an installer's reboot does to its power is noted, not undone.

use std::collections::{BTreeSet, HashMap};
use std::time::{Duration, Instant};

use jiff::Timestamp;

use crate::event::Event;
use crate::fleet::{Bmc, Host, Mac, Power, PowerError, PowerTransition};
use crate::store::PowerReport;

use super::{Reset, Trouble};

/// Is how often a controller is asked. Ironic asks as often.
pub const EVERY: Duration = Duration::from_secs(60);
/// Is the part of it that the dice take off or add, in hundredths: controllers are not asked in step.
const JITTER: u32 = 20;
/// Bounds the time between two tries of a controller that does not answer.
const LONGEST_BACK_OFF: Duration = Duration::from_secs(15 * 60);
/// Is how many times in a row a controller may leave us without an answer before its last one is no longer believed.
const FAILURES: u32 = 2;
/// Is how soon a machine that is being switched is looked at again.
const LOOK_AGAIN: Duration = Duration::from_secs(5);
/// Is how long a machine may take to shut down by itself before its power is cut. Metal3's operator waits as long.
const GRACE: Duration = Duration::from_secs(180);

/// Is what is to be asked of one controller next.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Task {
    Ask,
    Switch(Reset),
}

/// Is now, and a throw of the dice.
#[derive(Debug, Clone, Copy)]
pub struct Moment {
    pub now: Instant,
    pub at: Timestamp,
    pub dice: u32,
}

impl Moment {
    /// Gives a time within a round from now: the first questions are spread.
    fn within_a_round(&self) -> Instant {
        self.now + EVERY * (self.dice % 1000) / 1000
    }

    fn next_round(&self, failures: u32) -> Instant {
        let plain = EVERY.saturating_mul(1 << failures.saturating_sub(1).min(8)).min(LONGEST_BACK_OFF);
        self.now + plain * (100 - JITTER + self.dice % (2 * JITTER + 1)) / 100
    }
}

/// Holds whose turn is when.
#[derive(Debug, Default)]
pub struct Rounds {
    turns: HashMap<Mac, Turn>,
    /// Holds the machines that wait to be switched, and those that wait to be asked.
    urgent: BTreeSet<(Instant, Mac)>,
    due: BTreeSet<(Instant, Mac)>,
}

/// Is one machine's place in the rounds.
#[derive(Debug)]
struct Turn {
    bmc: Bmc,
    /// Is nothing while the controller is being asked.
    due: Option<Instant>,
    task: Task,
    failures: u32,
    /// Is what the store knows.
    power: Power,
    fault_is_known: bool,
    order: Option<Order>,
}

/// Is a switching under way.
#[derive(Debug, Clone, Copy)]
struct Order {
    to: Power,
    asked: Timestamp,
    until: Instant,
    /// Is what the controller was told last, and when it was.
    told: Option<(Reset, Instant)>,
    failures: u32,
}

impl Order {
    fn of(switching: &PowerTransition, moment: Moment) -> Self {
        let until = moment.now + switching.time_left(moment.at).unwrap_or_default();
        Self { to: switching.target, asked: switching.request_time, until, told: None, failures: 0 }
    }

    /// Says what the controller is to be told now; nothing where the machine is to be waited for.
    fn next(&self, now: Instant) -> Option<Reset> {
        match (self.to, self.told) {
            (Power::On, None) => Some(Reset::On),
            (Power::Off, None) => Some(Reset::GracefulShutdown),
            (Power::Off, Some((Reset::GracefulShutdown, since))) if now >= since + GRACE => Some(Reset::ForceOff),
            (Power::On | Power::Off | Power::Unknown, _) => None,
        }
    }

    fn given_up(&self, why: &str) -> Event {
        let limit = PowerTransition::TIMEOUT.as_secs();
        Event::BmcFailed { message: format!("not switched {} within {limit} s: {why}", self.to) }
    }
}

impl Rounds {
    /// Takes up a host as it is now. `is_start` says that it is one of many that are taken up at once.
    pub fn follow(&mut self, host: &Host, is_start: bool, moment: Moment) {
        let (mac, status) = (host.spec.boot_mac_address, &host.status);
        let Some(bmc) = &host.spec.bmc else { return self.forget(mac) };
        let order = status.power_transition.as_deref().map(|switching| Order::of(switching, moment));
        if let Some(turn) = self.turns.get_mut(&mac).filter(|turn| turn.bmc == *bmc) {
            if turn.order.map(|order| order.asked) != order.map(|order| order.asked) {
                turn.order = order;
                // One that is being asked is looked at with its answer.
                if turn.due.is_some() {
                    self.schedule(mac, moment.now, Task::Ask);
                }
            }
            return;
        }
        self.forget(mac);
        let fault_is_known = status.power_error.is_some();
        let turn = Turn {
            bmc: bmc.clone(),
            due: None,
            task: Task::Ask,
            failures: if fault_is_known { FAILURES } else { 0 },
            power: status.power.unwrap_or(Power::Unknown),
            fault_is_known,
            order,
        };
        self.turns.insert(mac, turn);
        let due = if is_start && order.is_none() { moment.within_a_round() } else { moment.now };
        self.schedule(mac, due, Task::Ask);
    }

    /// Lets go of a machine: its controller is asked no more.
    pub fn forget(&mut self, mac: Mac) {
        self.unschedule(mac);
        self.turns.remove(&mac);
    }

    /// Lets go of all machines but these.
    pub fn keep(&mut self, known: impl Fn(Mac) -> bool) {
        let gone: Vec<Mac> = self.turns.keys().copied().filter(|mac| !known(*mac)).collect();
        gone.into_iter().for_each(|mac| self.forget(mac));
    }

    /// Gives whose turn it is; machines that are to be switched come first.
    pub fn next(&mut self, now: Instant) -> Option<(Mac, Bmc, Task)> {
        let is_due = |set: &BTreeSet<(Instant, Mac)>| set.first().copied().filter(|(due, _)| *due <= now);
        let (_, mac) = is_due(&self.urgent).or_else(|| is_due(&self.due))?;
        self.unschedule(mac);
        let turn = self.turns.get(&mac)?;
        Some((mac, turn.bmc.clone(), turn.task))
    }

    /// Takes an answer: the power where it was asked for. Gives what is new in it.
    pub fn answered(
        &mut self,
        mac: Mac,
        bmc: &Bmc,
        task: Task,
        outcome: Result<Option<Power>, Trouble>,
        moment: Moment,
    ) -> Option<PowerReport> {
        // The host may have got another controller, or gone and come back, while this one was asked.
        let turn = self.turns.get_mut(&mac).filter(|turn| turn.due.is_none() && turn.bmc == *bmc)?;
        let mut word = PowerReport::of(bmc);
        let (due, next) = match (outcome, task) {
            (Ok(Some(power)), _) => turn.learn(power, &mut word, moment),
            (Ok(None), Task::Switch(reset)) => turn.tell(reset, &mut word, moment),
            (Ok(None), Task::Ask) => (moment.next_round(0), Task::Ask),
            (Err(Trouble::Refused { .. } | Trouble::Lacks { .. }), Task::Switch(Reset::GracefulShutdown)) => {
                (moment.now, Task::Switch(Reset::ForceOff))
            }
            (Err(trouble), task) => turn.fail(task, &trouble, &mut word, moment),
        };
        self.schedule(mac, due, next);
        let is_news = word.power.is_some() || word.over.is_some() || !word.events.is_empty();
        is_news.then_some(word)
    }

    fn schedule(&mut self, mac: Mac, due: Instant, task: Task) {
        self.unschedule(mac);
        let Some(turn) = self.turns.get_mut(&mac) else { return };
        (turn.due, turn.task) = (Some(due), task);
        match turn.order {
            Some(_) => self.urgent.insert((due, mac)),
            None => self.due.insert((due, mac)),
        };
    }

    fn unschedule(&mut self, mac: Mac) {
        if let Some(due) = self.turns.get_mut(&mac).and_then(|turn| turn.due.take()) {
            self.urgent.remove(&(due, mac));
            self.due.remove(&(due, mac));
        }
    }
}

impl Turn {
    fn learn(&mut self, power: Power, word: &mut PowerReport, moment: Moment) -> (Instant, Task) {
        if power != self.power || self.fault_is_known {
            word.power = Some(power);
        }
        (self.power, self.failures, self.fault_is_known) = (power, 0, false);
        let Some(order) = &self.order else { return (moment.next_round(0), Task::Ask) };
        if order.to == power || moment.now >= order.until {
            word.over = Some(order.asked);
            if order.to != power {
                word.events.push(order.given_up(&format!("the machine is still {power}")));
            }
            self.order = None;
            return (moment.next_round(0), Task::Ask);
        }
        match order.next(moment.now) {
            Some(reset) => (moment.now, Task::Switch(reset)),
            None => (moment.now + LOOK_AGAIN, Task::Ask),
        }
    }

    fn tell(&mut self, reset: Reset, word: &mut PowerReport, moment: Moment) -> (Instant, Task) {
        word.events.push(Event::PowerSwitched { reset: reset.as_str().to_owned() });
        // Another order may have come meanwhile: it begins from the start.
        if let Some(order) = self.order.as_mut().filter(|order| (order.to == Power::On) == (reset == Reset::On)) {
            order.told = Some((reset, moment.now));
        }
        (moment.now + LOOK_AGAIN, Task::Ask)
    }

    fn fail(&mut self, task: Task, trouble: &Trouble, word: &mut PowerReport, moment: Moment) -> (Instant, Task) {
        let message = trouble.to_string();
        self.failures += 1;
        let mut is_news = false;
        if task == Task::Ask && (self.power == Power::Unknown || self.failures >= FAILURES) {
            is_news = !self.fault_is_known;
            if is_news {
                word.power = Some(Power::Unknown);
                word.fault = Some(PowerError { reason: trouble.reason().to_owned(), message: message.clone() });
            }
            (self.power, self.fault_is_known) = (Power::Unknown, true);
        }
        let Some(order) = &mut self.order else {
            if is_news {
                word.events.push(Event::BmcFailed { message });
            }
            return (moment.next_round(self.failures), Task::Ask);
        };
        order.failures += 1;
        if moment.now >= order.until {
            word.over = Some(order.asked);
            word.events.push(order.given_up(&message));
            self.order = None;
            return (moment.next_round(self.failures), Task::Ask);
        }
        if is_news || order.failures == 1 {
            word.events.push(Event::BmcFailed { message });
        }
        (moment.now + LOOK_AGAIN * (1 << (order.failures - 1).min(4)), Task::Ask)
    }
}

#[cfg(test)]
mod tests;
