//! A boot disk that is mirrored or encrypted: the partitions, arrays and file systems that replace those of the image.

use serde_json::{Map, Value, json};

use super::{Compiler, Variant, items, storage};

const RESERVED_GUID: &str = "8DA63339-0007-60C0-C436-083AC8230908";
const BIOS_GUID: &str = "21686148-6449-6E6F-744E-656564454649";
const PREP_GUID: &str = "9E1A2D38-C612-4316-AA26-8B49521E5A8B";
const ESP_GUID: &str = "C12A7328-F81F-11D2-BA4B-00A0C93EC93B";

/// The first partitions of a disk: label, size in MiB, type. Those of the images of each architecture.
type FirstPartitions = [(&'static str, u16, &'static str); 2];

const X86_64: FirstPartitions = [("bios", 1, BIOS_GUID), ("esp", 127, ESP_GUID)];
const AARCH64: FirstPartitions = [("reserved", 1, RESERVED_GUID), ("esp", 127, ESP_GUID)];
const PPC64LE: FirstPartitions = [("prep", 4, PREP_GUID), ("reserved", 1, RESERVED_GUID)];
/// Size of the boot partition, in MiB.
const BOOT_SIZE: u16 = 384;

impl Compiler<'_> {
    /// Returns the storage section of a boot device.
    pub(super) fn boot_device(&mut self, boot_device: &Value) -> Value {
        let devices: Vec<&str> = items(boot_device, "/mirror/devices").iter().filter_map(Value::as_str).collect();
        let luks = boot_device.get("luks").filter(|luks| !luks.is_null());
        let layout = match boot_device.get("layout").and_then(Value::as_str) {
            None | Some("x86_64") => X86_64,
            Some("aarch64") => AARCH64,
            Some("ppc64le") => PPC64LE,
            Some(other) => {
                self.error("boot_device.layout", format!("found {other:?}, expected x86_64, aarch64 or ppc64le"));
                return json!({});
            }
        };
        if boot_device.get("mirror").is_some() && devices.len() < 2 {
            self.error("boot_device.mirror.devices", "expected two devices or more");
        }
        let luks = luks.filter(|luks| luks.get("tpm2") == Some(&Value::Bool(true)) || !items(luks, "/tang").is_empty());
        if boot_device.get("luks").is_some_and(|luks| !luks.is_null()) && luks.is_none() {
            self.error("boot_device.luks", "expected tpm2: true, or a tang server");
        }
        if devices.is_empty() && luks.is_none() {
            return json!({});
        }
        let mut section = Map::new();
        let mut filesystems = Vec::new();
        if !devices.is_empty() {
            section.insert("disks".to_owned(), mirrored_disks(&devices, &layout));
            section.insert("raid".to_owned(), arrays(devices.len()));
            if layout[1].0 == "esp" {
                filesystems.extend((1..=devices.len()).map(|index| {
                    let label = format!("esp-{index}");
                    filesystem(&format!("/dev/disk/by-partlabel/{label}"), "vfat", &label)
                }));
            }
            filesystems.push(filesystem("/dev/md/md-boot", "ext4", "boot"));
        }
        let device = if devices.is_empty() { "/dev/disk/by-partlabel/root" } else { "/dev/md/md-root" };
        if let Some(luks) = luks {
            section.insert("luks".to_owned(), json!([self.root_volume(luks, device)]));
        }
        filesystems.push(filesystem(if luks.is_some() { "/dev/mapper/root" } else { device }, "xfs", "root"));
        section.insert("filesystems".to_owned(), filesystems.into());
        storage(Value::Object(section))
    }

    fn root_volume(&mut self, luks: &Value, device: &str) -> Value {
        let has_discard = self.target.variant == Variant::FedoraCoreOs && self.target.minor >= 5
            || self.target.variant == Variant::OpenShift && self.target.minor >= 14;
        let own = |key: &str| luks.get(key).cloned().unwrap_or(Value::Null);
        json!({
            "clevis": {"tang": own("tang"), "threshold": own("threshold"), "tpm2": own("tpm2")},
            "device": device,
            "discard": if has_discard { own("discard") } else { Value::Null },
            "label": "luks-root",
            "name": "root",
            "wipeVolume": true,
        })
    }
}

fn mirrored_disks(devices: &[&str], layout: &FirstPartitions) -> Value {
    let disk = |(index, device): (usize, &&str)| {
        let number = index + 1;
        let first = layout.iter().map(
            |(label, size, guid)| json!({"label": format!("{label}-{number}"), "sizeMiB": size, "typeGuid": guid}),
        );
        let rest = [
            json!({"label": format!("boot-{number}"), "sizeMiB": BOOT_SIZE}),
            json!({"label": format!("root-{number}")}),
        ];
        json!({"device": device, "partitions": first.chain(rest).collect::<Vec<_>>(), "wipeTable": true})
    };
    devices.iter().enumerate().map(disk).collect()
}

fn arrays(count: usize) -> Value {
    let devices =
        |label: &str| (1..=count).map(|number| format!("/dev/disk/by-partlabel/{label}-{number}")).collect::<Vec<_>>();
    // The superblock at the end: GRUB for BIOS reads the partition without knowing RAID.
    json!([
        {"devices": devices("boot"), "level": "raid1", "name": "md-boot", "options": ["--metadata=1.0"]},
        {"devices": devices("root"), "level": "raid1", "name": "md-root"},
    ])
}

fn filesystem(device: &str, format: &str, label: &str) -> Value {
    json!({"device": device, "format": format, "label": label, "wipeFilesystem": true})
}
