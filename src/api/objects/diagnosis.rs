//! Answers why a host does not boot: the diagnosis that stands, the steps of its boots that were seen, and where their
//! time went.

use hyper::StatusCode;
use jiff::Timestamp;
use schemars::JsonSchema;
use serde::Serialize;

use crate::api::objects::boot_ledger::BootLedger;
use crate::api::objects::status::Status;
use crate::api::objects::write::find;
use crate::api::state::Shared;
use crate::boot::diagnosis::describe;
use crate::fleet::text::printable;
use crate::fleet::{Host, Key, Object, Stall};
use crate::gate::Gate;
use crate::http::reply::{self, Reply};

/// Why a host does not boot.
#[derive(Debug, Serialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct DiagnosisReport {
    /// `v1`.
    api_version: &'static str,
    /// `Diagnosis`.
    kind: &'static str,
    /// Name of the host.
    host: String,
    /// The diagnosis; null while the boot goes on, or none was seen.
    diagnosis: Option<Stall>,
    /// What was seen of the last boots since the server started, oldest first.
    steps: Vec<SeenStep>,
    /// Where the time of these boots went, oldest first. The last one may go on.
    ledger: Vec<BootLedger>,
}

/// A step of a boot that was seen.
#[derive(Debug, Serialize, JsonSchema)]
pub struct SeenStep {
    /// Time of the first occurrence.
    first: Timestamp,
    /// Time of the last occurrence.
    last: Timestamp,
    /// Number of occurrences.
    count: u32,
    /// The step, for people.
    text: String,
}

/// Answers GET .../diagnosis.
///
/// # Errors
/// 404: the host does not exist.
pub fn read(shared: &Shared, key: &Key) -> Result<Reply, Status> {
    let Object::Host(host) = find(shared, key)? else { return Err(Status::no_route()) };
    Ok(reply::json(StatusCode::OK, &report(&shared.gate, &host)))
}

/// Returns why a host does not boot.
pub fn report(gate: &Gate, host: &Host) -> DiagnosisReport {
    let mac = host.spec.boot_mac_address;
    let machine = gate.traces.look_up(mac);
    let ledgers = machine.as_ref().map(|machine| gate.ledgers(machine)).unwrap_or_default();
    let steps = machine.map(|machine| machine.steps).unwrap_or_default();
    let clock = gate.trace_clock();
    let steps = steps.iter().map(|evidence| SeenStep {
        first: clock.time_of(evidence.first),
        last: clock.time_of(evidence.last),
        count: evidence.count,
        text: printable(&describe(&evidence.step)).into_owned(),
    });
    DiagnosisReport {
        api_version: "v1",
        kind: "Diagnosis",
        host: host.metadata.name.to_string(),
        diagnosis: gate.stalls.get(mac),
        steps: steps.collect(),
        ledger: ledgers.into_iter().map(|ledger| BootLedger::new(clock, ledger)).collect(),
    }
}
