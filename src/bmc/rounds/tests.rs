use super::*;
use crate::fleet::{HostSpec, HostStatus, Meta, Secret};

const MAC: Mac = Mac([2, 0, 0, 0, 0, 1]);

/// Is a simulated clock before a machine with a controller.
struct World {
    rounds: Rounds,
    start: Instant,
    host: Host,
    second: u64,
}

fn bmc(address: &str) -> Bmc {
    let password = Secret("geheim".into());
    Bmc { address: address.into(), username: "u".into(), password, disable_certificate_verification: false }
}

fn silent() -> Trouble {
    Trouble::Unreachable { at: "b".into(), cause: "no answer".into() }
}

impl World {
    fn new() -> Self {
        let mut spec = HostSpec::for_mac(MAC);
        spec.bmc = Some(bmc("a"));
        let host = Host { metadata: Meta::named("h".parse().unwrap(), None), spec, status: HostStatus::default() };
        Self { rounds: Rounds::default(), start: Instant::now(), host, second: 0 }
    }

    fn moment(&self) -> Moment {
        let at = Timestamp::from_second(1_800_000_000 + self.second.cast_signed()).unwrap();
        Moment { now: self.start + Duration::from_secs(self.second), at, dice: JITTER }
    }

    fn follow(&mut self) {
        let moment = self.moment();
        self.rounds.follow(&self.host, false, moment);
    }

    fn order(&mut self, to: Power) {
        let asked = self.moment().at;
        self.host.status.power_transition = Some(Box::new(PowerTransition { target: to, request_time: asked }));
        self.follow();
    }

    /// Waits for the machine's next turn; gives how long that took, and its task.
    fn turn(&mut self) -> (u64, Task) {
        let before = self.second;
        loop {
            if let Some((mac, _, task)) = self.rounds.next(self.moment().now) {
                assert_eq!(mac, MAC);
                return (self.second - before, task);
            }
            self.second += 1;
            assert!(self.second - before < 3600, "it is never its turn");
        }
    }

    fn answer(&mut self, task: Task, outcome: Result<Option<Power>, Trouble>) -> Option<PowerReport> {
        let word = self.rounds.answered(MAC, &bmc("a"), task, outcome, self.moment());
        if let Some(word) = &word {
            self.host.status.power = word.power.or(self.host.status.power);
            if word.over.is_some() {
                self.host.status.power_transition = None;
            }
            self.follow();
        }
        word
    }

    fn asked(&mut self, power: Power) -> (u64, Option<PowerReport>) {
        let (waited, task) = self.turn();
        assert_eq!(task, Task::Ask);
        (waited, self.answer(task, Ok(Some(power))))
    }
}

#[test]
fn a_controller_is_asked_once_a_minute_and_only_news_is_told() {
    let mut world = World::new();
    world.follow();
    let (waited, word) = world.asked(Power::On);
    assert_eq!((waited, word.unwrap().power), (0, Some(Power::On)));
    for _ in 0..3 {
        let (waited, word) = world.asked(Power::On);
        assert!(waited == 60 && word.is_none());
    }
    assert_eq!(world.asked(Power::Off).1.unwrap().power, Some(Power::Off));
}

#[test]
fn a_silent_controller_is_believed_once_more_and_then_left_alone_for_longer() {
    let mut world = World::new();
    world.follow();
    world.asked(Power::On);
    let mut waits = Vec::new();
    let mut told = Vec::new();
    for failure in 0..8 {
        let (waited, task) = world.turn();
        waits.push(waited);
        if let Some(word) = world.answer(task, Err(silent())) {
            told.push((failure, word));
        }
    }
    assert_eq!(waits, [60, 60, 120, 240, 480, 900, 900, 900]);
    let [(1, word)] = told.as_slice() else { panic!("{told:?}") };
    let fault = word.fault.as_ref().unwrap();
    assert_eq!((word.power, fault.reason.as_str()), (Some(Power::Unknown), "Unreachable"));
    assert!(!format!("{word:?}").contains("geheim") && fault.message.contains("no answer"), "{word:?}");
    assert_eq!(world.asked(Power::Off).1.unwrap().power, Some(Power::Off));
    assert_eq!(world.asked(Power::Off).0, 60);
}

#[test]
fn a_controller_that_never_answered_is_told_of_at_once() {
    let mut world = World::new();
    world.follow();
    let (_, task) = world.turn();
    let word = world.answer(task, Err(silent())).unwrap();
    assert!(word.fault.is_some() && matches!(word.events.as_slice(), [Event::BmcFailed { .. }]));
}

#[test]
fn a_machine_is_switched_on_and_waited_for() {
    let mut world = World::new();
    world.follow();
    world.asked(Power::Off);
    world.order(Power::On);
    assert!(world.asked(Power::Off).1.is_none());
    assert_eq!(world.turn(), (0, Task::Switch(Reset::On)));
    let word = world.answer(Task::Switch(Reset::On), Ok(None)).unwrap();
    assert_eq!(word.events, [Event::PowerSwitched { reset: "On".into() }]);
    assert_eq!(world.asked(Power::Off).0, 5);
    let (waited, word) = world.asked(Power::On);
    assert!(waited == 5 && word.unwrap().over.is_some());
    assert_eq!(world.asked(Power::On).0, 60);
    // Somebody presses the button: that is noted, and nothing is done.
    world.asked(Power::Off);
    for _ in 0..5 {
        assert_eq!(world.asked(Power::Off).0, 60);
    }
}

#[test]
fn a_machine_that_is_as_wished_is_told_nothing() {
    let mut world = World::new();
    world.order(Power::On);
    assert!(world.asked(Power::On).1.unwrap().over.is_some());
    assert_eq!(world.asked(Power::On).0, 60);
}

#[test]
fn a_machine_has_its_time_to_shut_down_before_its_power_is_cut() {
    let mut world = World::new();
    world.order(Power::Off);
    world.asked(Power::On);
    assert_eq!(world.turn(), (0, Task::Switch(Reset::GracefulShutdown)));
    world.answer(Task::Switch(Reset::GracefulShutdown), Ok(None));
    let told = world.second;
    loop {
        match world.turn() {
            (_, Task::Ask) => drop(world.answer(Task::Ask, Ok(Some(Power::On)))),
            (_, task) => {
                assert_eq!((task, world.second - told), (Task::Switch(Reset::ForceOff), GRACE.as_secs()));
                break;
            }
        }
    }
    world.answer(Task::Switch(Reset::ForceOff), Ok(None));
    assert!(world.asked(Power::Off).1.unwrap().over.is_some());
}

#[test]
fn a_controller_that_knows_no_shutdown_cuts_the_power_at_once() {
    let mut world = World::new();
    world.order(Power::Off);
    world.asked(Power::On);
    world.turn();
    let lacks = Trouble::Lacks { at: "b".into(), what: "this kind of reset" };
    assert!(world.answer(Task::Switch(Reset::GracefulShutdown), Err(lacks)).is_none());
    assert_eq!(world.turn(), (0, Task::Switch(Reset::ForceOff)));
}

#[test]
fn a_switching_is_given_up_in_time_and_says_so() {
    for outcome in [Ok(()), Err(())] {
        let mut world = World::new();
        world.order(Power::On);
        let mut failed = Vec::new();
        while world.host.status.power_transition.is_some() {
            let (_, task) = world.turn();
            let answer = match (task, outcome) {
                (Task::Ask, Ok(())) => Ok(Some(Power::Off)),
                (Task::Switch(_), Ok(())) => Ok(None),
                (_, Err(())) => Err(silent()),
            };
            let events = world.answer(task, answer).map(|word| word.events).unwrap_or_default();
            failed.extend(events.into_iter().filter(|event| matches!(event, Event::BmcFailed { .. })));
        }
        assert!((600..700).contains(&world.second), "{}", world.second);
        assert_eq!(failed.len(), if outcome.is_ok() { 1 } else { 2 }, "{failed:?}");
        assert!(!format!("{failed:?}").contains("geheim"));
        let (waited, task) = world.turn();
        assert!(waited >= 60 && task == Task::Ask);
    }
}

#[test]
fn an_order_that_was_left_from_before_a_long_stop_is_void() {
    let mut world = World::new();
    let asked = world.moment().at;
    world.host.status.power_transition = Some(Box::new(PowerTransition { target: Power::Off, request_time: asked }));
    world.second = 700;
    world.follow();
    let (_, word) = world.asked(Power::On);
    assert!(word.unwrap().over.is_some());
    assert_eq!(world.asked(Power::On).0, 60);
}

#[test]
fn who_loses_its_controller_is_asked_no_more() {
    let mut world = World::new();
    world.follow();
    let (_, task) = world.turn();
    world.host.spec.bmc = Some(bmc("b"));
    world.follow();
    assert!(world.answer(task, Ok(Some(Power::On))).is_none(), "an answer of the one before");
    world.host.spec.bmc = None;
    world.follow();
    assert!(world.rounds.next(world.start + Duration::from_secs(100_000)).is_none());
    assert!(world.rounds.turns.is_empty() && world.rounds.due.is_empty() && world.rounds.urgent.is_empty());
}

#[test]
fn those_that_are_to_be_switched_come_first() {
    let mut world = World::new();
    let moment = world.moment();
    for number in 2..50 {
        let mut other = world.host.clone();
        other.spec.boot_mac_address = Mac([2, 0, 0, 0, 0, number]);
        world.rounds.follow(&other, false, moment);
    }
    world.second = 100;
    world.order(Power::On);
    assert_eq!(world.rounds.next(world.moment().now).unwrap().0, MAC);
}
