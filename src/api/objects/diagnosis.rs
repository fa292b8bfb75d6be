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
use crate::fleet::{Host, Key, Mac, Object, Stall};
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
    /// Name of the host. Of a machine without a host, its MAC address with dashes.
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
/// 404: the host does not exist, and no machine without a host and with this MAC address was seen.
pub fn read(shared: &Shared, key: &Key) -> Result<Reply, Status> {
    let gate = &shared.gate;
    let report = match find(shared, key) {
        Ok(Object::Host(host)) => report(gate, &host),
        Ok(Object::Image(_) | Object::BootConfig(_) | Object::ConfigTemplate(_)) => return Err(Status::no_route()),
        Err(missing) => match machine_without_host(gate, key) {
            Some(mac) => report_of(gate, mac, key.name.to_string()),
            None => return Err(missing),
        },
    };
    Ok(reply::json(StatusCode::OK, &report))
}

/// Returns the machine without a host, by the name and the namespace that its host would have: its MAC address with dashes,
/// and the namespace of hosts that are enrolled.
fn machine_without_host(gate: &Gate, key: &Key) -> Option<Mac> {
    if key.namespace.as_ref() != Some(&gate.site().namespace) {
        return None;
    }
    let mac = key.name.as_str().parse::<Mac>().ok().filter(|mac| mac.is_dashed(key.name.as_str()))?;
    let has_host = gate.store.load().host_by_mac(mac).is_some();
    (!has_host && gate.traces.is_known(mac)).then_some(mac)
}

/// Returns why a host does not boot.
pub fn report(gate: &Gate, host: &Host) -> DiagnosisReport {
    report_of(gate, host.spec.boot_mac_address, host.metadata.name.to_string())
}

fn report_of(gate: &Gate, mac: Mac, host: String) -> DiagnosisReport {
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
        host,
        diagnosis: gate.stalls.get(mac),
        steps: steps.collect(),
        ledger: ledgers.into_iter().map(|ledger| BootLedger::new(clock, ledger)).collect(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::api::fixture::ApiFixture;
    use crate::boot::diagnosis::Step;

    #[tokio::test]
    async fn a_machine_without_a_host_is_in_the_namespace_of_new_hosts() {
        let (fixture, mac) = (ApiFixture::new(), Mac([0x52, 0x54, 0, 0, 0, 9]));
        fixture.shared.gate.trace(mac, Step::SolicitV6);
        for (namespace, expected) in [("default", StatusCode::OK), ("elsewhere", StatusCode::NOT_FOUND)] {
            let path = format!("/api/v1/namespaces/{namespace}/baremetalhosts/{}/diagnosis", mac.dashed());
            assert_eq!(fixture.admin("GET", &path, "").await.status(), expected, "{namespace}");
        }
    }
}
