//! What is known of a machine's hardware, as far as it was reported.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::Mac;
use super::text::printable;

/// Maximum length of a text, in characters.
const MAX_TEXT: usize = 64;
/// Largest memory that is believed, in MiB: 64 TiB.
const MAX_MEBIBYTES: u64 = 64 << 20;
/// Maximum number of network interfaces, and of disks.
pub const MAX_PARTS: usize = 32;
/// Largest number of processors or cores that is believed.
const MAX_CORES: u32 = 1 << 16;

/// The hardware of a machine, as iPXE and the BMC report it. Each part is absent until something reports it.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", default)]
pub struct HardwareDetails {
    /// The processors.
    #[serde(skip_serializing_if = "Cpu::is_empty")]
    pub cpu: Cpu,
    /// Memory, in MiB.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub ram_mebibytes: Option<u64>,
    /// The version of the BIOS or UEFI firmware.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub bios_version: String,
    /// The network interfaces, at most 32.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub nics: Vec<Nic>,
    /// The disks, at most 32.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub storage: Vec<Disk>,
    /// The maker's names for the machine (SMBIOS).
    #[serde(skip_serializing_if = "SystemVendor::is_empty")]
    pub system_vendor: SystemVendor,
}

/// The processors of a machine.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", default)]
pub struct Cpu {
    /// The model.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub model: String,
    /// Number of sockets with a processor.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub sockets: Option<u32>,
    /// Number of cores of all processors.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub cores: Option<u32>,
    /// Number of logical processors, which is that of threads.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub count: Option<u32>,
}

/// A network interface of a machine.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct Nic {
    /// The BMC's name for it.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub name: String,
    /// The MAC address.
    pub mac: Mac,
    /// The speed of its link, in Mbit/s.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub speed_mbps: Option<u32>,
}

/// A disk of a machine.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", default)]
pub struct Disk {
    /// The BMC's name for it.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub name: String,
    /// The model.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub model: String,
    /// The serial number.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub serial_number: String,
    /// The kind: `HDD`, `SSD` or `NVME`, or another word of the BMC.
    #[serde(rename = "type", skip_serializing_if = "String::is_empty")]
    pub kind: String,
    /// The size, in octets.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub size_bytes: Option<u64>,
}

/// The maker's names for a machine.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", default)]
pub struct SystemVendor {
    /// The maker.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub manufacturer: String,
    /// The product.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub product_name: String,
    /// The serial number.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub serial_number: String,
    /// The asset tag, which the owner may set.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub asset_tag: String,
}

impl SystemVendor {
    /// Returns the names that are reported, in the order of the fields.
    pub fn reported([manufacturer, product, serial, asset]: [Option<&str>; 4]) -> Self {
        Self {
            manufacturer: short(manufacturer),
            product_name: short(product),
            serial_number: short(serial),
            asset_tag: short(asset),
        }
    }

    fn is_empty(&self) -> bool {
        *self == Self::default()
    }
}

impl Cpu {
    fn is_empty(&self) -> bool {
        *self == Self::default()
    }

    /// Returns a number of processors or cores, unless it makes no sense.
    pub fn number(found: Option<u64>) -> Option<u32> {
        found.and_then(|number| u32::try_from(number).ok()).filter(|number| (1..=MAX_CORES).contains(number))
    }
}

impl HardwareDetails {
    /// Returns what a machine reports, without what makes no sense and with texts of at most 64 printable characters.
    pub fn reported(memory: Option<&str>, vendor: [Option<&str>; 4]) -> Self {
        Self {
            ram_mebibytes: Self::memory(memory.and_then(|text| text.trim().parse().ok())),
            system_vendor: SystemVendor::reported(vendor),
            ..Self::default()
        }
    }

    /// Returns a size of memory in MiB, unless it makes no sense.
    pub fn memory(mebibytes: Option<u64>) -> Option<u64> {
        mebibytes.filter(|mebibytes| (1..=MAX_MEBIBYTES).contains(mebibytes))
    }

    /// Returns whether a BMC reported all that an inventory usually has: some do only after the machine's self-test.
    pub fn is_complete(&self) -> bool {
        !self.cpu.is_empty() && self.ram_mebibytes.is_some() && !self.nics.is_empty() && !self.storage.is_empty()
    }

    /// Returns what is known without what only a BMC reports: the memory and the names of the maker come from iPXE too.
    pub fn without_inventory(&self) -> Self {
        let (ram_mebibytes, system_vendor) = (self.ram_mebibytes, self.system_vendor.clone());
        Self { ram_mebibytes, system_vendor, ..Self::default() }
    }

    /// Returns what is known after a report: what it does not say stays.
    pub fn updated(&self, report: &Self) -> Self {
        let text = |known: &str, new: &str| if new.is_empty() { known } else { new }.to_owned();
        let (known, new) = (&self.system_vendor, &report.system_vendor);
        Self {
            cpu: Cpu {
                model: text(&self.cpu.model, &report.cpu.model),
                sockets: report.cpu.sockets.or(self.cpu.sockets),
                cores: report.cpu.cores.or(self.cpu.cores),
                count: report.cpu.count.or(self.cpu.count),
            },
            ram_mebibytes: report.ram_mebibytes.or(self.ram_mebibytes),
            bios_version: text(&self.bios_version, &report.bios_version),
            nics: if report.nics.is_empty() { &self.nics } else { &report.nics }.clone(),
            storage: if report.storage.is_empty() { &self.storage } else { &report.storage }.clone(),
            system_vendor: SystemVendor {
                manufacturer: text(&known.manufacturer, &new.manufacturer),
                product_name: text(&known.product_name, &new.product_name),
                serial_number: text(&known.serial_number, &new.serial_number),
                asset_tag: text(&known.asset_tag, &new.asset_tag),
            },
        }
    }
}

/// Returns a text without control characters, of at most `MAX_TEXT` characters.
pub fn short(text: Option<&str>) -> String {
    let text = printable(text.unwrap_or_default()).trim().chars().take(MAX_TEXT).collect::<String>();
    text.trim_end().to_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_report_is_bounded_and_says_nothing_it_does_not_know() {
        let texts = [Some("  Acme\u{1b}[31m "), Some("x"), None, Some("")];
        let report = HardwareDetails::reported(Some("2048"), texts);
        assert_eq!(report.ram_mebibytes, Some(2048));
        let SystemVendor { manufacturer, product_name, serial_number, asset_tag } = report.system_vendor.clone();
        assert!(manufacturer.starts_with("Acme") && !manufacturer.contains('\u{1b}'), "{manufacturer:?}");
        assert_eq!((product_name.as_str(), serial_number.as_str(), asset_tag.as_str()), ("x", "", ""));
        let long = "y".repeat(5000);
        let later = HardwareDetails::reported(None, [None, Some(&long), None, None]);
        let both = report.updated(&later);
        assert_eq!((both.ram_mebibytes, both.system_vendor.product_name.len()), (Some(2048), MAX_TEXT));
        assert_eq!(both.system_vendor.manufacturer, manufacturer);
        for nonsense in ["", "0", "-1", "99999999999", "many"] {
            let report = HardwareDetails::reported(Some(nonsense), [None; 4]);
            assert_eq!(report, HardwareDetails::default(), "{nonsense}");
        }
        assert_eq!(serde_json::to_string(&HardwareDetails::default()).unwrap(), "{}");
    }
}
