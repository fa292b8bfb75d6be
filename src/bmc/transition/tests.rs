use jiff::Timestamp;

use super::*;

/// A run with a simulated clock.
struct TransitionSimulation {
    run: Run,
    start: Instant,
    second: u64,
}

fn at(second: u64) -> Timestamp {
    Timestamp::from_second(1_800_000_000 + second.cast_signed()).unwrap()
}

fn busy(seconds: Option<u64>) -> BmcError {
    let retry_after = seconds.map(Duration::from_secs);
    BmcError::Busy { at: "b".into(), message: "in POST".into(), retry_after }
}

fn refused() -> BmcError {
    BmcError::Refused { at: "b".into(), message: "500: a fault of mine".into() }
}

fn unsupported() -> BmcError {
    BmcError::Unsupported { at: "b".into(), what: "this".into() }
}

fn silent() -> BmcError {
    BmcError::Unreachable { at: "b".into(), cause: "no answer within 20 s".into() }
}

impl TransitionSimulation {
    fn new(operation: PowerOperation) -> Self {
        let start = Instant::now();
        let time = PollTime { now: start, at: at(0), random: 0 };
        Self { run: Run::new(&PowerTransition::new(operation, at(0)), time), start, second: 0 }
    }

    fn now(&self) -> Instant {
        self.start + Duration::from_secs(self.second)
    }

    /// Reads the power state, and sends what follows to a BMC that answers like this, until the machine has to be looked
    /// at again. Returns the operation that was sent, or the end.
    fn read(&mut self, power: Power, answer: &dyn Fn(Reset) -> Option<BmcError>) -> Result<Option<Reset>, Next> {
        self.run.begin_request(self.now());
        let next = self.run.on_power(power, self.now());
        match next {
            Next::Send(reset) => {
                let (now, at) = (self.now(), at(self.second));
                let next = match answer(reset) {
                    None => Next::ReadAt(self.run.on_accepted(reset, PollTime { now, at, random: 0 })),
                    Some(error) => self.run.on_error(Some(reset), &error, now),
                };
                self.wait(next).map(|()| Some(reset))
            }
            next => self.wait(next).map(|()| None),
        }
    }

    fn wait(&mut self, next: Next) -> Result<(), Next> {
        match next {
            Next::ReadAt(time) => {
                self.second = time.duration_since(self.start).as_secs();
                Ok(())
            }
            end => Err(end),
        }
    }

    /// Runs with a machine whose power is a function of what was accepted. Returns the operations with their times, and
    /// the end.
    fn run(
        &mut self,
        mut power: Power,
        answer: &dyn Fn(Reset) -> Option<BmcError>,
        effect: &dyn Fn(Reset, Power) -> Power,
    ) -> (Vec<(u64, Reset)>, Next) {
        let mut sent = Vec::new();
        loop {
            let before = self.second;
            match self.read(power, answer) {
                Ok(Some(reset)) => {
                    sent.push((before, reset));
                    if answer(reset).is_none() {
                        power = effect(reset, power);
                    }
                }
                Ok(None) => {}
                Err(end) => return (sent, end),
            }
            assert!(self.second < 3600, "it does not end: {sent:?}");
        }
    }
}

fn obeys(reset: Reset, _: Power) -> Power {
    match reset {
        Reset::ForceOff | Reset::GracefulShutdown => Power::Off,
        Reset::On | Reset::GracefulRestart | Reset::ForceRestart | Reset::PowerCycle | Reset::Nmi => Power::On,
    }
}

fn lies(_: Reset, power: Power) -> Power {
    power
}

fn never_shuts_down(reset: Reset, power: Power) -> Power {
    if reset == Reset::GracefulShutdown { power } else { obeys(reset, power) }
}

fn accepts(_: Reset) -> Option<BmcError> {
    None
}

fn failure(end: Next) -> (String, String) {
    match end {
        Next::Failed { reason, message } => (reason, message),
        other => panic!("{other:?}"),
    }
}

#[test]
fn an_obedient_bmc_is_confirmed_after_the_first_read() {
    use PowerOperation as Do;
    use Reset::{ForceRestart, GracefulShutdown, On};
    for (operation, power, expected) in [
        (Do::On, Power::Off, vec![(0, On)]),
        (Do::On, Power::On, vec![]),
        (Do::Off, Power::On, vec![(0, GracefulShutdown)]),
        (Do::Off, Power::Off, vec![]),
        (Do::ForceOff, Power::On, vec![(0, Reset::ForceOff)]),
        (Do::Restart, Power::On, vec![(0, GracefulShutdown), (5, On)]),
        (Do::Restart, Power::Off, vec![(0, On)]),
        (Do::Reset, Power::On, vec![(0, ForceRestart)]),
        (Do::Reset, Power::Off, vec![(0, On)]),
    ] {
        let mut simulation = TransitionSimulation::new(operation);
        let (sent, end) = simulation.run(power, &accepts, &obeys);
        assert_eq!((sent, end), (expected.clone(), Next::Confirmed), "{operation:?} {power}");
        assert_eq!(simulation.second, 5 * expected.len() as u64, "{operation:?} {power}");
    }
}

#[test]
fn a_liar_is_found_out_after_three_tries_of_30_seconds() {
    let mut simulation = TransitionSimulation::new(PowerOperation::On);
    let (sent, end) = simulation.run(Power::Off, &accepts, &lies);
    let times: Vec<_> = sent.iter().map(|(second, _)| *second).collect();
    assert_eq!(times, [0, 32, 64], "the reads are after 5 s, and then every 3 s");
    let (reason, message) = failure(end);
    assert_eq!(reason, "NotConfirmed");
    assert_eq!(message, "not switched on: the BMC accepted On 3 times, and the machine is still off");
    assert_eq!(simulation.second, 96);
}

#[test]
fn a_hanging_bmc_is_given_up_after_three_tries() {
    let mut simulation = TransitionSimulation::new(PowerOperation::On);
    let mut requests = 0;
    let end = loop {
        simulation.run.begin_request(simulation.now());
        simulation.second += 20;
        requests += 1;
        let next = simulation.run.on_error(None, &silent(), simulation.now());
        if let Err(end) = simulation.wait(next) {
            break end;
        }
    };
    let (reason, message) = failure(end);
    assert!(reason == "Unreachable" && message.contains("no answer within 20 s"), "{message}");
    assert!((90..150).contains(&simulation.second) && requests < 9, "{} s, {requests}", simulation.second);
}

#[test]
fn a_refusal_for_now_is_waited_out_and_cuts_no_power() {
    for (retry_after, pause) in [(None, 5), (Some(30), 30), (Some(0), 1), (Some(100_000), 60)] {
        let mut simulation = TransitionSimulation::new(PowerOperation::Off);
        let sent = simulation.read(Power::On, &|_| Some(busy(retry_after)));
        assert_eq!((sent, simulation.second), (Ok(Some(Reset::GracefulShutdown)), pause));
        let sent = simulation.read(Power::On, &accepts);
        assert_eq!(sent, Ok(Some(Reset::GracefulShutdown)), "asked again, and not cut");
    }
    let mut simulation = TransitionSimulation::new(PowerOperation::Off);
    let (sent, end) =
        simulation.run(Power::On, &|reset| (reset == Reset::GracefulShutdown).then(|| busy(None)), &obeys);
    assert_eq!((sent.last(), end), (Some(&(180, Reset::ForceOff)), Next::Confirmed));
    let mut simulation = TransitionSimulation::new(PowerOperation::On);
    let (sent, end) = simulation.run(Power::Off, &|_| Some(busy(None)), &obeys);
    let (reason, message) = failure(end);
    assert!(reason == "Busy" && message.ends_with("in POST"), "{message}");
    assert_eq!((sent.len(), simulation.second), (120, 600), "until the time of the power change is over");
}

#[test]
fn another_refusal_of_a_shutdown_cuts_the_power_when_its_time_is_over() {
    let refuses = |reset| (reset == Reset::GracefulShutdown).then(refused);
    let (sent, end) = TransitionSimulation::new(PowerOperation::Off).run(Power::On, &refuses, &obeys);
    assert_eq!((sent.last(), end), (Some(&(180, Reset::ForceOff)), Next::Confirmed));
    let (sent, _) = TransitionSimulation::new(PowerOperation::Off).run(Power::On, &accepts, &never_shuts_down);
    assert_eq!(sent.iter().map(|(_, reset)| *reset).collect::<Vec<_>>(), [Reset::GracefulShutdown, Reset::ForceOff]);
    assert!((180..184).contains(&sent[1].0), "{sent:?}");
}

#[test]
fn what_a_bmc_does_not_support_is_done_otherwise() {
    use Reset::{ForceOff, ForceRestart, GracefulShutdown, On, PowerCycle};
    let without = |missing: &'static [Reset]| move |reset| missing.contains(&reset).then(unsupported);
    for (operation, missing, expected) in [
        (PowerOperation::Off, &[GracefulShutdown][..], vec![GracefulShutdown, ForceOff]),
        (PowerOperation::Restart, &[GracefulShutdown], vec![GracefulShutdown, ForceOff, On]),
        (PowerOperation::Reset, &[ForceRestart], vec![ForceRestart, PowerCycle]),
        (PowerOperation::Reset, &[ForceRestart, PowerCycle], vec![ForceRestart, PowerCycle, ForceOff, On]),
    ] {
        let (sent, end) = TransitionSimulation::new(operation).run(Power::On, &without(missing), &obeys);
        let sent: Vec<_> = sent.into_iter().map(|(_, reset)| reset).collect();
        assert_eq!((sent, end), (expected, Next::Confirmed), "{operation:?} without {missing:?}");
    }
    let (_, end) = TransitionSimulation::new(PowerOperation::On).run(Power::Off, &without(&[On]), &obeys);
    assert_eq!(failure(end).0, "NotSupported");
}

#[test]
fn a_wrong_password_is_tried_once() {
    let count = std::cell::Cell::new(0);
    let denied = |_| {
        count.set(count.get() + 1);
        Some(BmcError::Denied { at: "b".into(), message: "401".into() })
    };
    let (_, end) = TransitionSimulation::new(PowerOperation::On).run(Power::Off, &denied, &obeys);
    let (reason, message) = failure(end);
    assert!(reason == "Refused" && message.contains("401"), "{message}");
    assert_eq!(count.get(), 1);
}

#[test]
fn a_power_change_goes_on_after_a_restart_of_the_server() {
    let resume = |operation, reset, seconds_ago: u64| {
        let mut transition = PowerTransition::new(operation, at(0));
        transition.state = TransitionState::Accepted;
        transition.accepted = Some(AcceptedReset { reset, time: at(300 - seconds_ago) });
        let start = Instant::now();
        let run = Run::new(&transition, PollTime { now: start + Duration::from_secs(300), at: at(300), random: 0 });
        TransitionSimulation { run, start, second: 300 }
    };
    // A machine that is off was shut down by us: it is switched on.
    let sent = resume(PowerOperation::Restart, Reset::GracefulShutdown, 20).read(Power::Off, &accepts);
    assert_eq!(sent, Ok(Some(Reset::On)));
    // The time for the shutdown goes on.
    let mut half = resume(PowerOperation::Off, Reset::GracefulShutdown, 100);
    let (sent, _) = half.run(Power::On, &accepts, &obeys);
    assert!(matches!(sent.as_slice(), [(second, Reset::ForceOff)] if (380..384).contains(second)), "{sent:?}");
    // What was done is not done again.
    let end = resume(PowerOperation::Reset, Reset::ForceRestart, 20).read(Power::On, &accepts);
    assert_eq!(end, Err(Next::Confirmed));
}

#[test]
fn a_power_change_begins_at_its_start_time() {
    let mut transition = PowerTransition::new(PowerOperation::On, at(0));
    transition.start_time = Some(at(50));
    let start = Instant::now();
    let run = Run::new(&transition, PollTime { now: start, at: at(0), random: 0 });
    assert_eq!(run.not_before(start), start + Duration::from_secs(50));
    let mut simulation = TransitionSimulation { run, start, second: 0 };
    assert_eq!(simulation.read(Power::Off, &accepts), Ok(None));
    assert_eq!(simulation.second, 50);
    assert_eq!(simulation.read(Power::Off, &accepts), Ok(Some(Reset::On)));
}

#[test]
fn a_restart_that_shows_as_off_is_not_disturbed() {
    let mut simulation = TransitionSimulation::new(PowerOperation::Reset);
    assert_eq!(simulation.read(Power::On, &accepts), Ok(Some(Reset::ForceRestart)));
    for _ in 0..3 {
        assert_eq!(simulation.read(Power::Off, &accepts), Ok(None));
    }
    assert_eq!(simulation.read(Power::On, &accepts), Err(Next::Confirmed));
}
