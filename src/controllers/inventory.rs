//! Reads the hardware of machines from their BMCs, as `bmc::inventory_schedule` decides.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::{Duration, Instant};

use tokio::sync::watch;
use tokio::task::{self, JoinSet};

use crate::bmc::BmcError;
use crate::bmc::client::{BmcClient, BmcPolicy};
use crate::bmc::inventory_schedule::InventorySchedule;
use crate::fleet::{Bmc, HardwareDetails, Host, Mac};
use crate::gate::Gate;
use crate::store::{Change, now};

/// Maximum number of concurrent inventories. They have no part in the requests for power.
const MAX_CONCURRENT: usize = 8;
/// Interval in which hosts are looked at.
const INTERVAL: Duration = Duration::from_secs(5);

/// The end of an inventory.
type Ended = (Mac, Bmc, Result<HardwareDetails, BmcError>);

/// Reads the hardware of machines, until stopped.
pub async fn serve(gate: Arc<Gate>, mut stopped: watch::Receiver<bool>) {
    let mut schedule = InventorySchedule::default();
    let mut readings: JoinSet<Ended> = JoinSet::new();
    // A task that panicked does not say whose inventory it was.
    let mut tasks: HashMap<task::Id, Mac> = HashMap::new();
    let mut tick = tokio::time::interval(INTERVAL);
    tick.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
    loop {
        tokio::select! {
            _ = tick.tick() => {}
            Some(ended) = readings.join_next_with_id(), if !readings.is_empty() => match ended {
                Ok((task, (mac, bmc, result))) => {
                    tasks.remove(&task);
                    let is_done = record(&gate, mac, bmc, result).await;
                    schedule.end(mac, is_done, Instant::now());
                }
                Err(error) => {
                    tracing::error!(%error, "inventory panicked");
                    if let Some(mac) = tasks.remove(&error.id()) {
                        schedule.end(mac, false, Instant::now());
                    }
                }
            },
            () = async { drop(stopped.wait_for(|stop| *stop).await) } => return,
        }
        begin_due(&gate, &mut schedule, &mut readings, &mut tasks);
    }
}

/// Begins the inventories that are due, as far as there are places for them.
fn begin_due(
    gate: &Arc<Gate>,
    schedule: &mut InventorySchedule,
    readings: &mut JoinSet<Ended>,
    tasks: &mut HashMap<task::Id, Mac>,
) {
    let policy = BmcPolicy { pins_certificates: gate.site().pins_bmc_certificates };
    let state = gate.store.load();
    schedule.retain(|mac| state.is_declared(mac));
    let (now, at) = (Instant::now(), now());
    for host in state.whole_hosts() {
        if readings.len() >= MAX_CONCURRENT {
            return;
        }
        if schedule.begin(host, now, at) {
            let (mac, host) = (host.spec.boot_mac_address, host.clone());
            tasks.insert(readings.spawn(async move { read(&host, policy).await }).id(), mac);
        }
    }
}

async fn read(host: &Host, policy: BmcPolicy) -> Ended {
    let (mac, bmc) = (host.spec.boot_mac_address, host.spec.bmc.clone());
    let bmc = bmc.unwrap_or_else(|| Bmc::new("", "", Default::default()));
    let mut client = BmcClient::new(&bmc, host.status.bmc.as_deref(), policy, now());
    let result = client.read_inventory().await;
    (mac, bmc, result)
}

/// Records an inventory. Returns whether that is done.
async fn record(gate: &Gate, mac: Mac, bmc: Bmc, result: Result<HardwareDetails, BmcError>) -> bool {
    let hardware = match result {
        Ok(hardware) => Box::new(hardware),
        Err(error) => {
            tracing::info!(%mac, %error, "failed to read the hardware from the BMC");
            return false;
        }
    };
    let change = Change::RecordInventory { mac, bmc: Box::new(bmc), hardware };
    let committed = gate.store.commit(change).await;
    committed.inspect_err(|error| tracing::warn!(%mac, %error, "failed to record the hardware")).is_ok()
}
