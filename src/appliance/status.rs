//! The state of the whole server: one line in the log at the start, and the status of the systemd unit at each change.

use sd_notify::NotifyState;
use tokio::sync::watch;

use crate::config::{Config, DhcpMode};
use crate::gate::Gate;
use crate::gate::degradations::{Degradation, Severity, Source, Standing, status_text};
use crate::tftp::serve::boot_files::ProgramCache;

/// Publishes the status of the unit at each change, until `stopped` turns true.
///
/// # Errors
/// None; the result is that of a service.
pub async fn publish(
    mut standing: watch::Receiver<Standing>,
    mut stopped: watch::Receiver<bool>,
) -> anyhow::Result<()> {
    loop {
        let status = status_text(&standing.borrow_and_update());
        let _ = sd_notify::notify(&[NotifyState::Status(&status)]);
        let changed = tokio::select! {
            changed = standing.changed() => changed,
            _ = stopped.wait_for(|stop| *stop) => return Ok(()),
        };
        if changed.is_err() {
            return Ok(());
        }
    }
}

/// Logs that the server has started, and whether everything is served; publishes the same as the status of the unit.
pub fn log_ready(gate: &Gate, interface: Option<&str>) {
    let status = status_text(&gate.degradations.subscribe().borrow());
    let _ = sd_notify::notify(&[NotifyState::Status(&status)]);
    let address = gate.site().address;
    match gate.degradations.list().first().map(|gravest| gravest.severity) {
        Some(Severity::Unserved | Severity::Fault) => {
            tracing::warn!(interface, %address, status, "ready, degraded");
        }
        Some(Severity::Note) | None => tracing::info!(interface, %address, "ready"),
    }
}

/// Reports that there are no boot programs, if there are none. They are read at the start. Where another server does DHCP,
/// it may name programs of its own.
pub fn note_missing_programs(config: &Config, programs: &ProgramCache, gate: &Gate) {
    let has_dhcp = match config.interfaces.as_slice() {
        [] => config.dhcp.mode != DhcpMode::Off,
        named => named.iter().any(|interface| interface.mode != DhcpMode::Off),
    };
    let is_missing = programs.is_empty() && !config.programs.0.is_empty();
    let directories: Vec<_> = config.firmware_dirs.iter().map(|directory| directory.display().to_string()).collect();
    let directories = directories.join(", ");
    let missing = is_missing.then(|| Degradation {
        code: "no_boot_programs",
        message: format!(
            "no boot programs in {directories}: install bootlatch-firmware, or run firmware/stage; then restart"
        ),
        subject: directories,
        public: None,
        severity: if has_dhcp { Severity::Unserved } else { Severity::Note },
    });
    gate.degradations.set(Source::Programs, missing.into_iter().collect());
}
