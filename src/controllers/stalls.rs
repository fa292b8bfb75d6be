//! Looks at machines whose boot may not go on, makes their diagnosis known, and records the boots that ended.

use std::cell::OnceCell;
use std::collections::{HashMap, HashSet};
use std::net::IpAddr;
use std::sync::Arc;
use std::time::Duration;

use tokio::sync::watch;

use crate::boot::diagnosis::Outcome;
use crate::gate::Gate;
use crate::gate::boot_traces::DueMachine;

/// Interval between looks.
const LOOK_INTERVAL: Duration = Duration::from_secs(1);
/// The kernel's table of IPv4 connections.
const CONNECTIONS: &str = "/proc/net/tcp";
/// The state of a connection that waits for the last packet of its handshake (TCP_SYN_RECV, TCP_NEW_SYN_RECV).
const HALF_OPEN: [&str; 2] = ["03", "0C"];

/// Looks at machines until stopped.
pub async fn watch(gate: Arc<Gate>, mut stopped: watch::Receiver<bool>) {
    gate.restore_stalls();
    let mut tick = tokio::time::interval(LOOK_INTERVAL);
    tick.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
    loop {
        tokio::select! {
            _ = tick.tick() => {}
            _ = stopped.wait_for(|stop| *stop) => return gate.record_last_boots(),
        }
        look(&gate).await;
    }
}

/// Looks at the machines that are due, and at those with a diagnosis: the host may have changed.
pub async fn look(gate: &Gate) {
    let due = gate.traces.take_due(gate.traces.now());
    for machine in &due {
        if let Some(next) = gate.record_finished_boots(machine) {
            gate.traces.look_again(machine.mac, next);
        }
    }
    for (machine, outcome) in outcomes(gate, due) {
        if let Some(next) = outcome.next_look {
            gate.traces.look_again(machine.mac, next);
        }
        gate.report_stall(&machine, outcome.diagnosis);
        gate.write_stall(machine.mac).await;
    }
}

fn outcomes(gate: &Gate, mut due: Vec<DueMachine>) -> Vec<(DueMachine, Outcome)> {
    let seen: HashSet<_> = due.iter().map(|machine| machine.mac).collect();
    let state = gate.store.snapshot();
    gate.stalls.retain(|mac| state.is_declared(mac) || gate.traces.is_known(mac));
    let standing = gate.stalls.machines().into_iter().filter(|mac| !seen.contains(mac));
    due.extend(standing.filter_map(|mac| gate.traces.look_up(mac)).filter(|machine| !machine.is_changed));
    let half_open = OnceCell::new();
    let is_half_open = |address: IpAddr| half_open.get_or_init(half_open_peers).contains(&address);
    let mut counts = HashMap::new();
    let look_at = |mut machine: DueMachine| {
        if gate.trace_unanswered_relay(&machine) {
            machine = gate.traces.look_up(machine.mac).unwrap_or(machine);
        }
        gate.trace_other_interface(&machine);
        let counts = counts.entry(machine.interface).or_insert_with(|| gate.traces.segment_counts(machine.interface));
        let outcome = gate.diagnose(&machine, *counts, is_half_open);
        (machine, outcome)
    };
    due.into_iter().map(look_at).collect()
}

/// Returns the peers whose connections wait for the last packet of their handshake.
fn half_open_peers() -> HashSet<IpAddr> {
    std::fs::read_to_string(CONNECTIONS).map(|table| parse_half_open(&table)).unwrap_or_default()
}

fn parse_half_open(table: &str) -> HashSet<IpAddr> {
    let peer = |line: &str| {
        let mut columns = line.split_ascii_whitespace();
        let (remote, state) = (columns.nth(2)?, columns.next()?);
        let (address, _) = remote.split_once(':')?;
        let address = u32::from_str_radix(address, 16).ok().filter(|_| HALF_OPEN.contains(&state))?;
        Some(IpAddr::from(address.to_ne_bytes()))
    };
    table.lines().skip(1).filter_map(peer).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn half_open_connections_are_found_in_the_kernels_table() {
        let table = "  sl  local_address rem_address   st tx_queue\n\
                     0: 0200420A:0050 00000000:0000 0A 00000000:00000000\n\
                     1: 0200420A:0050 6500420A:8A3C 03 00000000:00000000\n\
                     2: 0200420A:0050 6600420A:8A3C 01 00000000:00000000\n";
        assert_eq!(parse_half_open(table), HashSet::from([IpAddr::from([10, 66, 0, 101])]));
    }
}
