//! What is known of a machine's hardware, as far as it was reported.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::text::printable;

/// Maximum length of a text, in characters.
const MAX_TEXT: usize = 64;
/// Largest memory that is believed, in MiB: 64 TiB.
const MAX_MEBIBYTES: u64 = 64 << 20;

/// The hardware of a machine. Each part is absent until something reports it.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", default)]
pub struct HardwareDetails {
    /// Memory, in MiB.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub ram_mebibytes: Option<u64>,
    /// The maker's names for the machine (SMBIOS).
    #[serde(skip_serializing_if = "SystemVendor::is_empty")]
    pub system_vendor: SystemVendor,
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
    fn is_empty(&self) -> bool {
        *self == Self::default()
    }
}

impl HardwareDetails {
    /// Returns what a machine reports, without what makes no sense and with texts of at most 64 printable characters.
    pub fn reported(memory: Option<&str>, [manufacturer, product, serial, asset]: [Option<&str>; 4]) -> Self {
        let mebibytes = memory.and_then(|text| text.trim().parse().ok());
        let text = |text: Option<&str>| -> String {
            let text = printable(text.unwrap_or_default()).trim().chars().take(MAX_TEXT).collect::<String>();
            text.trim_end().to_owned()
        };
        Self {
            ram_mebibytes: mebibytes.filter(|mebibytes| (1..=MAX_MEBIBYTES).contains(mebibytes)),
            system_vendor: SystemVendor {
                manufacturer: text(manufacturer),
                product_name: text(product),
                serial_number: text(serial),
                asset_tag: text(asset),
            },
        }
    }

    /// Returns what is known after a report: what it does not say stays.
    pub fn updated(&self, report: &Self) -> Self {
        let text = |known: &str, new: &str| if new.is_empty() { known } else { new }.to_owned();
        let (known, new) = (&self.system_vendor, &report.system_vendor);
        Self {
            ram_mebibytes: report.ram_mebibytes.or(self.ram_mebibytes),
            system_vendor: SystemVendor {
                manufacturer: text(&known.manufacturer, &new.manufacturer),
                product_name: text(&known.product_name, &new.product_name),
                serial_number: text(&known.serial_number, &new.serial_number),
                asset_tag: text(&known.asset_tag, &new.asset_tag),
            },
        }
    }
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
