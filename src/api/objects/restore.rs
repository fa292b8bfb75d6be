//! Hosts that are made of a backup, or by `kubectl replace --force`: what was installed is not installed over.
//!
//! A create begins with no status, as in Kubernetes. But what a host's status said of its phase is the only thing that
//! tells a machine with its OS on its disk from one that waits for it, and a guess at that would wipe the disk.

use serde_json::Value;

use crate::fleet::{Object, lifecycle};
use crate::store::{self, Observation};

/// Gives what a host that is created is moved on by, where its body's status says that no install of it waited; and
/// what its client is to be told of that.
pub fn moved(object: &Object, body: &Value) -> Option<(store::Change, String)> {
    let Object::Host(host) = object else { return None };
    let phase = serde_json::from_value(body.pointer("/status/phase")?.clone()).ok()?;
    let change = lifecycle::restored(&host.spec.image, host.spec.boot_mode, phase)?;
    let (name, mac) = (&host.metadata.name, host.spec.boot_mac_address);
    let words =
        format!("status: not kept; as {name} was {phase}, no install of it begins: POST .../install begins one");
    Some((store::Change::Advance { mac, transition: change, observation: Observation::default(), event: None }, words))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::fleet::Kind;
    use crate::fleet::lifecycle::Transition;
    use serde_json::json;

    #[test]
    fn what_was_installed_is_not_installed_over() {
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
            let got = match moved(&object, &body) {
                Some((store::Change::Advance { transition, .. }, _)) => Some(transition),
                Some((other, _)) => panic!("{other:?}"),
                None => None,
            };
            assert_eq!(got, expected, "{image} {mode} {phase:?}");
        }
    }
}
