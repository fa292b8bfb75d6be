//! Why a boot does not go on: the diagnosis, from what was seen of the machine. Pure; times are arguments.
//!
//! A diagnosis uses the clocks of the firmware: a step that is due and does not come says more than a time limit. It is
//! taken back when the machine goes on, since it is made again from all that was seen.

mod boot_trace;
mod decided;
mod download;
mod evidence;
mod image;
mod install;
mod ipxe_error;
pub mod ledger;
mod network;
mod overload;
mod power;
mod program;
mod scene;
mod script;
#[cfg(test)]
mod tests;
mod text;

use std::net::Ipv4Addr;
use std::time::Duration;

use ipnet::Ipv4Net;

use crate::fleet::{BootStage, Certainty, Host, StallReason};

pub use boot_trace::BootTrace;
pub use decided::is_decided_since;
pub use evidence::{
    DhcpClient, Download, DownloadKind, DownloadOutcome, ElsewhereRequest, Evidence, FileTransfer, OtherOffer,
    ScriptStep, Step, TransferOutcome, TransferPace, Uptime,
};
pub use scene::{Progress, withheld_config};
pub use text::describe;

use scene::Scene;

/// Requests that the kernel lost, since a receive buffer of ours was full.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct LostRequests {
    /// Time at which the first loss was noticed.
    pub first: Uptime,
    /// Time at which the last one was noticed.
    pub last: Uptime,
    /// Number of requests.
    pub count: u64,
}

/// What is known of the segment that a machine boots on.
#[derive(Debug, Clone, Default)]
pub struct Segment {
    /// Name of our interface.
    pub interface: String,
    /// Our address on it.
    pub address: Option<Ipv4Addr>,
    /// The networks of the interface.
    pub networks: Vec<Ipv4Net>,
    /// Whether this server gives addresses there.
    pub is_address_server: bool,
    /// Whether the offers of other servers can be heard there.
    pub hears_offers: bool,
    /// Number of other machines of the segment that took an address in the last minutes, and none of our boot files.
    pub stuck_machines: usize,
    /// Number of machines of the segment that fetched a boot file in the last minutes.
    pub booting_machines: usize,
    /// Whether a connection of the machine to our HTTP port waits for the last packet of its handshake.
    pub is_half_open: bool,
    /// The last requests that the kernel lost on the interface.
    pub lost_requests: Option<LostRequests>,
    /// Time at which the kernel's neighbour table was last seen to be full.
    pub neighbour_table_full_at: Option<Uptime>,
    /// Relays through which machines have asked.
    pub relays: Vec<Ipv4Addr>,
    /// The time for which tokens of scripts are valid (`config_access.token_ttl`); zero if it is not known.
    pub token_ttl: Duration,
    /// The time limit of an install (`install.timeout`); zero for none.
    pub install_timeout: Duration,
}

/// The diagnosis of a boot that does not go on.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Diagnosis {
    /// The stage at which the boot stands.
    pub stage: BootStage,
    /// The reason.
    pub reason: StallReason,
    /// How sure the reason is.
    pub certainty: Certainty,
    /// What was seen, and what usually causes it.
    pub message: String,
    /// What to do.
    pub remedy: String,
    /// Time of the last step that the machine made.
    pub since: Uptime,
}

/// The result of a look at a machine.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Outcome {
    /// The diagnosis; `None` if the boot goes on as it should.
    pub diagnosis: Option<Diagnosis>,
    /// Time of the next look, unless the machine is seen before; `None` if nothing can change without it.
    pub next_look: Option<Uptime>,
}

/// Returns the diagnosis of a machine from what was seen of it.
pub fn diagnose(steps: &[Evidence], host: Option<&Host>, segment: &Segment, now: Uptime) -> Outcome {
    let scene = Scene::new(steps, host, segment, now);
    // Of a machine that is off, no step is due.
    let rules = if scene.boot().off_at().is_some() { RULES_WHEN_OFF } else { RULES };
    let finding = rules.iter().find_map(|rule| rule(&scene));
    let diagnosis = finding.map(|Finding { stage, reason, certainty, message, remedy, refused_at }| Diagnosis {
        stage,
        reason,
        certainty,
        message,
        remedy,
        // Of what is refused, the refusal is the last step.
        since: refused_at.map_or(scene.last_progress(), |at| scene.last_progress().max(at)),
    });
    Outcome { diagnosis, next_look: scene.next_look() }
}

/// What a rule found.
struct Finding {
    stage: BootStage,
    reason: StallReason,
    certainty: Certainty,
    message: String,
    remedy: String,
    /// Time of the last refusal that it rests on.
    refused_at: Option<Uptime>,
}

impl Finding {
    fn new(
        (stage, reason): (BootStage, StallReason),
        certainty: Certainty,
        message: String,
        remedy: impl Into<String>,
    ) -> Option<Self> {
        Some(Self { stage, reason, certainty, message, remedy: remedy.into(), refused_at: None })
    }

    /// Returns the finding with the time of the last refusal that it rests on.
    fn refused_at(self, refused_at: Option<Uptime>) -> Self {
        Self { refused_at, ..self }
    }
}

/// A rule: the finding, if what was seen allows it. The time of a later look is noted in the scene.
type Rule = fn(&Scene<'_>) -> Option<Finding>;

/// The rules about a machine that was switched off in its boot.
const RULES_WHEN_OFF: &[Rule] =
    &[install::boots_used_up, install::installer_failed, install::installer_silent, install::bmc_failed];

/// The rules, the first that finds something decides: those about several boots, then from the end of a boot to its
/// beginning.
const RULES: &[Rule] = &[
    install::disk_not_bootable,
    install::completion_not_reported,
    program::program_refused,
    install::completion_refused,
    install::boots_used_up,
    install::installer_failed,
    install::asked_from_elsewhere,
    install::installed_system_waits,
    install::installer_silent,
    image::medium_unreadable,
    image::bad_range,
    image::login_refused,
    image::script_failed,
    image::nothing_to_boot,
    script::config_withheld,
    install::file_missing,
    image::medium_not_found,
    image::kernel_silent,
    download::loaded_kernel_silent,
    download::image_download_ended,
    image::image_unavailable,
    image::login_not_attempted,
    program::ipxe_other_interface,
    script::script_unused,
    script::script_refused,
    script::script_not_requested,
    program::ipxe_no_address,
    program::program_missing,
    program::second_stage_missing,
    program::wrong_program,
    program::grub_refused,
    program::program_silent,
    program::http_boot_left,
    overload::neighbour_table_full,
    program::tftp_port_unreachable,
    program::tftp_replies_lost,
    program::transfer_ended,
    download::program_download_ended,
    program::program_not_fetched,
    network::second_interface,
    network::proxy_unanswered,
    network::unexpected_dhcp_server,
    network::boot_file_not_requested,
    network::refused_by_us,
    network::relay_unreachable,
    network::offer_late,
    network::offers_refused,
    network::no_address_offered,
    network::first_request_late,
    network::ipv6_first,
    install::bmc_failed,
    power::no_request_relayed,
    power::override_ignored,
    power::no_network_boot,
    power::old_system_runs,
];
