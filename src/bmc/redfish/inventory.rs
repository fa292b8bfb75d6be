//! The hardware of a machine, as its Redfish service shows it without an operating system.

use hyper::Method;
use serde_json::Value;

use crate::fleet::hardware::{Cpu, Disk, HardwareDetails, MAX_PARTS, Nic, SystemVendor, short};

use super::super::BmcError;
use super::client::RedfishService;

/// Maximum number of requests for one inventory.
const MAX_REQUESTS: usize = 128;
/// Maximum number of processors, storage controllers and network adapters that are read.
const MAX_CONTROLLERS: usize = 8;

/// The requests of one inventory.
struct Reader<'a> {
    service: &'a RedfishService<'a>,
    requests: usize,
}

impl RedfishService<'_> {
    /// Reads the hardware. A part that the service refuses or shows wrongly is left out.
    ///
    /// # Errors
    /// The system cannot be read, or the service stops answering.
    pub async fn read_inventory(&self) -> Result<HardwareDetails, BmcError> {
        let (_, system) = self.system().await?;
        let mut reader = Reader { service: self, requests: 0 };
        let summary = of_summary(&system);
        let cpu = match &summary.cpu {
            cpu if cpu.model.is_empty() || cpu.cores.is_none() || cpu.count.is_none() => {
                let processors = reader.members(&system["Processors"], MAX_CONTROLLERS).await?;
                of_processors(cpu, &processors)
            }
            cpu => cpu.clone(),
        };
        let nics = reader.nics(&system).await?;
        let storage = reader.disks(&system).await?;
        Ok(HardwareDetails { cpu, nics, storage, ..summary })
    }
}

impl Reader<'_> {
    /// Reads the interfaces: those of the system, or of the network adapters of its chassis if it shows none and has that
    /// for itself.
    async fn nics(&mut self, system: &Value) -> Result<Vec<Nic>, BmcError> {
        let mut nics = Vec::new();
        for interface in self.members(&system["EthernetInterfaces"], MAX_PARTS).await? {
            let macs = [&interface["PermanentMACAddress"], &interface["MACAddress"]];
            add_nic(&mut nics, &interface, macs);
        }
        let chassis = system.pointer("/Links/Chassis/0").filter(|_| nics.is_empty());
        let Some(chassis) = chassis else { return Ok(nics) };
        let chassis = self.read(chassis).await?;
        if !is_chassis_of(&chassis, system) {
            return Ok(nics);
        }
        for adapter in self.members(&chassis["NetworkAdapters"], MAX_CONTROLLERS).await? {
            for function in self.members(&adapter["NetworkDeviceFunctions"], MAX_CONTROLLERS).await? {
                let ethernet = &function["Ethernet"];
                add_nic(&mut nics, &function, [&ethernet["PermanentMACAddress"], &ethernet["MACAddress"]]);
            }
        }
        Ok(nics)
    }

    /// Reads the drives of the storage controllers, or of simple storage if there are none.
    async fn disks(&mut self, system: &Value) -> Result<Vec<Disk>, BmcError> {
        let mut disks = Vec::new();
        for controller in self.members(&system["Storage"], MAX_CONTROLLERS).await? {
            let drives = controller["Drives"].as_array().map(Vec::as_slice).unwrap_or_default();
            for drive in drives.iter().take(MAX_PARTS - disks.len()) {
                disks.extend(of_drive(&self.read(drive).await?));
            }
        }
        if disks.is_empty() {
            for controller in self.members(&system["SimpleStorage"], MAX_CONTROLLERS).await? {
                let devices = controller["Devices"].as_array().map(Vec::as_slice).unwrap_or_default();
                disks.extend(devices.iter().filter_map(of_drive));
            }
            disks.truncate(MAX_PARTS);
        }
        Ok(disks)
    }

    /// Reads the members of the collection that a link leads to, up to a number.
    async fn members(&mut self, link: &Value, most: usize) -> Result<Vec<Value>, BmcError> {
        let collection = self.read(link).await?;
        let links = collection["Members"].as_array().map(Vec::as_slice).unwrap_or_default();
        let mut members = Vec::new();
        for link in links.iter().take(most) {
            members.push(self.read(link).await?);
        }
        Ok(members)
    }

    /// Reads the resource that a link leads to; null if there is no link, or the service does not give it.
    async fn read(&mut self, link: &Value) -> Result<Value, BmcError> {
        let Some(path) = link["@odata.id"].as_str().filter(|_| self.requests < MAX_REQUESTS) else {
            return Ok(Value::Null);
        };
        self.requests += 1;
        match self.service.request(Method::GET, path, None).await {
            Ok(resource) => Ok(resource),
            Err(error @ (BmcError::Unreachable { .. } | BmcError::Busy { .. })) => Err(error),
            Err(error) => {
                tracing::debug!(path, %error, "failed to read a part of the inventory");
                Ok(Value::Null)
            }
        }
    }
}

/// Returns whether a chassis has this system only: an enclosure has the adapters of all its systems.
fn is_chassis_of(chassis: &Value, system: &Value) -> bool {
    let path = |link: &Value| link["@odata.id"].as_str().map(|path| path.trim_end_matches('/').to_owned());
    match chassis.pointer("/Links/ComputerSystems").and_then(Value::as_array).map(Vec::as_slice) {
        Some([only]) => path(only).is_some() && path(only) == path(system),
        _ => false,
    }
}

/// Returns what the system resource itself says.
fn of_summary(system: &Value) -> HardwareDetails {
    let text = |property: &str| system[property].as_str();
    let processors = &system["ProcessorSummary"];
    HardwareDetails {
        cpu: Cpu {
            model: short(processors["Model"].as_str()),
            sockets: Cpu::number(number(&processors["Count"])),
            cores: Cpu::number(number(&processors["CoreCount"])),
            count: Cpu::number(number(&processors["LogicalProcessorCount"])),
        },
        ram_mebibytes: HardwareDetails::memory(mebibytes(&system["MemorySummary"]["TotalSystemMemoryGiB"])),
        bios_version: short(text("BiosVersion")),
        system_vendor: SystemVendor::reported([
            text("Manufacturer"),
            text("Model"),
            text("SerialNumber").filter(|serial| !serial.is_empty()).or_else(|| text("SKU")),
            text("AssetTag"),
        ]),
        ..HardwareDetails::default()
    }
}

/// Returns the processors, with what the summary does not say.
fn of_processors(summary: &Cpu, processors: &[Value]) -> Cpu {
    // Also accelerators are processors.
    let is_cpu = |processor: &&Value| processor["ProcessorType"].as_str().is_none_or(|kind| kind == "CPU");
    let is_present = |processor: &&Value| processor["Status"]["State"] != "Absent" && processor.is_object();
    let cpus: Vec<_> = processors.iter().filter(is_cpu).filter(is_present).collect();
    let model = cpus.first().map(|cpu| short(cpu["Model"].as_str()));
    // The sum is of all processors, or is not known.
    let sum = |property: &str| {
        let mut numbers = cpus.iter().map(|cpu| number(&cpu[property]));
        let sum = numbers.try_fold(0_u64, |sum, number| sum.checked_add(number?));
        sum.filter(|_| cpus.len() < MAX_CONTROLLERS)
    };
    Cpu {
        model: Some(summary.model.clone()).filter(|known| !known.is_empty()).or(model).unwrap_or_default(),
        sockets: summary.sockets.or(Cpu::number(u64::try_from(cpus.len()).ok())),
        cores: summary.cores.or(Cpu::number(sum("TotalCores"))),
        count: summary.count.or(Cpu::number(sum("TotalThreads"))),
    }
}

/// Adds an interface with the first of its MAC addresses that can be one, unless it is known.
fn add_nic(nics: &mut Vec<Nic>, resource: &Value, macs: [&Value; 2]) {
    let macs = macs.into_iter().filter_map(Value::as_str).filter_map(|text| text.parse().ok());
    let Some(mac) = macs.into_iter().find(|mac: &crate::fleet::Mac| mac.rejection_reason().is_none()) else { return };
    if nics.len() < MAX_PARTS && nics.iter().all(|nic| nic.mac != mac) {
        let speed_mbps = number(&resource["SpeedMbps"]).and_then(|speed| u32::try_from(speed).ok());
        let name = short(resource["Id"].as_str().or_else(|| resource["Name"].as_str()));
        nics.push(Nic { name, mac, speed_mbps: speed_mbps.filter(|speed| *speed > 0) });
    }
}

/// Returns the disk of a drive, or of a device of simple storage; `None` for an empty slot.
fn of_drive(drive: &Value) -> Option<Disk> {
    if !drive.is_object() || drive["Status"]["State"] == "Absent" {
        return None;
    }
    let text = |property: &str| short(drive[property].as_str());
    let kind = if text("Protocol").eq_ignore_ascii_case("NVMe") { "NVME".to_owned() } else { text("MediaType") };
    let size_bytes = number(&drive["CapacityBytes"]).filter(|size| *size > 0);
    let disk = Disk { name: text("Name"), model: text("Model"), serial_number: text("SerialNumber"), kind, size_bytes };
    (disk.size_bytes.is_some() || !disk.model.is_empty()).then_some(disk)
}

/// Returns a whole number, which some services write as a text.
fn number(value: &Value) -> Option<u64> {
    value.as_u64().or_else(|| value.as_str()?.trim().parse().ok())
}

/// Returns a size in MiB of one in GiB, which may have a fraction.
fn mebibytes(gibibytes: &Value) -> Option<u64> {
    let gibibytes = gibibytes.as_f64().or_else(|| gibibytes.as_str()?.trim().parse().ok())?;
    let mebibytes = (gibibytes * 1024.0).round();
    // A float beyond the range becomes the largest number, which `HardwareDetails::memory` refuses.
    #[allow(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "the value is checked by the caller")]
    mebibytes.is_finite().then_some(mebibytes as u64)
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn a_summary_without_sense_says_nothing() {
        let system = json!({"Manufacturer": 7, "Model": "x\u{1b}[2J".repeat(50), "SKU": "S-1", "SerialNumber": "",
            "MemorySummary": {"TotalSystemMemoryGiB": -4}, "ProcessorSummary": {"Count": 2, "CoreCount": 1e30}});
        let found = of_summary(&system);
        assert_eq!((found.cpu.sockets, found.cpu.cores, found.ram_mebibytes), (Some(2), None, None));
        assert_eq!(
            (found.system_vendor.manufacturer.as_str(), found.system_vendor.serial_number.as_str()),
            ("", "S-1")
        );
        let model = found.system_vendor.product_name;
        assert!(model.chars().count() <= 64 && !model.contains('\u{1b}'), "{model:?}");
        for (gibibytes, expected) in [(json!(31.5), Some(32256)), (json!("64"), Some(65536)), (json!(1e300), None)] {
            let system = json!({"MemorySummary": {"TotalSystemMemoryGiB": gibibytes}});
            assert_eq!(of_summary(&system).ram_mebibytes, expected, "{gibibytes}");
        }
        assert_eq!(of_summary(&Value::Null), HardwareDetails::default());
    }

    #[test]
    fn processors_fill_in_what_the_summary_does_not_say() {
        let cpu = |cores: Value, kind| json!({"Model": "Acme 9", "TotalCores": cores, "ProcessorType": kind});
        let found =
            of_processors(&Cpu::default(), &[cpu(json!(8), "CPU"), cpu(json!("8"), "CPU"), cpu(json!(64), "GPU")]);
        assert_eq!(
            (found.model.as_str(), found.sockets, found.cores, found.count),
            ("Acme 9", Some(2), Some(16), None)
        );
        let huge = [cpu(json!(u64::MAX), "CPU"), cpu(json!(u64::MAX), "CPU")];
        assert_eq!(of_processors(&Cpu::default(), &huge).cores, None);
        let absent = json!({"Status": {"State": "Absent"}});
        let found = of_processors(&Cpu { cores: Some(4), ..Cpu::default() }, &[absent, Value::Null]);
        assert_eq!((found.sockets, found.cores), (None, Some(4)));
    }

    #[test]
    fn an_enclosure_is_no_chassis_of_a_system() {
        let system = json!({"@odata.id": "/redfish/v1/Systems/1"});
        let link = |number: u8| json!({"@odata.id": format!("/redfish/v1/Systems/{number}/")});
        for (systems, expected) in [
            (json!([link(1)]), true),
            (json!([link(2)]), false),
            (json!([link(1), link(2)]), false),
            (json!([]), false),
            (json!([{}]), false),
            (Value::Null, false),
        ] {
            let chassis = json!({"Links": {"ComputerSystems": systems}});
            assert_eq!(is_chassis_of(&chassis, &system), expected, "{chassis}");
        }
        assert!(
            !is_chassis_of(&Value::Null, &system)
                && !is_chassis_of(&json!({"Links": {"ComputerSystems": [{}]}}), &json!({}))
        );
    }

    #[test]
    fn interfaces_have_addresses_and_are_told_apart_by_them() {
        let mut nics = Vec::new();
        let text = |text: &str| json!(text);
        for (permanent, current) in [
            (text("52:54:00:00:00:01"), Value::Null),
            (Value::Null, text("52-54-00-00-00-01")),
            (text("00:00:00:00:00:00"), text("52:54:00:00:00:02")),
            (text("ff:ff:ff:ff:ff:ff"), text("a0:00:02:20:fe:80:00:00")),
        ] {
            add_nic(&mut nics, &json!({"Id": "NIC.1", "SpeedMbps": 0}), [&permanent, &current]);
        }
        let macs: Vec<_> = nics.iter().map(|nic| nic.mac.to_string()).collect();
        assert_eq!(macs, ["52:54:00:00:00:01", "52:54:00:00:00:02"]);
        assert_eq!((nics[0].name.as_str(), nics[0].speed_mbps), ("NIC.1", None));
        let drive = json!({"Name": "Disk 0", "Protocol": "NVMe", "MediaType": "SSD", "CapacityBytes": 7});
        assert_eq!(of_drive(&drive).map(|disk| (disk.kind, disk.size_bytes)), Some(("NVME".to_owned(), Some(7))));
        assert_eq!(of_drive(&json!({"Name": "Bay 3"})), None);
    }
}
