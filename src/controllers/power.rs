//! Polls the BMCs of all hosts, and switches machines on and off as `bmc::power_poller` decides.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::{Duration, Instant};

use tokio::sync::watch;
use tokio::task::JoinSet;

use crate::boot::diagnosis::{Progress, Step};
use crate::event::Event;
use crate::event::power_report::PowerReport;
use crate::fleet::{
    Bmc, BootDevice, BootDeviceRecord, FirmwareMode, Host, Mac, Object, Power, PowerTransition, Reset, TransitionState,
};
use crate::gate::Gate;
use crate::gate::media::MediaError;
use crate::store::{Change, ChangeKind, Store, now};

use crate::bmc::BmcError;
use crate::bmc::client::{BmcClient, BmcPolicy, MediumUrls};
use crate::bmc::poll_time::PollTime;
use crate::bmc::power_poller::{BmcAnswer, BmcRequest, PowerPoller, PowerTask};
use crate::bmc::wake_on_lan;

/// Maximum number of concurrent requests to BMCs. It also limits the inrush current of machines that are switched on
/// at the same time.
const MAX_CONCURRENT_REQUESTS: usize = 32;
/// Interval in which due polls and changes of hosts are processed.
const TICK_INTERVAL: Duration = Duration::from_millis(250);
/// Maximum time from a power-on to the poll that shows it, with the random deviation of the interval.
const REPORT_DELAY: Duration = Duration::from_secs(80);
/// Maximum number of changes that are processed at a time.
const MAX_CHANGES: usize = 1024;

/// The answer of one BMC.
type Answered = (Mac, Bmc, BmcAnswer);

/// Polls the BMCs of all hosts and carries out power transitions, until stopped.
pub async fn serve(gate: Arc<Gate>, mut stopped: watch::Receiver<bool>) {
    let store = gate.store.clone();
    let policy = BmcPolicy { pins_certificates: gate.site().pins_bmc_certificates };
    let mut poller = PowerPoller::default();
    let mut version = follow_all(&store, &mut poller);
    let mut requests: JoinSet<Answered> = JoinSet::new();
    let mut tick = tokio::time::interval(TICK_INTERVAL);
    tick.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
    loop {
        tokio::select! {
            _ = tick.tick() => version = follow_changes(&store, &mut poller, version),
            Some(done) = requests.join_next(), if !requests.is_empty() => match done {
                Ok((mac, bmc, answer)) => {
                    if let Some(report) = poller.answered(mac, &bmc, answer, poll_time()) {
                        trace_report(&gate, mac, &report);
                        commit_report(&store, &mut poller, mac, report).await;
                    }
                }
                Err(error) => tracing::error!(%error, "BMC request panicked"),
            },
            () = async { drop(stopped.wait_for(|stop| *stop).await) } => return,
        }
        while let Some((mac, request)) = poller.next_wake(Instant::now()) {
            wake(&gate, &mut poller, mac, &request).await;
        }
        start_due(&mut requests, &gate, &mut poller, policy, Instant::now());
    }
}

/// Wakes a machine without a BMC, over all networks of this server, and records it.
async fn wake(gate: &Gate, poller: &mut PowerPoller, mac: Mac, request: &PowerTransition) {
    let mut report = PowerReport::without_bmc();
    // An interface and a subnet may name one network.
    let broadcasts: BTreeSet<_> = gate.site().nets.iter().map(|net| net.broadcast()).collect();
    let failure = match request.time_left(now()) {
        None => Some(("TimedOut", "the server was stopped at the time of the request".to_owned())),
        Some(_) => match wake_on_lan::wake(mac, &broadcasts).await {
            Ok(networks) => {
                gate.trace(mac, Step::WakeSent);
                report.events.push(Event::WakeOnLanSent { networks });
                None
            }
            Err(error) => Some(("NotSent", format!("cannot send Wake-on-LAN packets: {error}"))),
        },
    };
    let state = if failure.is_some() { TransitionState::Failed } else { TransitionState::Sent };
    let mut ended = request.ended(state, now());
    if let Some((reason, message)) = failure {
        let message = format!("not woken: {message}");
        report.events.push(Event::Warning { image: None, message: message.clone() });
        (ended.reason, ended.message) = (reason.to_owned(), message);
    }
    report.transition = Some(Box::new(ended));
    commit_report(&gate.store, poller, mac, report).await;
}

/// Starts the requests that are due, as far as there are places for them.
fn start_due(
    requests: &mut JoinSet<Answered>,
    gate: &Arc<Gate>,
    poller: &mut PowerPoller,
    policy: BmcPolicy,
    now: Instant,
) {
    while requests.len() < MAX_CONCURRENT_REQUESTS
        && let Some(BmcRequest { mac, bmc, record, task }) = poller.next(now)
    {
        let gate = gate.clone();
        requests.spawn(async move {
            let mut client = BmcClient::new(&bmc, record.as_ref(), policy, crate::store::now());
            let outcome = send(&gate, mac, &mut client, task).await;
            let learnt = client.learnt().cloned();
            (mac, bmc, BmcAnswer { task, outcome, learnt })
        });
    }
}

/// Sends one request to a BMC. Returns the power state for a poll.
async fn send(gate: &Arc<Gate>, mac: Mac, client: &mut BmcClient, task: PowerTask) -> Result<Option<Power>, BmcError> {
    match task {
        PowerTask::Poll => client.read_power().await.map(Some),
        PowerTask::Reset(reset) => client.reset(reset).await.map(|()| None),
        PowerTask::SetBootDevice(BootDevice::Cd, mode) => boot_medium(gate, mac, client, mode).await.map(|()| None),
        PowerTask::SetBootDevice(BootDevice::Disk, mode) => {
            let host = gate.store.load().host_by_mac(mac);
            if host.is_some_and(|host| host.spec.bmc.as_ref().is_some_and(Bmc::boots_virtual_media))
                && let Err(error) = client.eject_medium(&gate.site().media_urls()).await
            {
                tracing::warn!(%mac, %error, "failed to eject the virtual medium");
            }
            client.set_boot_device(BootDevice::Disk, true, mode).await.map(|()| None)
        }
        PowerTask::SetBootDevice(device, mode) => client.set_boot_device(device, true, mode).await.map(|()| None),
    }
}

/// Inserts the host's view of its image into its virtual drive, and boots that once. It begins the boot as a script would.
async fn boot_medium(
    gate: &Arc<Gate>,
    mac: Mac,
    client: &mut BmcClient,
    mode: Option<FirmwareMode>,
) -> Result<(), BmcError> {
    let unavailable = |error: MediaError| BmcError::Unsupported { at: "the image".to_owned(), what: error.to_string() };
    let lease = gate.insert(mac).await.map_err(unavailable)?;
    let urls: Vec<_> = gate.site().urls().into_iter().map(|base| format!("{base}/{}", lease.path)).collect();
    let [http, https @ ..] = urls.as_slice() else { return Ok(()) };
    let urls = MediumUrls { http, https: https.first().map(String::as_str), token: lease.token() };
    client.boot_medium(urls, mode).await
}

/// Records what a report shows of the machine's boot.
fn trace_report(gate: &Gate, mac: Mac, report: &PowerReport) {
    let (was, is_changing) = gate
        .store
        .load()
        .host_by_mac(mac)
        .map_or((None, false), |host| (host.status.power, host.status.power_transition.is_some()));
    let transition = report.transition.as_deref();
    let is_ended =
        |change: &PowerTransition| matches!(change.state, TransitionState::Failed | TransitionState::Confirmed);
    let is_final = transition.map_or(!is_changing, is_ended) && !is_busy(report);
    let is_repeated = report.transition.as_ref().is_some_and(|transition| transition.tries > 1);
    let is_network = |set: &BootDeviceRecord| set.device == BootDevice::Network && set.error.is_empty();
    if report.boot_device.as_deref().is_some_and(is_network) {
        gate.trace(mac, Step::NetworkBootSet);
    }
    for event in &report.events {
        match event {
            // A further try, because nothing happened, begins no other boot.
            Event::PowerSwitched { reset } if !is_repeated => {
                Reset::of_word(reset).into_iter().for_each(|reset| gate.trace_reset(mac, reset));
            }
            Event::BmcFailed { message } => {
                gate.trace(mac, Step::BmcFailed { message: message.as_str().into(), is_final });
            }
            _ => {}
        }
    }
    // A refusal for now is no event, and keeps the machine from its boot.
    if let Some(change) = transition.filter(|change| change.waits_for_bmc()) {
        gate.trace(mac, Step::BmcFailed { message: change.message.as_str().into(), is_final: false });
    }
    // What this server asked for was recorded when the BMC accepted it.
    let is_answer = transition.is_some_and(|change| change.accepted.is_some_and(|done| done.reset.begins_boot()));
    match (was, report.power) {
        (Some(Power::Off), Some(Power::On)) if !is_answer && !is_booting(gate, mac) => gate.trace(mac, Step::PoweredOn),
        (Some(Power::On), Some(Power::Off)) => gate.trace_off(mac),
        _ => {}
    }
}

/// Returns whether the BMC refuses for now only, and is asked again.
fn is_busy(report: &PowerReport) -> bool {
    let busy = BmcError::BUSY;
    let is_given_up = |change: &PowerTransition| change.state == TransitionState::Failed;
    match (&report.transition, &report.error) {
        (Some(change), _) => change.reason == busy && !is_given_up(change),
        (None, Some(error)) => error.reason == busy,
        (None, None) => false,
    }
}

/// Returns whether the begin of the boot was seen since the last poll of the BMC: the power-on is reported late.
fn is_booting(gate: &Gate, mac: Mac) -> bool {
    let seen = gate.traces.look_up(mac).and_then(|machine| machine.progress);
    seen.is_some_and(|(reached, last)| {
        reached >= Progress::Power && gate.traces.now().saturating_sub(last) < REPORT_DELAY
    })
}

/// Writes a report to the store. After a failure the host is polled again, which repeats the report.
async fn commit_report(store: &Store, poller: &mut PowerPoller, mac: Mac, report: PowerReport) {
    let committed = store.commit(Change::PowerReported { mac, report: Box::new(report) }).await;
    if let Err(error) = committed {
        tracing::warn!(%error, %mac, "failed to record the power state");
        poller.forget(mac);
        if let Some(host) = store.load().host_by_mac(mac) {
            follow_host(poller, &host, true);
        }
    }
}

/// Follows all hosts. Returns the version of their snapshot.
fn follow_all(store: &Store, poller: &mut PowerPoller) -> u64 {
    let state = store.snapshot();
    // A host that was only seen has no BMC.
    poller.retain(|mac| state.has_host(mac) && !state.is_only_seen(mac));
    for host in state.whole_hosts() {
        follow_host(poller, host, true);
    }
    state.version
}

/// Follows the changes of hosts since a version. Returns the new version.
fn follow_changes(store: &Store, poller: &mut PowerPoller, mut version: u64) -> u64 {
    while store.load().version > version {
        let Ok(records) = store.since(version, MAX_CHANGES) else { return follow_all(store, poller) };
        let Some(last) = records.last() else { return version };
        version = last.version;
        for record in records {
            let Object::Host(host) = &record.object else { continue };
            if let Some(Object::Host(before)) = &record.before
                && before.spec.boot_mac_address != host.spec.boot_mac_address
            {
                poller.forget(before.spec.boot_mac_address);
            }
            match record.operation {
                ChangeKind::Added | ChangeKind::Modified => follow_host(poller, host, false),
                ChangeKind::Deleted => poller.forget(host.spec.boot_mac_address),
            }
        }
    }
    version
}

/// Follows one host. Hosts without a BMC, which most changes concern, need no time and no random number.
fn follow_host(poller: &mut PowerPoller, host: &Host, is_start: bool) {
    match &host.spec.bmc {
        Some(_) => poller.follow(host, is_start, poll_time()),
        None if host.status.power_transition.is_some() => poller.follow_wake(host, poll_time()),
        None => poller.forget(host.spec.boot_mac_address),
    }
}

fn poll_time() -> PollTime {
    let random = uuid::Uuid::new_v4().as_fields().0;
    PollTime { now: Instant::now(), at: now(), random }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::fleet::{HostSpec, HostStatus, Meta, Secret};
    use crate::gate::fixture::{Fixture, VM};

    #[tokio::test]
    async fn a_power_on_that_is_reported_late_begins_no_boot() {
        let fixture = Fixture::new("hold");
        let bmc = serde_json::json!({"address": "redfish://10.0.0.9", "username": "u", "password": "p"});
        fixture.put_vm(serde_json::json!({"bmc": bmc})).await;
        let bmc = fixture.vm().spec.bmc.clone().unwrap();
        let report = |power| PowerReport { power: Some(power), ..PowerReport::new(&bmc) };
        let change = Change::PowerReported { mac: VM, report: Box::new(report(Power::Off)) };
        fixture.gate.store.commit(change).await.unwrap();
        let count = || {
            let steps = fixture.gate.traces.look_up(VM).map(|machine| machine.steps).unwrap_or_default();
            steps.iter().filter(|evidence| evidence.step == Step::PoweredOn).count()
        };
        trace_report(&fixture.gate, VM, &report(Power::On));
        assert_eq!(count(), 1, "nothing was heard of it");
        fixture.gate.trace(VM, Step::FileRequested { file: "a".into(), port: 1 });
        (0..9).for_each(|_| fixture.gate.trace(VM, Step::Completed));
        trace_report(&fixture.gate, VM, &report(Power::On));
        assert_eq!(count(), 1, "it boots already");
    }

    #[tokio::test]
    async fn what_this_server_switches_is_counted_once() {
        let fixture = Fixture::new("hold");
        let bmc = serde_json::json!({"address": "redfish://10.0.0.9", "username": "u", "password": "p"});
        fixture.put_vm(serde_json::json!({"bmc": bmc})).await;
        let bmc = fixture.vm().spec.bmc.clone().unwrap();
        let report = |power| PowerReport { power: Some(power), ..PowerReport::new(&bmc) };
        let switched = |reset: Reset| PowerReport {
            events: vec![Event::PowerSwitched { reset: reset.word().to_owned() }],
            ..PowerReport::new(&bmc)
        };
        let apply = async |report: PowerReport| {
            trace_report(&fixture.gate, VM, &report);
            let change = Change::PowerReported { mac: VM, report: Box::new(report) };
            fixture.gate.store.commit(change).await.unwrap();
        };
        for next in [report(Power::Off), switched(Reset::On), report(Power::On), switched(Reset::ForceOff)] {
            apply(next).await;
        }
        apply(report(Power::Off)).await;
        let failed = Event::BmcFailed { message: "no answer".to_owned() };
        apply(PowerReport { events: vec![failed], ..PowerReport::new(&bmc) }).await;
        let steps = fixture.gate.traces.look_up(VM).unwrap().steps;
        let found: Vec<_> = steps.into_iter().map(|evidence| (evidence.step, evidence.count)).collect();
        let failed = Step::BmcFailed { message: "no answer".into(), is_final: true };
        assert_eq!(found, [(Step::PoweredOn, 1), (Step::PoweredOff, 2), (failed, 1)]);
    }

    #[tokio::test]
    async fn a_refusal_for_now_is_a_step_until_it_is_given_up() {
        let fixture = Fixture::new("hold");
        let bmc = serde_json::json!({"address": "redfish://10.0.0.9", "username": "u", "password": "p"});
        fixture.put_vm(serde_json::json!({"bmc": bmc})).await;
        let bmc = fixture.vm().spec.bmc.clone().unwrap();
        let mut change = PowerTransition::new(crate::fleet::PowerOperation::On, crate::store::now());
        (change.reason, change.message) = (BmcError::BUSY.to_owned(), "in POST".to_owned());
        for state in [TransitionState::Asked, TransitionState::Failed] {
            change.state = state;
            let report = PowerReport { transition: Some(Box::new(change.clone())), ..PowerReport::new(&bmc) };
            trace_report(&fixture.gate, VM, &report);
        }
        let steps = fixture.gate.traces.look_up(VM).unwrap().steps;
        let found: Vec<_> = steps.into_iter().map(|evidence| (evidence.step, evidence.count)).collect();
        assert_eq!(found, [(Step::BmcFailed { message: "in POST".into(), is_final: false }, 1)]);
    }

    #[tokio::test]
    async fn a_bounded_number_of_requests_is_under_way() {
        let fixture = Fixture::new("hold");
        let gate = fixture.gate.clone();
        let (mut poller, mut requests) = (PowerPoller::default(), JoinSet::new());
        let time = poll_time();
        for last in 0..=u8::MAX {
            let mut spec = HostSpec::for_mac(Mac([2, 0, 0, 0, 0, last]));
            spec.bmc =
                Some(Bmc::new(format!("redfish+http://127.0.0.1:{}/x", 1 + u16::from(last)), "u", Secret("p".into())));
            let metadata = Meta::named(format!("h{last}").parse().unwrap(), None);
            poller.follow(&Host { metadata, spec, status: HostStatus::default() }, false, time);
        }
        // No request has run yet: the test does not wait for anything in between.
        let later = time.now + Duration::from_secs(3600);
        start_due(&mut requests, &gate, &mut poller, BmcPolicy { pins_certificates: true }, later);
        assert_eq!(requests.len(), MAX_CONCURRENT_REQUESTS);
        requests.detach_all();
        start_due(&mut requests, &gate, &mut poller, BmcPolicy { pins_certificates: true }, later);
        assert_eq!(requests.len(), MAX_CONCURRENT_REQUESTS, "the next ones");
        requests.abort_all();
    }
}
