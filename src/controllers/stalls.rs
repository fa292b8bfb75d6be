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
/// The kernel's tables of connections. A socket of IPv6 also has those of IPv4 clients.
const CONNECTIONS: [&str; 2] = ["/proc/net/tcp", "/proc/net/tcp6"];
/// The kernel's counters of the IPv4 neighbour table, a line for each processor.
const NEIGHBOUR_COUNTERS: &str = "/proc/net/stat/arp_cache";
/// The counter of entries that found no place.
const TABLE_FULLS: &str = "table_fulls";
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
    let outcomes = outcomes(gate, due);
    let machines: Vec<_> = outcomes.iter().map(|(machine, _)| machine.mac).collect();
    for (machine, outcome) in outcomes {
        if let Some(next) = outcome.next_look {
            gate.traces.look_again(machine.mac, next);
        }
        gate.report_stall(&machine, outcome.diagnosis);
    }
    gate.write_stalls(&machines).await;
}

fn outcomes(gate: &Gate, mut due: Vec<DueMachine>) -> Vec<(DueMachine, Outcome)> {
    let seen: HashSet<_> = due.iter().map(|machine| machine.mac).collect();
    let state = gate.store.snapshot();
    if !due.is_empty()
        && let Some(count) = table_fulls()
    {
        gate.stalls.note_table_overflows(count, gate.traces.now());
    }
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

fn table_fulls() -> Option<u64> {
    parse_table_fulls(&std::fs::read_to_string(NEIGHBOUR_COUNTERS).ok()?)
}

/// Returns the peers whose connections wait for the last packet of their handshake.
fn half_open_peers() -> HashSet<IpAddr> {
    let tables = CONNECTIONS.iter().filter_map(|table| std::fs::read_to_string(table).ok());
    tables.flat_map(|table| parse_half_open(&table)).collect()
}

/// Returns the number of entries that found no place in the neighbour table since the kernel started; `None` if it does
/// not say that.
fn parse_table_fulls(counters: &str) -> Option<u64> {
    let mut lines = counters.lines();
    let column = lines.next()?.split_ascii_whitespace().position(|name| name == TABLE_FULLS)?;
    let count = |line: &str| u64::from_str_radix(line.split_ascii_whitespace().nth(column)?, 16).ok();
    lines.map(count).sum()
}

fn parse_half_open(table: &str) -> HashSet<IpAddr> {
    let peer = |line: &str| {
        let mut columns = line.split_ascii_whitespace();
        let (remote, state) = (columns.nth(2)?, columns.next()?);
        let (address, _) = remote.split_once(':')?;
        parse_address(address).filter(|_| HALF_OPEN.contains(&state))
    };
    table.lines().skip(1).filter_map(peer).collect()
}

/// Parses an address as the kernel writes it: words of 32 bits in the order of the processor.
fn parse_address(text: &str) -> Option<IpAddr> {
    let word = |at: usize| Some(u32::from_str_radix(text.get(8 * at..8 * at + 8)?, 16).ok()?.to_ne_bytes());
    match text.len() {
        8 => Some(IpAddr::from(word(0)?)),
        32 => {
            let bytes: Vec<u8> = (0..4).filter_map(word).flatten().collect();
            Some(IpAddr::from(<[u8; 16]>::try_from(bytes).ok()?).to_canonical())
        }
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::boot::diagnosis::Step;
    use crate::fleet::{Kind, Mac};
    use crate::gate::fixture::Fixture;

    #[test]
    fn half_open_connections_are_found_in_the_kernels_table() {
        let table = "  sl  local_address rem_address   st tx_queue\n\
                     0: 0200420A:0050 00000000:0000 0A 00000000:00000000\n\
                     1: 0200420A:0050 6500420A:8A3C 03 00000000:00000000\n\
                     2: 0200420A:0050 6600420A:8A3C 01 00000000:00000000\n";
        assert_eq!(parse_half_open(table), HashSet::from([IpAddr::from([10, 66, 0, 101])]));
        let table = "  sl  local_address                         remote_address                        st\n\
             0: 00000000000000000000000000000000:0050 00000000000000000000000000000000:0000 0A\n\
             1: 0000000000000000FFFF00000200420A:0050 0000000000000000FFFF00006500420A:8A3C 0C\n\
             2: 000080FE00000000FF005450EDFEE002:0050 000080FE00000000FF005450ECFEE002:8A3C 03\n";
        let peers = ["10.66.0.101", "fe80::5054:ff:2e0:feec"].map(|peer| peer.parse().unwrap());
        assert_eq!(parse_half_open(table), HashSet::from(peers));
    }

    #[test]
    fn entries_without_a_place_are_counted_on_all_processors() {
        let counters = "entries  allocs   destroys table_fulls\n0000000a 00000001 00000000 00000010\n0000000a 00000001 00000000 00000001\n";
        assert_eq!(parse_table_fulls(counters), Some(17));
        assert_eq!(parse_table_fulls("entries allocs\n1 2\n"), None);
    }

    #[tokio::test]
    async fn machines_that_stall_together_are_written_with_one_sync() {
        let fixture = Fixture::new("hold");
        fixture.put_image(serde_json::json!({})).await;
        let commits = || fixture.gate.store.commit_durations.read().count;
        let mac = |number| Mac([2, 0, 0, 0, 1, number]);
        let step = || Step::InstallerFailed { source: "anaconda".into(), message: "no disk".into() };
        for number in 0..100 {
            let spec = serde_json::json!({"bootMACAddress": mac(number).to_string(), "image": "live"});
            fixture.put(Kind::BareMetalHost, &format!("h{number}"), spec).await;
            fixture.gate.trace(mac(number), step());
        }
        let before = commits();
        let outcomes = outcomes(&fixture.gate, fixture.gate.traces.machines());
        let machines: Vec<_> = outcomes.iter().map(|(machine, _)| machine.mac).collect();
        outcomes.into_iter().for_each(|(machine, outcome)| fixture.gate.report_stall(&machine, outcome.diagnosis));
        fixture.gate.write_stalls(&machines).await;
        let state = fixture.gate.store.snapshot();
        let has_stall = |number| state.host_by_mac(mac(number)).is_some_and(|host| host.status.stall.is_some());
        assert!((0..100).all(has_stall));
        assert_eq!(commits() - before, 1);
    }
}
