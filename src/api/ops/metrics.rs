use std::fmt::Write;

use hyper::StatusCode;
use hyper::header::HeaderValue;

use crate::fleet::Phase;

use crate::http::listener::Shared;
use crate::http::reply::{Reply, bytes};

/// Answers `/metrics` in Prometheus' text format (version 0.0.4).
pub fn metrics(shared: &Shared) -> Reply {
    let mut out = String::with_capacity(4096);
    for (name, help) in [
        ("answered", "Requests of machines that were answered."),
        ("refused", "Requests that a decision sent away, by reason."),
        ("dropped", "Packets and requests that never reached a decision, by reason."),
        ("found", "Other boot servers that appeared on our networks."),
    ] {
        let _ = writeln!(out, "# HELP bootlatch_{name}_total {help}\n# TYPE bootlatch_{name}_total counter");
        for (_, protocol, reason, count) in shared.gate.counters.list().into_iter().filter(|row| row.0 == name) {
            let reason = if reason.is_empty() { String::new() } else { format!(",reason=\"{reason}\"") };
            let _ = writeln!(out, "bootlatch_{name}_total{{protocol=\"{protocol}\"{reason}}} {count}");
        }
    }
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
