//! The metrics, in Prometheus' text format (version 0.0.4).

use std::collections::BTreeMap;
use std::fmt;
use std::sync::atomic::Ordering;

use hyper::StatusCode;
use hyper::header::HeaderValue;
use prometheus_client::collector::Collector;
use prometheus_client::encoding::{DescriptorEncoder, prometheus_text};
use prometheus_client::metrics::MetricType;
use prometheus_client::metrics::exemplar::Exemplar;
use prometheus_client::registry::Registry;

use crate::api::ops::process::Process;
use crate::api::state::Shared;
use crate::boot::installer::InstallerSource;
use crate::boot::{DropReason, Reason};
use crate::event::{BootOutcome, HistogramReading, HostCounters, LedgerStage, NotificationLoss, Protocol};
use crate::fleet::{Phase, Power, StallReason};
use crate::gate::degradations::Severity;
use crate::http::reply::{Reply, bytes};
use crate::store::Snapshot;
use crate::store::free_space::FreeSpace;

/// The media type of the format.
const TEXT: HeaderValue = HeaderValue::from_static("text/plain; version=0.0.4; charset=utf-8");

/// Answers `/metrics`.
pub async fn metrics(shared: &Shared) -> Reply {
    let directory = shared.gate.store.directory().to_owned();
    let state = shared.gate.store.snapshot();
    let read = move || (Process::read(), FreeSpace::at(&directory).ok(), BmcCounts::of(&state));
    let (process, space, bmcs) = tokio::task::spawn_blocking(read).await.unwrap_or_default();
    let mut registry = Registry::default();
    registry.register_collector(Box::new(Figures::of(shared, process, space, bmcs)));
    let mut out = String::with_capacity(32 * 1024);
    match prometheus_text::encode(&mut out, &registry) {
        Ok(()) => bytes(StatusCode::OK, TEXT, out),
        Err(error) => {
            tracing::error!(%error, "metrics not serializable");
            bytes(StatusCode::INTERNAL_SERVER_ERROR, TEXT, "")
        }
    }
}

/// A metric: its values with their labels. Counters are named without `_total`, which the encoder adds.
#[derive(Debug)]
struct Metric {
    name: &'static str,
    help: &'static str,
    values: FamilyValues,
}

#[derive(Debug)]
enum FamilyValues {
    Counter(Vec<(Labels, u64)>),
    Seconds(f64),
    Gauge(Vec<(Labels, u64)>),
    Time(f64),
    Histogram(HistogramReading),
    Histograms(Vec<(Labels, HistogramReading)>),
}

type Labels = Vec<(&'static str, String)>;

/// The numbers of BMCs and of machines with one.
#[derive(Debug, Default)]
struct BmcCounts {
    /// By state, in the order of `STATES`.
    states: [u64; 3],
    /// By the power of the machine: on, off, unknown.
    power: [u64; 3],
}

impl BmcCounts {
    /// The states of a BMC.
    const STATES: [&str; 3] = ["answering", "failing", "unknown"];

    fn of(state: &Snapshot) -> Self {
        let mut counts = Self::default();
        // A host that was only seen has no BMC.
        for host in state.whole_hosts().filter(|host| host.spec.bmc.is_some()) {
            let power = host.status.power.unwrap_or(Power::Unknown);
            let place = match (host.status.power_error.is_some(), power) {
                (true, _) => 1,
                (false, Power::On | Power::Off) => 0,
                (false, Power::Unknown) => 2,
            };
            counts.states[place] += 1;
            let place = match power {
                Power::On => 0,
                Power::Off => 1,
                Power::Unknown => 2,
            };
            counts.power[place] += 1;
        }
        counts
    }
}

/// All metrics at one time.
#[derive(Debug)]
struct Figures(Vec<Metric>);

impl Figures {
    fn of(shared: &Shared, process: Option<Process>, space: Option<FreeSpace>, bmcs: BmcCounts) -> Self {
        let mut figures = Self(Vec::new());
        figures.add_build();
        figures.add_requests(shared);
        figures.add_traffic(shared);
        figures.add_state(shared, space);
        figures.add_degradations(shared);
        figures.add_hosts(shared);
        figures.add_webhooks(shared);
        figures.add_power(&shared.gate.store.host_counters, bmcs);
        if let Some(process) = process {
            figures.add_process(process);
        }
        figures
    }

    fn add_build(&mut self) {
        let version = vec![("version", env!("CARGO_PKG_VERSION").to_owned())];
        self.gauges("bootlatch_build_info", "Version of the server; the value is always 1.", vec![(version, 1)]);
    }

    /// Adds the counters of requests. Each pair of protocol and reason has a value from the start: a counter that appears
    /// with its first count hides that count from `increase` and `rate`.
    fn add_requests(&mut self, shared: &Shared) {
        let counters = &shared.gate.counters;
        let (mut outcomes, mut refused, mut dropped) = (Vec::new(), Vec::new(), Vec::new());
        for protocol in Protocol::ALL {
            let name = || ("protocol", protocol.as_str().to_owned());
            let mut refusals = 0;
            for reason in Reason::ALL {
                let count = counters.refused(protocol, *reason);
                refusals += count;
                refused.push((vec![name(), ("reason", reason.code().to_owned())], count));
            }
            for reason in DropReason::ALL {
                let count = counters.dropped(protocol, *reason);
                dropped.push((vec![name(), ("reason", reason.code().to_owned())], count));
            }
            outcomes.push((vec![name(), ("outcome", "answered".to_owned())], counters.answered(protocol)));
            outcomes.push((vec![name(), ("outcome", "refused".to_owned())], refusals));
        }
        self.counters("bootlatch_requests", "Requests of machines that reached a decision, by outcome.", outcomes);
        self.counters("bootlatch_requests_refused", "Requests that a decision refused, by reason.", refused);
        let help = "Packets and requests that were dropped before a decision, by reason.";
        self.counters("bootlatch_packets_dropped", help, dropped);
        let drops = counters.socket_receive_drops.load(Ordering::Relaxed);
        let help = "Packets that the kernel dropped because a socket's receive buffer was full.";
        self.counter("bootlatch_socket_receive_drops", help, drops);
        let servers = counters.rogue_dhcp_servers.load(Ordering::Relaxed);
        self.counter("bootlatch_rogue_dhcp_servers_detected", "Appearances of other DHCP servers.", servers);
        let help = "Time from a request's head to its response, to the response's head where its body is streamed.";
        self.histogram("bootlatch_http_request_duration_seconds", help, counters.http_requests.read());
    }

    fn add_traffic(&mut self, shared: &Shared) {
        let counters = &shared.gate.counters;
        let help = "Bytes of files that TFTP sent in completed transfers.";
        self.counter("bootlatch_tftp_sent_bytes", help, counters.tftp_sent_bytes.load(Ordering::Relaxed));
        let lines = InstallerSource::ALL
            .map(|source| (vec![("source", source.code().to_owned())], counters.installer_lines(source)));
        self.counters("bootlatch_installer_lines", "Lines of installers in timelines, by source.", lines.into());
        let sessions = counters.iscsi_sessions.load(Ordering::Relaxed);
        self.gauge("bootlatch_iscsi_sessions", "Open iSCSI sessions.", sessions);
        let read = counters.iscsi_read_bytes.load(Ordering::Relaxed);
        self.counter("bootlatch_iscsi_read_bytes", "Bytes that iSCSI sessions sent to their initiators.", read);
    }

    fn add_state(&mut self, shared: &Shared, space: Option<FreeSpace>) {
        let store = &shared.gate.store;
        let state = store.snapshot();
        let now = crate::store::now();
        let leases = state.leases().filter(|lease| lease.is_bound_at(now)).count();
        self.gauge("bootlatch_dhcp_leases", "Bound DHCP leases.", leases.try_into().unwrap_or(u64::MAX));
        let help = "Timeline entries that were dropped because too many came at once.";
        self.counter("bootlatch_timeline_entries_dropped", help, store.dropped_entries());
        self.gauge("bootlatch_store_resource_version", "Resource version of the newest change.", state.version);
        let help = "Time from a change to its durable commit.";
        self.histogram("bootlatch_store_commit_duration_seconds", help, store.commit_durations.read());
        if let Some(FreeSpace { free, .. }) = space {
            self.gauge("bootlatch_state_free_bytes", "Free space on the state directory's file system.", free);
        }
    }

    /// Adds what keeps the server from serving as configured.
    fn add_degradations(&mut self, shared: &Shared) {
        let severity = |one: Severity| match one {
            Severity::Unserved => "unserved",
            Severity::Fault => "fault",
            Severity::Note => "note",
        };
        let mut counts = BTreeMap::new();
        for one in shared.gate.degradations.list() {
            *counts.entry((one.code, severity(one.severity))).or_default() += 1;
        }
        let label =
            |(code, severity): (&str, &str)| vec![("reason", code.to_owned()), ("severity", severity.to_owned())];
        let help = "States in which the server does not serve as configured, by reason.";
        let values = counts.into_iter().map(|(key, count)| (label(key), count)).collect();
        self.gauges("bootlatch_degradations", help, values);
    }

    /// Adds the phases and the boots of hosts, and the diagnoses of those that stall.
    fn add_hosts(&mut self, shared: &Shared) {
        let store = &shared.gate.store;
        let state = store.snapshot();
        let phases = state.phase_counts();
        let hosts = Phase::ALL.map(|phase| (vec![("phase", phase.to_string())], phases[phase as usize]));
        self.gauges("bootlatch_hosts", "Hosts by phase.", hosts.into());
        let entered = Phase::ALL.map(|phase| (vec![("phase", phase.to_string())], store.host_counters.phase(phase)));
        self.counters("bootlatch_phase_transitions", "Hosts that entered a phase.", entered.into());
        let standing = shared.gate.stalls.counts(|mac| state.is_declared(mac));
        let by_reason = |count: &dyn Fn(StallReason) -> u64| {
            StallReason::ALL.iter().map(|reason| (vec![("reason", reason.code().to_owned())], count(*reason))).collect()
        };
        let stalled = by_reason(&|reason| standing.get(&reason).copied().unwrap_or_default());
        self.gauges("bootlatch_hosts_stalled", "Hosts whose boot does not go on, by reason.", stalled);
        let help = "Boots that stalled, by the reason of their diagnosis.";
        self.counters("bootlatch_stalls", help, by_reason(&|reason| shared.gate.counters.stalls(reason)));
        let stage = |stage: &LedgerStage| {
            (vec![("stage", stage.code().to_owned())], shared.gate.counters.boot_stage(*stage).read())
        };
        let help = "Time that finished boots of declared hosts spent in a stage.";
        let stages = LedgerStage::ALL.iter().map(stage).collect();
        self.add("bootlatch_boot_stage_duration_seconds", help, FamilyValues::Histograms(stages));
        let boots = BootOutcome::ALL
            .iter()
            .map(|outcome| (vec![("outcome", outcome.code().to_owned())], store.host_counters.boots(*outcome)));
        let help = "Boots of declared hosts that ended, by the way in which they ended.";
        self.counters("bootlatch_boots_finished", help, boots.collect());
    }

    /// Adds the deliveries to webhooks.
    fn add_webhooks(&mut self, shared: &Shared) {
        let store = &shared.gate.store;
        let webhooks = shared.gate.counters.webhooks.get().map(Vec::as_slice).unwrap_or_default();
        let newest = *store.outbox_lines().borrow();
        let (mut attempts, mut lost, mut queued) = (Vec::new(), Vec::new(), Vec::new());
        for webhook in webhooks {
            let name = || ("webhook", webhook.name.clone());
            for (outcome, count) in [("delivered", &webhook.delivered), ("failed", &webhook.failed)] {
                attempts.push((vec![name(), ("outcome", outcome.to_owned())], count.load(Ordering::Relaxed)));
            }
            for reason in NotificationLoss::ALL {
                lost.push((vec![name(), ("reason", reason.code().to_owned())], webhook.lost(reason)));
            }
            let waiting = newest - webhook.position.load(Ordering::Relaxed);
            queued.push((vec![name()], waiting.try_into().unwrap_or_default()));
        }
        let help = "Attempts to deliver a notification to a webhook, by outcome.";
        self.counters("bootlatch_webhook_attempts", help, attempts);
        let help = "Notifications that a webhook was not told, by reason.";
        self.counters("bootlatch_webhook_notifications_dropped", help, lost);
        self.gauges("bootlatch_webhook_queue_length", "Notifications that wait for a webhook.", queued);
        let help = "Notifications about undeclared machines that were not queued: there were too many.";
        self.counter("bootlatch_webhook_notifications_unqueued", help, store.host_counters.unqueued());
    }

    /// Adds the power of machines and the health of their BMCs.
    fn add_power(&mut self, counters: &HostCounters, bmcs: BmcCounts) {
        let power = [Power::On, Power::Off, Power::Unknown].into_iter().zip(bmcs.power);
        let power = power.map(|(power, count)| (vec![("power", power.as_str().to_owned())], count));
        self.gauges("bootlatch_hosts_power", "Hosts with a BMC by power state.", power.collect());
        let states = BmcCounts::STATES.into_iter().zip(bmcs.states);
        let states = states.map(|(state, count)| (vec![("state", state.to_owned())], count)).collect();
        self.gauges("bootlatch_bmcs", "BMCs by whether they answer.", states);
        let help = "Changes of a machine's power that its BMC reported, by the new state.";
        let transitions = counters.power_transitions();
        let transitions = transitions.map(|(power, count)| (vec![("power", power.as_str().to_owned())], count));
        self.counters("bootlatch_power_transitions", help, transitions.into());
        let resets = counters.resets().map(|(reset, count)| (vec![("reset", reset.to_owned())], count));
        let help = "Power requests that BMCs accepted, by reset type.";
        self.counters("bootlatch_power_requests", help, resets.collect());
        let help = "Failures of BMCs that were recorded in timelines.";
        self.counter("bootlatch_bmc_failures", help, counters.bmc_failures());
    }

    fn add_process(&mut self, process: Process) {
        let Process { cpu_seconds, resident_bytes, open_fds, max_fds, start_seconds } = process;
        self.add("process_cpu_seconds", "User and system CPU time, in seconds.", FamilyValues::Seconds(cpu_seconds));
        self.gauge("process_resident_memory_bytes", "Resident memory, in bytes.", resident_bytes);
        self.gauge("process_open_fds", "Open file descriptors.", open_fds);
        if let Some(max_fds) = max_fds {
            self.gauge("process_max_fds", "Maximum number of open file descriptors.", max_fds);
        }
        let help = "Start of the process, in seconds since 1970.";
        self.add("process_start_time_seconds", help, FamilyValues::Time(start_seconds));
    }

    fn counter(&mut self, name: &'static str, help: &'static str, value: u64) {
        self.counters(name, help, vec![(Vec::new(), value)]);
    }

    fn counters(&mut self, name: &'static str, help: &'static str, values: Vec<(Labels, u64)>) {
        self.add(name, help, FamilyValues::Counter(values));
    }

    fn gauge(&mut self, name: &'static str, help: &'static str, value: u64) {
        self.gauges(name, help, vec![(Vec::new(), value)]);
    }

    fn gauges(&mut self, name: &'static str, help: &'static str, values: Vec<(Labels, u64)>) {
        self.add(name, help, FamilyValues::Gauge(values));
    }

    fn histogram(&mut self, name: &'static str, help: &'static str, reading: HistogramReading) {
        self.add(name, help, FamilyValues::Histogram(reading));
    }

    fn add(&mut self, name: &'static str, help: &'static str, values: FamilyValues) {
        self.0.push(Metric { name, help, values });
    }
}

impl Collector for Figures {
    fn encode(&self, mut encoder: DescriptorEncoder<'_>) -> fmt::Result {
        self.0.iter().try_for_each(|metric| metric.encode(&mut encoder))
    }
}

impl Metric {
    fn encode(&self, encoder: &mut DescriptorEncoder<'_>) -> fmt::Result {
        const NO_EXEMPLAR: Option<&Exemplar<Labels, u64>> = None;
        let kind = match &self.values {
            FamilyValues::Counter(_) | FamilyValues::Seconds(_) => MetricType::Counter,
            FamilyValues::Gauge(_) | FamilyValues::Time(_) => MetricType::Gauge,
            FamilyValues::Histogram(_) | FamilyValues::Histograms(_) => MetricType::Histogram,
        };
        let mut metric = encoder.encode_descriptor(self.name, self.help, None, kind)?;
        match &self.values {
            FamilyValues::Counter(rows) => rows.iter().try_for_each(|(labels, value)| match labels.is_empty() {
                true => metric.encode_counter(value, NO_EXEMPLAR),
                false => metric.encode_family(labels)?.encode_counter(value, NO_EXEMPLAR),
            }),
            FamilyValues::Gauge(rows) => rows.iter().try_for_each(|(labels, value)| match labels.is_empty() {
                true => metric.encode_gauge(value),
                false => metric.encode_family(labels)?.encode_gauge(value),
            }),
            FamilyValues::Seconds(value) => metric.encode_counter(value, NO_EXEMPLAR),
            FamilyValues::Time(value) => metric.encode_gauge(value),
            FamilyValues::Histogram(HistogramReading { sum, count, buckets }) => {
                metric.encode_histogram::<Labels>(*sum, *count, buckets, None)
            }
            FamilyValues::Histograms(rows) => {
                rows.iter().try_for_each(|(labels, HistogramReading { sum, count, buckets })| {
                    metric.encode_family(labels)?.encode_histogram::<Labels>(*sum, *count, buckets, None)
                })
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use serde_json::json;

    use super::*;
    use crate::api::fixture::{ApiFixture, host};
    use crate::fleet::Kind;

    #[tokio::test]
    async fn the_metrics_are_in_prometheus_text_format() {
        let fixture = ApiFixture::new();
        fixture.put(Kind::BareMetalHost, host(json!({}))).await;
        let counters = &fixture.shared.gate.counters;
        counters.count_answered(Protocol::Dhcp);
        counters.count_refused(Protocol::Tftp, Reason::NoConfig, None);
        counters.count_dropped(Protocol::Iscsi, DropReason::Truncated, None);
        counters.http_requests.record(Duration::from_millis(3));
        counters.boot_stage(LedgerStage::Dhcp).record(Duration::from_secs(4));
        let reply = fixture.machine("GET", "/metrics").await;
        assert_eq!(reply.headers()["content-type"], "text/plain; version=0.0.4; charset=utf-8");
        let text = std::str::from_utf8(reply.body()).unwrap();
        for line in [
            "# TYPE bootlatch_requests_total counter",
            "bootlatch_requests_total{protocol=\"dhcp\",outcome=\"answered\"} 1",
            "bootlatch_requests_total{protocol=\"tftp\",outcome=\"refused\"} 1",
            "bootlatch_requests_refused_total{protocol=\"tftp\",reason=\"no_config\"} 1",
            "bootlatch_requests_refused_total{protocol=\"http\",reason=\"store_unavailable\"} 0",
            "bootlatch_packets_dropped_total{protocol=\"iscsi\",reason=\"truncated\"} 1",
            "bootlatch_packets_dropped_total{protocol=\"dhcp\",reason=\"overload\"} 0",
            "bootlatch_socket_receive_drops_total 0",
            "bootlatch_rogue_dhcp_servers_detected_total 0",
            "bootlatch_timeline_entries_dropped_total 0",
            "bootlatch_hosts{phase=\"Installed\"} 0",
            "bootlatch_phase_transitions_total{phase=\"LocalBoot\"} 1",
            "bootlatch_phase_transitions_total{phase=\"Failed\"} 0",
            "bootlatch_boots_finished_total{outcome=\"installed\"} 0",
            "bootlatch_hosts_power{power=\"unknown\"} 0",
            "bootlatch_bmcs{state=\"failing\"} 0",
            "bootlatch_power_transitions_total{power=\"on\"} 0",
            "bootlatch_power_requests_total{reset=\"ForceOff\"} 0",
            "bootlatch_bmc_failures_total 0",
            "bootlatch_store_resource_version 1",
            "bootlatch_store_commit_duration_seconds_count 1",
            "# TYPE bootlatch_http_request_duration_seconds histogram",
            "bootlatch_http_request_duration_seconds_count 1",
            "bootlatch_http_request_duration_seconds_bucket{le=\"+Inf\"} 1",
            "bootlatch_http_request_duration_seconds_bucket{le=\"0.0025\"} 0",
            "bootlatch_http_request_duration_seconds_bucket{le=\"0.005\"} 1",
            "# TYPE bootlatch_boot_stage_duration_seconds histogram",
            "bootlatch_boot_stage_duration_seconds_count{stage=\"dhcp\"} 1",
            "bootlatch_boot_stage_duration_seconds_sum{stage=\"dhcp\"} 4.0",
            "bootlatch_boot_stage_duration_seconds_bucket{stage=\"dhcp\",le=\"5\"} 1",
            "bootlatch_boot_stage_duration_seconds_bucket{stage=\"dhcp\",le=\"2.5\"} 0",
            "bootlatch_boot_stage_duration_seconds_count{stage=\"system\"} 0",
            "bootlatch_tftp_sent_bytes_total 0",
            "bootlatch_installer_lines_total{source=\"cloud_init\"} 0",
            "bootlatch_packets_dropped_total{protocol=\"syslog\",reason=\"untied_source\"} 0",
            "bootlatch_iscsi_sessions 0",
            "bootlatch_iscsi_read_bytes_total 0",
            "bootlatch_dhcp_leases 0",
            "# TYPE process_cpu_seconds_total counter",
        ] {
            assert!(text.lines().any(|found| found == line), "{line} is not in:\n{text}");
        }
        let version = format!("bootlatch_build_info{{version=\"{}\"}} 1", env!("CARGO_PKG_VERSION"));
        for start in [&version, "bootlatch_state_free_bytes ", "process_resident_memory_bytes ", "process_open_fds "] {
            assert!(text.lines().any(|line| line.starts_with(start)), "{start} is not in:\n{text}");
        }
    }
}
