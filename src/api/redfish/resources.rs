//! Redfish resources of DMTF's schemas, made from hosts. Pure.

use serde_json::{Value, json};

use crate::bmc::Reset;
use crate::fleet::{Host, Phase, Power};

use crate::fleet::boot_override::{self, MEDIUM};

/// Path of the service root.
pub const ROOT: &str = "/redfish/v1";

/// Values of BootSourceOverrideTarget.
pub const BOOT_TARGETS: [&str; 4] = ["None", "Pxe", "Cd", "Hdd"];

/// Returns the service root.
pub fn root() -> Value {
    json!({
        "@odata.type": "#ServiceRoot.v1_15_0.ServiceRoot", "@odata.id": format!("{ROOT}/"),
        "Id": "RootService", "Name": "bootlatch", "RedfishVersion": "1.18.0", "Product": "bootlatch",
        "Systems": link("Systems"), "Managers": link("Managers"), "Chassis": link("Chassis"),
        "SessionService": link("SessionService"),
        "Links": {"Sessions": link("SessionService/Sessions")},
    })
}

/// Returns the OData service document.
pub fn services() -> Value {
    let names = ["Systems", "Managers", "Chassis", "SessionService"];
    let listed: Vec<Value> =
        names.iter().map(|name| json!({"name": name, "kind": "Singleton", "url": format!("{ROOT}/{name}")})).collect();
    json!({"@odata.context": format!("{ROOT}/$metadata"), "value": listed})
}

fn link(path: &str) -> Value {
    json!({"@odata.id": format!("{ROOT}/{path}")})
}

/// Returns a collection of resources of one kind, by their ids.
pub fn collection(kind: &str, path: &str, ids: impl Iterator<Item = String>) -> Value {
    let members: Vec<Value> = ids.map(|id| link(&format!("{path}/{id}"))).collect();
    json!({
        "@odata.type": format!("#{kind}Collection.{kind}Collection"), "@odata.id": format!("{ROOT}/{path}"),
        "Name": format!("{kind} Collection"), "Members@odata.count": members.len(), "Members": members,
    })
}

/// Returns a machine as a ComputerSystem. Its power is null unless its BMC answered.
pub fn system(host: &Host, id: &str, power: Power) -> Value {
    let path = format!("Systems/{id}");
    let health = if host.status.phase == Phase::Failed { "Warning" } else { "OK" };
    let mut system = json!({
        "@odata.type": "#ComputerSystem.v1_20_0.ComputerSystem", "@odata.id": format!("{ROOT}/{path}"),
        "Id": id, "Name": host.metadata.name, "HostName": host.metadata.name, "SystemType": "Physical",
        "UUID": host.status.uuid.map_or_else(|| host.metadata.uid.clone(), |uuid| uuid.to_string()),
        "Status": {"State": "Enabled", "Health": health},
        "PowerState": match power { Power::On => Some("On"), Power::Off => Some("Off"), Power::Unknown => None },
        "Boot": boot(host),
        "EthernetInterfaces": link(&format!("{path}/EthernetInterfaces")),
        "VirtualMedia": link(&format!("{path}/VirtualMedia")),
        "Links": {"ManagedBy": [link(&format!("Managers/{id}"))], "Chassis": [link(&format!("Chassis/{id}"))]},
        "Actions": {},
    });
    // Without a BMC, the machine cannot be reset: the action is absent.
    if host.spec.bmc.is_some() {
        system["Actions"]["#ComputerSystem.Reset"] = json!({
            "target": format!("{ROOT}/{path}/Actions/ComputerSystem.Reset"),
            "ResetType@Redfish.AllowableValues": Reset::ALL.map(Reset::as_str),
        });
    }
    system
}

fn boot(host: &Host) -> Value {
    let (enabled, target) = boot_override::redfish_state(host);
    let mut boot = json!({
        "BootSourceOverrideEnabled": enabled, "BootSourceOverrideTarget": target,
        "BootSourceOverrideTarget@Redfish.AllowableValues": BOOT_TARGETS,
    });
    if let Some(mode) = mode(host) {
        boot["BootSourceOverrideMode"] = mode.into();
        boot["BootSourceOverrideMode@Redfish.AllowableValues"] = json!([mode]);
    }
    boot
}

/// Returns how the machine's firmware boots; `None` before its first boot.
pub fn mode(host: &Host) -> Option<&'static str> {
    host.status.firmware.map(|architecture| if architecture.0 == 0 { "Legacy" } else { "UEFI" })
}

/// Returns the EthernetInterface that a machine boots with.
pub fn port(host: &Host, id: &str) -> Value {
    let addresses: Vec<Value> = host
        .spec
        .ip
        .or(host.status.address)
        .filter(|ip| ip.is_ipv4())
        .map(|ip| json!({"Address": ip}))
        .into_iter()
        .collect();
    json!({
        "@odata.type": "#EthernetInterface.v1_9_0.EthernetInterface",
        "@odata.id": format!("{ROOT}/Systems/{id}/EthernetInterfaces/1"),
        "Id": "1", "Name": "Boot port", "MACAddress": host.spec.boot_mac_address,
        "PermanentMACAddress": host.spec.boot_mac_address,
        "IPv4Addresses": addresses, "Status": {"State": "Enabled", "Health": "OK"},
    })
}

/// Returns the Manager of a machine: this server.
pub fn manager(id: &str) -> Value {
    json!({
        "@odata.type": "#Manager.v1_17_0.Manager", "@odata.id": format!("{ROOT}/Managers/{id}"),
        "Id": id, "Name": format!("bootlatch for {id}"), "ManagerType": "Service", "FirmwareVersion": env!("CARGO_PKG_VERSION"),
        "Status": {"State": "Enabled", "Health": "OK"}, "VirtualMedia": link(&format!("Managers/{id}/VirtualMedia")),
        "Links": {"ManagerForServers": [link(&format!("Systems/{id}"))], "ManagerForChassis": [link(&format!("Chassis/{id}"))]},
    })
}

/// Returns the Chassis of a machine, without any details.
pub fn chassis(id: &str) -> Value {
    json!({
        "@odata.type": "#Chassis.v1_23_0.Chassis", "@odata.id": format!("{ROOT}/Chassis/{id}"),
        "Id": id, "Name": id, "ChassisType": "Other", "Status": {"State": "Enabled", "Health": "OK"},
        "Links": {"ComputerSystems": [link(&format!("Systems/{id}"))], "ManagedBy": [link(&format!("Managers/{id}"))]},
    })
}

/// Returns a machine's virtual drive (VirtualMedia).
pub fn medium(host: &Host, owner: &str, id: &str) -> Value {
    let path = format!("{ROOT}/{owner}/{id}/VirtualMedia/Cd");
    let image = host.metadata.annotations.get(MEDIUM);
    let action = |name: &str| json!({"target": format!("{path}/Actions/VirtualMedia.{name}")});
    json!({
        "@odata.type": "#VirtualMedia.v1_6_0.VirtualMedia", "@odata.id": path,
        "Id": "Cd", "Name": "Virtual CD", "MediaTypes": ["CD", "DVD"],
        "Image": image, "ImageName": image.and_then(|url| url.rsplit('/').next()), "Inserted": image.is_some(),
        "ConnectedVia": if image.is_some() { "URI" } else { "NotConnected" }, "WriteProtected": true,
        "TransferMethod": "Stream", "Status": {"State": "Enabled", "Health": "OK"},
        "Actions": {"#VirtualMedia.InsertMedia": action("InsertMedia"), "#VirtualMedia.EjectMedia": action("EjectMedia")},
    })
}

/// Returns the SessionService.
pub fn session_service(idle: std::time::Duration) -> Value {
    json!({
        "@odata.type": "#SessionService.v1_1_8.SessionService", "@odata.id": format!("{ROOT}/SessionService"),
        "Id": "SessionService", "Name": "Sessions", "ServiceEnabled": true, "SessionTimeout": idle.as_secs(),
        "Sessions": link("SessionService/Sessions"),
    })
}

/// Returns a Session.
pub fn session(id: &str, user: &str) -> Value {
    json!({
        "@odata.type": "#Session.v1_6_0.Session", "@odata.id": format!("{ROOT}/SessionService/Sessions/{id}"),
        "Id": id, "Name": "Session", "UserName": user,
    })
}

/// The minimal OData metadata document; each resource names its schema in `@odata.type`.
pub const METADATA: &str = r#"<?xml version="1.0" encoding="UTF-8"?>
<edmx:Edmx xmlns:edmx="http://docs.oasis-open.org/odata/ns/edmx" Version="4.0">
  <edmx:DataServices>
    <Schema xmlns="http://docs.oasis-open.org/odata/ns/edm" Namespace="Service">
      <EntityContainer Name="Service" Extends="ServiceRoot.v1_15_0.ServiceContainer"/>
    </Schema>
  </edmx:DataServices>
</edmx:Edmx>
"#;
