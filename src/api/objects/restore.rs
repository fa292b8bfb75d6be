//! Hosts that are created from a backup, or by `kubectl replace --force`: a finished install is not repeated.
//!
//! A create starts without a status, as in Kubernetes. But only the phase in the body's status tells a machine with
//! its OS on its disk from one that waits for an install, and a wrong guess would wipe the disk.

use serde_json::Value;

use crate::fleet::{Object, deserialize_with_path, lifecycle};
use crate::store::{self, Observation};

/// Returns the transition for a host restored from a backup, so that a finished install is not repeated, and the
/// warning for the client. Returns `None` if the body's status says that an install was due.
pub fn phase_from_backup(object: &Object, body: &Value) -> Option<(store::Change, String)> {
    let Object::Host(host) = object else { return None };
    let phase = deserialize_with_path(body.pointer("/status/phase")?).ok()?;
    let change = lifecycle::restored(&host.spec.image, host.spec.boot_mode, phase)?;
    let (name, mac) = (&host.metadata.name, host.spec.boot_mac_address);
    let warning = format!("status: ignored; {name} was {phase}, so no install starts: POST .../install starts one");
    Some((
        store::Change::Advance { mac, transition: change, observation: Observation::default(), event: None },
        warning,
    ))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::fleet::Kind;
    use crate::fleet::lifecycle::Transition;
    use serde_json::json;

    #[test]
    fn a_finished_install_is_not_repeated() {
        let rows = [
            ("live", "once", Some("Installed"), Some(Transition::Release)),
            ("live", "once", Some("Failed"), Some(Transition::Release)),
            ("live", "once", Some("LocalBoot"), Some(Transition::Release)),
            ("live", "once", Some("Held"), Some(Transition::Hold)),
            ("live", "once", Some("Assigned"), None),
            ("live", "once", Some("Installing"), None),
            ("live", "once", None, None),
            ("live", "forever", Some("Installed"), None),
            ("live", "forever", Some("LocalBoot"), Some(Transition::Release)),
            ("localboot", "once", Some("Installed"), None),
            ("localboot", "once", Some("Held"), Some(Transition::Hold)),
        ];
        for (image, mode, phase, expected) in rows {
            let mut body = json!({"metadata": {"name": "h"}, "spec": {"bootMACAddress": "52:54:00:00:00:01", "image": image, "bootMode": mode}, "status": {}});
            if let Some(phase) = phase {
                body["status"]["phase"] = phase.into();
            }
            let object = Object::from_json(Kind::BareMetalHost, body.clone()).unwrap();
            let got = match phase_from_backup(&object, &body) {
                Some((store::Change::Advance { transition, .. }, _)) => Some(transition),
                Some((other, _)) => panic!("{other:?}"),
                None => None,
            };
            assert_eq!(got, expected, "{image} {mode} {phase:?}");
        }
    }
}
