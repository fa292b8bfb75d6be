use std::fmt::Write;
use std::sync::atomic::Ordering;

use hyper::StatusCode;
use hyper::header::HeaderValue;

use crate::boot::{DropReason, Reason};
use crate::event::Protocol;
use crate::fleet::Phase;

use crate::api::state::Shared;
use crate::http::reply::{Reply, bytes};

/// Answers `/metrics` in Prometheus' text format (version 0.0.4).
pub async fn metrics(shared: &Shared) -> Reply {
    let mut out = String::with_capacity(4096);
    let counters = &shared.gate.counters;
    let mut family = |name: &str, help: &str, rows: Vec<(&str, &str, u64)>| {
        let _ = writeln!(out, "# HELP bootlatch_{name}_total {help}\n# TYPE bootlatch_{name}_total counter");
        for (protocol, reason, count) in rows.into_iter().filter(|row| row.2 > 0) {
            let reason = if reason.is_empty() { String::new() } else { format!(",reason=\"{reason}\"") };
            let _ = writeln!(out, "bootlatch_{name}_total{{protocol=\"{protocol}\"{reason}}} {count}");
        }
    };
    let answered = Protocol::ALL.map(|protocol| (protocol.as_str(), "", counters.answered(protocol)));
    family("answered", "Requests of machines that were answered.", answered.to_vec());
    let refused = |protocol: Protocol| {
        let row = move |reason: &Reason| (protocol.as_str(), reason.code(), counters.refused(protocol, *reason));
        Reason::ALL.iter().map(row)
    };
    let refused = Protocol::ALL.into_iter().flat_map(refused).collect();
    family("refused", "Requests that a decision refused, by reason.", refused);
    let dropped = |protocol: Protocol| {
        let row = move |reason: &DropReason| (protocol.as_str(), reason.code(), counters.dropped(protocol, *reason));
        DropReason::ALL.iter().map(row)
    };
    let overflow = counters.socket_receive_drops.load(Ordering::Relaxed);
    let overflow = std::iter::once(("kernel", "receive buffer full", overflow));
    let dropped = Protocol::ALL.into_iter().flat_map(dropped).chain(overflow).collect();
    family("dropped", "Packets and requests that never reached a decision, by reason.", dropped);
    let found = vec![("dhcp", "another boot server", counters.rogue_dhcp_servers.load(Ordering::Relaxed))];
    family("found", "Other boot servers that appeared on our networks.", found);
    let state = shared.gate.store.snapshot();
    let mut phases = [0usize; Phase::ALL.len()];
    for host in state.hosts() {
        phases[host.status.phase as usize] += 1;
    }
    out.push_str("# HELP bootlatch_hosts Hosts by phase.\n# TYPE bootlatch_hosts gauge\n");
    for phase in Phase::ALL {
        let _ = writeln!(out, "bootlatch_hosts{{phase=\"{phase}\"}} {}", phases[phase as usize]);
    }
    let lost = shared.gate.store.lost_entries();
    let _ = writeln!(
        out,
        "# HELP bootlatch_timeline_lost_total Timeline entries lost because too many came at once.\n\
         # TYPE bootlatch_timeline_lost_total counter\nbootlatch_timeline_lost_total {lost}\n\
         # HELP bootlatch_resource_version Version of the newest change.\n\
         # TYPE bootlatch_resource_version gauge\nbootlatch_resource_version {}",
        state.version
    );
    bytes(StatusCode::OK, HeaderValue::from_static("text/plain; version=0.0.4; charset=utf-8"), out)
}
