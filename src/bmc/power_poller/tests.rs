use super::*;
use crate::fleet::{HostSpec, HostStatus, Meta, Secret};

const MAC: Mac = Mac([2, 0, 0, 0, 0, 1]);

/// A simulated clock and a machine with a BMC.
struct Simulation {
    poller: PowerPoller,
    start: Instant,
    host: Host,
    second: u64,
}

fn bmc(address: &str) -> Bmc {
    let password = Secret("geheim".into());
    Bmc { address: address.into(), username: "u".into(), password, disable_certificate_verification: false }
}

fn no_answer() -> BmcError {
    BmcError::Unreachable { at: "b".into(), cause: "no answer".into() }
}

impl Simulation {
    fn new() -> Self {
        let mut spec = HostSpec::for_mac(MAC);
        spec.bmc = Some(bmc("a"));
        let host = Host { metadata: Meta::named("h".parse().unwrap(), None), spec, status: HostStatus::default() };
        Self { poller: PowerPoller::default(), start: Instant::now(), host, second: 0 }
    }

    fn time(&self) -> PollTime {
        let at = Timestamp::from_second(1_800_000_000 + self.second.cast_signed()).unwrap();
        PollTime { now: self.start + Duration::from_secs(self.second), at, random: MAX_JITTER_PERCENT }
    }

    fn follow(&mut self) {
        let time = self.time();
        self.poller.follow(&self.host, false, time);
    }

    fn request(&mut self, to: Power) {
        let requested_at = self.time().at;
        self.host.status.power_transition = Some(Box::new(PowerTransition { target: to, request_time: requested_at }));
        self.follow();
    }

    /// Waits for the next request; returns the time waited in seconds and the task.
    fn next_request(&mut self) -> (u64, PowerTask) {
        let before = self.second;
        loop {
            if let Some((mac, _, task)) = self.poller.next(self.time().now) {
                assert_eq!(mac, MAC);
                return (self.second - before, task);
            }
            self.second += 1;
            assert!(self.second - before < 3600, "no request within an hour");
        }
    }

    fn answer(&mut self, task: PowerTask, outcome: Result<Option<Power>, BmcError>) -> Option<PowerReport> {
        let report = self.poller.answered(MAC, &bmc("a"), task, outcome, self.time());
        if let Some(report) = &report {
            self.host.status.power = report.power.or(self.host.status.power);
            if report.ended_transition.is_some() {
                self.host.status.power_transition = None;
            }
            self.follow();
        }
        report
    }

    fn polled(&mut self, power: Power) -> (u64, Option<PowerReport>) {
        let (waited, task) = self.next_request();
        assert_eq!(task, PowerTask::Poll);
        (waited, self.answer(task, Ok(Some(power))))
    }
}

#[test]
fn a_bmc_is_polled_once_a_minute_and_only_changes_are_reported() {
    let mut simulation = Simulation::new();
    simulation.follow();
    let (waited, report) = simulation.polled(Power::On);
    assert_eq!((waited, report.unwrap().power), (0, Some(Power::On)));
    for _ in 0..3 {
        let (waited, report) = simulation.polled(Power::On);
        assert!(waited == 60 && report.is_none());
    }
    assert_eq!(simulation.polled(Power::Off).1.unwrap().power, Some(Power::Off));
}

#[test]
fn two_failures_make_the_power_unknown_and_the_interval_grows() {
    let mut simulation = Simulation::new();
    simulation.follow();
    simulation.polled(Power::On);
    let mut waits = Vec::new();
    let mut reports = Vec::new();
    for failure in 0..8 {
        let (waited, task) = simulation.next_request();
        waits.push(waited);
        if let Some(report) = simulation.answer(task, Err(no_answer())) {
            reports.push((failure, report));
        }
    }
    assert_eq!(waits, [60, 60, 120, 240, 480, 900, 900, 900]);
    let [(1, report)] = reports.as_slice() else { panic!("{reports:?}") };
    let error = report.error.as_ref().unwrap();
    assert_eq!((report.power, error.reason.as_str()), (Some(Power::Unknown), "Unreachable"));
    assert!(!format!("{report:?}").contains("geheim") && error.message.contains("no answer"), "{report:?}");
    assert_eq!(simulation.polled(Power::Off).1.unwrap().power, Some(Power::Off));
    assert_eq!(simulation.polled(Power::Off).0, 60);
}

#[test]
fn the_first_failure_is_reported_if_the_power_is_unknown() {
    let mut simulation = Simulation::new();
    simulation.follow();
    let (_, task) = simulation.next_request();
    let report = simulation.answer(task, Err(no_answer())).unwrap();
    assert!(report.error.is_some() && matches!(report.events.as_slice(), [Event::BmcFailed { .. }]));
}

#[test]
fn a_machine_is_switched_on_and_polled_until_it_is_on() {
    let mut simulation = Simulation::new();
    simulation.follow();
    simulation.polled(Power::Off);
    simulation.request(Power::On);
    assert!(simulation.polled(Power::Off).1.is_none());
    assert_eq!(simulation.next_request(), (0, PowerTask::Reset(Reset::On)));
    let report = simulation.answer(PowerTask::Reset(Reset::On), Ok(None)).unwrap();
    assert_eq!(report.events, [Event::PowerSwitched { reset: "On".into() }]);
    assert_eq!(simulation.polled(Power::Off).0, 5);
    let (waited, report) = simulation.polled(Power::On);
    assert!(waited == 5 && report.unwrap().ended_transition.is_some());
    assert_eq!(simulation.polled(Power::On).0, 60);
    // Somebody presses the power button: the poller records that and does nothing.
    simulation.polled(Power::Off);
    for _ in 0..5 {
        assert_eq!(simulation.polled(Power::Off).0, 60);
    }
}

#[test]
fn a_machine_in_the_requested_state_is_not_switched() {
    let mut simulation = Simulation::new();
    simulation.request(Power::On);
    assert!(simulation.polled(Power::On).1.unwrap().ended_transition.is_some());
    assert_eq!(simulation.polled(Power::On).0, 60);
}

#[test]
fn the_power_is_cut_after_the_shutdown_grace() {
    let mut simulation = Simulation::new();
    simulation.request(Power::Off);
    simulation.polled(Power::On);
    assert_eq!(simulation.next_request(), (0, PowerTask::Reset(Reset::GracefulShutdown)));
    simulation.answer(PowerTask::Reset(Reset::GracefulShutdown), Ok(None));
    let sent_at = simulation.second;
    loop {
        match simulation.next_request() {
            (_, PowerTask::Poll) => drop(simulation.answer(PowerTask::Poll, Ok(Some(Power::On)))),
            (_, task) => {
                assert_eq!(
                    (task, simulation.second - sent_at),
                    (PowerTask::Reset(Reset::ForceOff), SHUTDOWN_TIMEOUT.as_secs())
                );
                break;
            }
        }
    }
    simulation.answer(PowerTask::Reset(Reset::ForceOff), Ok(None));
    assert!(simulation.polled(Power::Off).1.unwrap().ended_transition.is_some());
}

#[test]
fn the_power_is_cut_at_once_if_graceful_shutdown_is_not_supported() {
    let mut simulation = Simulation::new();
    simulation.request(Power::Off);
    simulation.polled(Power::On);
    simulation.next_request();
    let unsupported = BmcError::Unsupported { at: "b".into(), what: "this kind of reset".to_owned() };
    assert!(simulation.answer(PowerTask::Reset(Reset::GracefulShutdown), Err(unsupported)).is_none());
    assert_eq!(simulation.next_request(), (0, PowerTask::Reset(Reset::ForceOff)));
}

#[test]
fn a_transition_times_out_with_an_event() {
    for outcome in [Ok(()), Err(())] {
        let mut simulation = Simulation::new();
        simulation.request(Power::On);
        let mut failed = Vec::new();
        while simulation.host.status.power_transition.is_some() {
            let (_, task) = simulation.next_request();
            let answer = match (task, outcome) {
                (PowerTask::Poll, Ok(())) => Ok(Some(Power::Off)),
                (PowerTask::Reset(_), Ok(())) => Ok(None),
                (_, Err(())) => Err(no_answer()),
            };
            let events = simulation.answer(task, answer).map(|report| report.events).unwrap_or_default();
            failed.extend(events.into_iter().filter(|event| matches!(event, Event::BmcFailed { .. })));
        }
        assert!((600..700).contains(&simulation.second), "{}", simulation.second);
        assert_eq!(failed.len(), if outcome.is_ok() { 1 } else { 2 }, "{failed:?}");
        assert!(!format!("{failed:?}").contains("geheim"));
        let (waited, task) = simulation.next_request();
        assert!(waited >= 60 && task == PowerTask::Poll);
    }
}

#[test]
fn a_transition_from_before_a_long_stop_is_void() {
    let mut simulation = Simulation::new();
    let requested_at = simulation.time().at;
    simulation.host.status.power_transition =
        Some(Box::new(PowerTransition { target: Power::Off, request_time: requested_at }));
    simulation.second = 700;
    simulation.follow();
    let (_, report) = simulation.polled(Power::On);
    assert!(report.unwrap().ended_transition.is_some());
    assert_eq!(simulation.polled(Power::On).0, 60);
}

#[test]
fn a_host_without_bmc_is_not_polled() {
    let mut simulation = Simulation::new();
    simulation.follow();
    let (_, task) = simulation.next_request();
    simulation.host.spec.bmc = Some(bmc("b"));
    simulation.follow();
    assert!(simulation.answer(task, Ok(Some(Power::On))).is_none(), "an answer of the previous BMC");
    simulation.host.spec.bmc = None;
    simulation.follow();
    assert!(simulation.poller.next(simulation.start + Duration::from_secs(100_000)).is_none());
    assert!(
        simulation.poller.states.is_empty() && simulation.poller.due.is_empty() && simulation.poller.urgent.is_empty()
    );
}

#[test]
fn machines_with_a_transition_come_first() {
    let mut simulation = Simulation::new();
    let time = simulation.time();
    for number in 2..50 {
        let mut other = simulation.host.clone();
        other.spec.boot_mac_address = Mac([2, 0, 0, 0, 0, number]);
        simulation.poller.follow(&other, false, time);
    }
    simulation.second = 100;
    simulation.request(Power::On);
    assert_eq!(simulation.poller.next(simulation.time().now).unwrap().0, MAC);
}
