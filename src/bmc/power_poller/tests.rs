use jiff::Timestamp;

use super::*;
use crate::bmc::poll_time::MAX_JITTER_PERCENT;
use crate::fleet::{
    BootMode, HostSpec, HostStatus, Meta, Phase, PowerOperation, PowerTransition, Secret, power_request,
};

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
    Bmc::new(address, "u", password)
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

    fn request(&mut self, operation: PowerOperation) {
        let transition = PowerTransition::new(operation, self.time().at);
        self.host.status.power_transition = Some(Box::new(transition));
        self.follow();
    }

    /// Waits for the next request; returns the time waited in seconds and the task.
    fn next_request(&mut self) -> (u64, PowerTask) {
        let before = self.second;
        loop {
            if let Some(BmcRequest { mac, task, .. }) = self.poller.next(self.time().now) {
                assert_eq!(mac, MAC);
                return (self.second - before, task);
            }
            self.second += 1;
            assert!(self.second - before < 3600, "no request within an hour");
        }
    }

    fn answer(&mut self, task: PowerTask, outcome: Result<Option<Power>, BmcError>) -> Option<PowerReport> {
        let answer = BmcAnswer { task, outcome, learnt: None };
        let report = self.poller.answered(MAC, &bmc("a"), answer, self.time());
        if let Some(report) = &report {
            let status = &mut self.host.status;
            status.power = report.power.or(status.power);
            power_request::apply_progress(status, report.transition.clone());
            status.boot_device = report.boot_device.clone().or(status.boot_device.take());
            self.follow();
        }
        report
    }

    /// Waits for the request that is not a poll; polls find this power state until then.
    fn next_change(&mut self, power: Power) -> (u64, PowerTask) {
        let before = self.second;
        loop {
            match self.next_request() {
                (_, PowerTask::Poll) => drop(self.answer(PowerTask::Poll, Ok(Some(power)))),
                (_, task) => return (self.second - before, task),
            }
        }
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

fn ended(report: Option<PowerReport>) -> Option<TransitionState> {
    report?.transition.map(|transition| transition.state).filter(|state| state.is_end())
}

#[test]
fn a_machine_is_switched_on_and_polled_until_it_is_on() {
    let mut simulation = Simulation::new();
    simulation.follow();
    simulation.polled(Power::Off);
    simulation.request(PowerOperation::On);
    assert!(simulation.polled(Power::Off).1.is_none());
    assert_eq!(simulation.next_request(), (0, PowerTask::Reset(Reset::On)));
    let report = simulation.answer(PowerTask::Reset(Reset::On), Ok(None)).unwrap();
    assert_eq!(report.events, [Event::PowerSwitched { reset: "on".into() }]);
    assert_eq!(report.transition.unwrap().state, TransitionState::Accepted, "durable before it is confirmed");
    assert_eq!(simulation.polled(Power::Off).0, 5);
    let (waited, report) = simulation.polled(Power::On);
    assert_eq!((waited, ended(report)), (3, Some(TransitionState::Confirmed)));
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
    simulation.request(PowerOperation::On);
    assert_eq!(ended(simulation.polled(Power::On).1), Some(TransitionState::Confirmed));
    assert_eq!(simulation.polled(Power::On).0, 60);
}

#[test]
fn a_bmc_that_does_not_answer_makes_a_power_change_fail_early() {
    let mut simulation = Simulation::new();
    simulation.request(PowerOperation::On);
    let mut reports = Vec::new();
    while simulation.host.status.power_transition.is_some() {
        let (_, task) = simulation.next_request();
        simulation.second += 20;
        reports.extend(simulation.answer(task, Err(no_answer())));
    }
    assert_eq!(reports[0].power, Some(Power::Unknown), "known after the first request");
    assert!(matches!(reports[0].events.as_slice(), [Event::BmcFailed { .. }]), "{:?}", reports[0]);
    let last = simulation.host.status.last_power_transition.as_ref().unwrap();
    assert_eq!((last.state, last.reason.as_str()), (TransitionState::Failed, "Unreachable"));
    assert!((90..150).contains(&simulation.second), "{}", simulation.second);
    assert!(!format!("{reports:?}").contains("geheim"));
    let (waited, task) = simulation.next_request();
    assert!(waited >= 60 && task == PowerTask::Poll);
}

/// Assigns an image, as the store does.
fn assign(simulation: &mut Simulation, phase: Phase) {
    let at = simulation.time().at;
    let Host { spec, status, .. } = &mut simulation.host;
    (spec.image, spec.boot_mode) = ("live".parse().unwrap(), BootMode::Once);
    (status.phase, status.phase_transition_time) = (phase, Some(at));
    status.firmware = Some("x86_64-uefi".parse().unwrap());
}

#[test]
fn the_bmc_is_told_the_boot_device_of_a_decision() {
    let mut simulation = Simulation::new();
    simulation.follow();
    simulation.polled(Power::On);
    for (phase, device) in [(Phase::Assigned, BootDevice::Network), (Phase::Installed, BootDevice::Disk)] {
        assign(&mut simulation, phase);
        simulation.follow();
        let set = PowerTask::SetBootDevice(device, Some(FirmwareMode::Uefi));
        assert_eq!(simulation.next_change(Power::On), (0, set));
        let report = simulation.answer(set, Ok(None)).unwrap();
        assert_eq!(report.boot_device.unwrap().device, device);
        for _ in 0..3 {
            assert_eq!(simulation.polled(Power::On).0, 60, "told once");
        }
    }
}

#[test]
fn a_machine_is_switched_on_with_the_boot_device_of_its_decision() {
    for outcome in [true, false] {
        let mut simulation = Simulation::new();
        simulation.follow();
        simulation.polled(Power::Off);
        assign(&mut simulation, Phase::Assigned);
        simulation.request(PowerOperation::On);
        let set = PowerTask::SetBootDevice(BootDevice::Network, Some(FirmwareMode::Uefi));
        assert_eq!(simulation.next_change(Power::Off), (0, set));
        let refused = BmcError::Unsupported { at: "b".into(), what: "boot device".into() };
        simulation.answer(set, if outcome { Ok(None) } else { Err(refused) });
        // A boot device that cannot be set does not keep the machine off.
        assert_eq!(simulation.next_change(Power::Off), (0, PowerTask::Reset(Reset::On)));
        simulation.answer(PowerTask::Reset(Reset::On), Ok(None));
        assert_eq!(ended(simulation.polled(Power::On).1), Some(TransitionState::Confirmed));
        let told = simulation.host.status.boot_device.as_ref().unwrap();
        assert_eq!(told.error.is_empty(), outcome, "{told:?}");
        assert_eq!(simulation.polled(Power::On).0, 60);
    }
}

#[test]
fn a_bmc_that_is_busy_at_the_boot_device_is_reported() {
    let mut simulation = Simulation::new();
    simulation.follow();
    simulation.polled(Power::Off);
    assign(&mut simulation, Phase::Assigned);
    simulation.request(PowerOperation::On);
    let set = PowerTask::SetBootDevice(BootDevice::Network, Some(FirmwareMode::Uefi));
    let busy = || BmcError::Busy { at: "b".into(), message: "in POST".into(), retry_after: None };
    assert_eq!(simulation.next_change(Power::Off), (0, set));
    let report = simulation.answer(set, Err(busy())).expect("a report");
    let change = report.transition.expect("the power change");
    assert!(change.waits_for_bmc() && change.message.contains("in POST") && report.events.is_empty(), "{change:?}");
    // It stays so: no news.
    assert_eq!(simulation.next_change(Power::Off).1, set);
    assert!(simulation.answer(set, Err(busy())).is_none());
    assert_eq!(simulation.next_change(Power::Off).1, set);
    simulation.answer(set, Ok(None));
    assert_eq!(simulation.next_change(Power::Off).1, PowerTask::Reset(Reset::On));
    let change = simulation.answer(PowerTask::Reset(Reset::On), Ok(None)).unwrap().transition.unwrap();
    assert_eq!((change.state, change.reason.as_str()), (TransitionState::Accepted, ""));
}

#[test]
fn a_boot_device_that_fails_is_set_a_bounded_number_of_times() {
    let mut simulation = Simulation::new();
    simulation.follow();
    simulation.polled(Power::On);
    assign(&mut simulation, Phase::Assigned);
    simulation.follow();
    let mut count = 0;
    while simulation.host.status.boot_device.is_none() {
        let (_, task) = simulation.next_change(Power::On);
        simulation.answer(task, Err(no_answer()));
        count += 1;
    }
    assert_eq!(count, MAX_BOOT_DEVICE_TRIES);
    assert!(simulation.host.status.boot_device.as_ref().unwrap().error.contains("no answer"));
    assert_eq!(simulation.next_request().1, PowerTask::Poll);
}

#[test]
fn a_transition_from_before_a_long_stop_is_void() {
    let mut simulation = Simulation::new();
    let requested_at = simulation.time().at;
    simulation.host.status.power_transition = Some(Box::new(PowerTransition::new(PowerOperation::Off, requested_at)));
    simulation.second = 700;
    simulation.follow();
    assert_eq!(ended(simulation.polled(Power::On).1), Some(TransitionState::Failed));
    assert_eq!(simulation.polled(Power::On).0, 60);
}

#[test]
fn a_request_in_progress_stays_when_the_console_is_wanted() {
    let mut simulation = Simulation::new();
    simulation.follow();
    let (_, task) = simulation.next_request();
    simulation.host.spec.bmc.as_mut().unwrap().console = true;
    simulation.follow();
    assert!(simulation.poller.next(simulation.time().now).is_none(), "one request at a time");
    assert_eq!(simulation.answer(task, Ok(Some(Power::On))).unwrap().power, Some(Power::On));
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
fn many_machines_are_switched_on_one_after_the_other() {
    let mut simulation = Simulation::new();
    let time = simulation.time();
    simulation.host.status.power_transition = Some(Box::new(PowerTransition::new(PowerOperation::On, time.at)));
    for number in 1..=9 {
        simulation.host.spec.boot_mac_address = Mac([2, 0, 0, 0, 0, number]);
        simulation.poller.follow(&simulation.host.clone(), false, time);
    }
    let mut switched = Vec::new();
    for step in 0..100 {
        let now = time.now + POWER_ON_INTERVAL / 10 * step;
        while let Some(BmcRequest { mac, bmc, task, .. }) = simulation.poller.next(now) {
            let outcome = match task {
                PowerTask::Poll => Ok(Some(Power::Off)),
                PowerTask::Reset(_) | PowerTask::SetBootDevice(..) => Ok(None),
            };
            if task == PowerTask::Reset(Reset::On) {
                switched.push(step);
            }
            simulation.poller.answered(mac, &bmc, BmcAnswer { task, outcome, learnt: None }, PollTime { now, ..time });
        }
    }
    assert_eq!(switched, [0, 10, 20, 30, 40, 50, 60, 70, 80]);
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
    simulation.request(PowerOperation::On);
    assert_eq!(simulation.poller.next(simulation.time().now).unwrap().mac, MAC);
}

#[test]
fn bmcs_that_hang_leave_places_for_the_others() {
    let mut simulation = Simulation::new();
    let time = simulation.time();
    let mac = |number| Mac([2, 0, 0, 0, 1, number]);
    simulation.host.status.power_transition = Some(Box::new(PowerTransition::new(PowerOperation::On, time.at)));
    for number in 0..200 {
        simulation.host.spec.boot_mac_address = mac(number);
        simulation.poller.follow(&simulation.host.clone(), false, time);
    }
    let begun = |simulation: &mut Simulation, now| -> Vec<(Mac, Bmc, PowerTask)> {
        std::iter::from_fn(|| simulation.poller.next(now)).map(|begun| (begun.mac, begun.bmc, begun.task)).collect()
    };
    let all = begun(&mut simulation, time.now);
    assert_eq!(all.len(), 200, "nobody has failed yet");
    for (mac, bmc, task) in all {
        let answer = BmcAnswer { task, outcome: Err(no_answer()), learnt: None };
        simulation.poller.answered(mac, &bmc, answer, time);
    }
    let later = PollTime { now: time.now + Duration::from_secs(15), ..time };
    let hanging = begun(&mut simulation, later.now);
    assert_eq!(hanging.len(), MAX_FAILING_REQUESTS);
    simulation.host.spec.boot_mac_address = mac(255);
    simulation.poller.follow(&simulation.host.clone(), false, later);
    let next: Vec<_> = begun(&mut simulation, later.now).into_iter().map(|(mac, ..)| mac).collect();
    assert_eq!(next, [mac(255)], "a machine whose BMC may answer");
    let (first, bmc, task) = hanging[0].clone();
    simulation.poller.answered(first, &bmc, BmcAnswer { task, outcome: Err(no_answer()), learnt: None }, later);
    assert_eq!(begun(&mut simulation, later.now).len(), 1, "its place is free");
}
