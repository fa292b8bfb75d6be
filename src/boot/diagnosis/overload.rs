//! Rules about limits of this server's kernel.

use std::time::Duration;

use crate::fleet::{BootStage, Certainty, StallReason};

use super::Finding;
use super::evidence::Step;
use super::network::{PROXY_TIMEOUT, asked};
use super::scene::{Progress, Scene};

/// Time around a repeated request in which a full neighbour table explains it.
const TABLE_WINDOW: Duration = Duration::from_secs(10);

/// The kernel has no room for the machine's address in its neighbour table, so that no reply leaves.
pub fn neighbour_table_full(scene: &Scene<'_>) -> Option<Finding> {
    let boot = scene.boot();
    let is_waiting = matches!(scene.reached(), Progress::Address | Progress::ProxyRequest | Progress::ProgramRequest);
    let full_at = scene.segment.neighbour_table_full_at.filter(|at| is_waiting && *at >= boot.begin())?;
    let repeats = boot.find(|step| matches!(step, Step::ProxyRequest { .. } | Step::FileRequested { .. }))?;
    let is_near = full_at + TABLE_WINDOW >= repeats.first && full_at <= repeats.last + TABLE_WINDOW;
    if repeats.count < 2 || !is_near || !scene.has_passed(repeats.first, PROXY_TIMEOUT) {
        return None;
    }
    Finding::new(
        (BootStage::Dhcp, StallReason::NeighbourTableFull),
        Certainty::Likely,
        format!(
            "It asks again ({}), and our replies do not leave: the kernel's neighbour table is full",
            asked(repeats)
        ),
        "raise net.ipv4.neigh.default.gc_thresh1, gc_thresh2 and gc_thresh3 (sysctl) above the number of machines",
    )
}
