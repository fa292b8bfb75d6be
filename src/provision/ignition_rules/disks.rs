//! Disks, partitions, RAID, LUKS and file systems.

use super::super::findings::{Finding, Findings, Place};
use super::super::ignition_v3::Minor;
use super::path_fault;
use super::resources::{scheme, syntax_fault};

/// Maximum length of a partition's label, in octets.
const MAX_PARTITION_LABEL: usize = 36;
/// Maximum length of the label of a LUKS volume, in octets.
const MAX_LUKS_LABEL: usize = 47;
/// File systems, and the maximum length of their labels in octets. `none` has no label of its own.
const FILESYSTEMS: [(&str, usize); 6] =
    [("ext4", 16), ("btrfs", 256), ("xfs", 12), ("swap", 15), ("vfat", 11), ("none", usize::MAX)];
/// Version since which a device may be left without a file system.
const NONE_SINCE: Minor = 3;
/// Version since which a RAID may have neither level nor devices by its type, so that they are checked here.
const RAID_SINCE: Minor = 3;
const NOT_ABSENT_TOO: &str = "shouldExist is false, expected neither label, GUIDs, start nor size";

/// Checks the devices of a config's storage.
pub fn check(config: &Place<'_>, minor: Minor, found: &mut Findings) {
    let Some(storage) = config.get("storage") else { return };
    storage.items("disks").iter().for_each(|disk| check_disk(disk, found));
    storage.items("raid").iter().for_each(|raid| check_raid(raid, minor, found));
    storage.items("luks").iter().for_each(|volume| check_luks(volume, found));
    storage.items("filesystems").iter().for_each(|filesystem| check_filesystem(filesystem, minor, found));
}

/// Adds what is wrong with the device of an object.
fn check_device(owner: &Place<'_>, found: &mut Findings) {
    if let Some(fault) = path_fault(owner.value.text("device").unwrap_or_default()) {
        found.errors.push(owner.finding_of("device", fault));
    }
}

fn check_disk(disk: &Place<'_>, found: &mut Findings) {
    check_device(disk, found);
    let partitions = disk.items("partitions");
    partitions.iter().for_each(|partition| check_partition(partition, found));
    for (index, partition) in partitions.iter().enumerate() {
        let before = &partitions[..index];
        let number = number_of(partition);
        if number != 0 && before.iter().any(|other| number_of(other) == number) {
            found.errors.push(partition.finding(format!("partition {number} twice on one disk")));
        }
        let label = partition.value.text("label");
        if label.is_some() && before.iter().any(|other| other.value.text("label") == label) {
            let label = label.unwrap_or_default();
            found.errors.push(partition.finding(format!("the label {label:?} twice on one disk")));
        }
        if let Some(other) = before.iter().find(|other| overlap(partition, other)) {
            found.errors.push(partition.finding(format!("overlaps the partition {}", other.pointer)));
        }
    }
    let has_absent = partitions.iter().any(|partition| partition.value.is("shouldExist", false));
    if has_absent && partitions.iter().any(|partition| number_of(partition) == 0) {
        let message =
            "a partition with shouldExist false next to one without a number: which one that is depends on the disk";
        found.errors.push(disk.finding_of("partitions", message));
    }
}

/// Returns the number of a partition; 0 stands for the next free one.
fn number_of(partition: &Place<'_>) -> i64 {
    partition.value.integer("number").unwrap_or(0)
}

/// Returns whether two partitions whose places are fixed have a MiB in common.
fn overlap(one: &Place<'_>, other: &Place<'_>) -> bool {
    let extent = |partition: &Place<'_>| {
        let start = partition.value.integer("startMiB").filter(|start| *start != 0)?;
        // A size of 0 is all that is free.
        let size = partition.value.integer("sizeMiB")?.max(1);
        Some((start, start.saturating_add(size - 1)))
    };
    match (extent(one), extent(other)) {
        (Some((start, end)), Some((other_start, other_end))) => start <= other_end && other_start <= end,
        _ => false,
    }
}

fn check_partition(partition: &Place<'_>, found: &mut Findings) {
    let value = partition.value;
    let is_described = value.get("label").is_some()
        || value.word("typeGuid").is_some()
        || value.word("guid").is_some()
        || value.get("startMiB").is_some()
        || value.get("sizeMiB").is_some();
    if value.is("shouldExist", false) && is_described {
        found.errors.push(partition.finding(NOT_ABSENT_TOO));
    }
    if number_of(partition) == 0 && value.get("label").is_none() {
        found.errors.push(partition.finding("neither number nor label, expected a number from 1 or a label"));
    }
    match value.text("label") {
        Some(label) if label.len() > MAX_PARTITION_LABEL => {
            let message = format!("{} octets, expected at most {MAX_PARTITION_LABEL}", label.len());
            found.errors.push(partition.finding_of("label", message));
        }
        Some(label) if label.contains(':') => {
            found.errors.push(partition.finding_of("label", "a colon, after which sgdisk would cut the label off"));
        }
        _ => {}
    }
    for key in ["guid", "typeGuid"] {
        if value.word(key).is_some_and(|guid| !is_guid(guid)) {
            let message = "expected 8, 4, 4, 4 and 12 hexadecimal digits with hyphens between them";
            found.errors.push(partition.finding_of(key, message));
        }
    }
}

fn is_guid(text: &str) -> bool {
    let lengths = text.split('-').map(str::len);
    lengths.eq([8, 4, 4, 4, 12]) && text.bytes().all(|one| one == b'-' || one.is_ascii_hexdigit())
}

fn check_raid(raid: &Place<'_>, minor: Minor, found: &mut Findings) {
    match raid.value.word("level") {
        Some("linear" | "raid0" | "0" | "stripe") => {
            if raid.value.integer("spares").is_some_and(|spares| spares != 0) {
                found.errors.push(raid.finding_of("level", "linear and raid0 arrays have no spares"));
            }
        }
        Some("raid1" | "1" | "mirror" | "raid4" | "4" | "raid5" | "5" | "raid6" | "6" | "raid10" | "10") => {}
        Some(other) => {
            let message = format!("found {other:?}, expected linear, raid0, raid1, raid4, raid5, raid6 or raid10");
            found.errors.push(raid.finding_of("level", message));
        }
        None if minor >= RAID_SINCE => found.errors.push(raid.finding_of("level", "missing, expected a RAID level")),
        None => found.errors.push(raid.finding_of("level", "empty, expected a RAID level")),
    }
    let devices = raid.items("devices");
    if devices.is_empty() {
        found.errors.push(raid.finding_of("devices", "none, expected the devices of the array"));
    }
    for device in devices {
        if let Some(fault) = path_fault(device.value.as_text().unwrap_or_default()) {
            found.errors.push(device.finding(fault));
        }
    }
}

fn check_luks(volume: &Place<'_>, found: &mut Findings) {
    check_device(volume, found);
    let value = volume.value;
    if value.text("name").is_some_and(|name| name.contains('/')) {
        found.errors.push(volume.finding_of("name", "a slash, which no device name has"));
    }
    if let Some(label) = value.text("label").filter(|label| label.len() > MAX_LUKS_LABEL) {
        let message = format!("{} octets, expected at most {MAX_LUKS_LABEL}", label.len());
        found.errors.push(volume.finding_of("label", message));
    }
    let has_cex = volume.get("cex").is_some_and(|cex| cex.value.is("enabled", true));
    if has_cex && volume.get("keyFile").is_some_and(|file| file.value.word("source").is_some()) {
        found.errors.push(volume.finding_of("keyFile", "cex has the key, expected no key file"));
    }
    let Some(clevis) = volume.get("clevis") else { return };
    let servers = clevis.items("tang");
    found.errors.extend(servers.iter().flat_map(tang_findings));
    let has_pins = !servers.is_empty()
        || clevis.value.is("tpm2", true)
        || clevis.value.integer("threshold").is_some_and(|threshold| threshold != 0);
    let custom = clevis.get("custom");
    let is_custom = custom.as_ref().is_some_and(|custom| custom.value.word("pin").is_some());
    if has_cex && (has_pins || is_custom) {
        found.errors.push(clevis.finding("cex has the key, expected no clevis"));
    }
    if is_custom && has_pins {
        found.errors.push(clevis.finding("custom next to tang, tpm2 or threshold, expected custom alone"));
    }
    found.errors.extend(custom.iter().flat_map(pin_findings));
}

fn tang_findings(server: &Place<'_>) -> Vec<Finding> {
    let url = server.value.text("url").unwrap_or_default();
    let url_fault = syntax_fault(url).or_else(|| {
        let is_http = matches!(scheme(url).as_deref(), Some("http" | "https"));
        (!is_http).then(|| "expected an http or https URL".to_owned())
    });
    let thumbprint = server.value.word("thumbprint").is_none().then_some("missing, expected the server's thumbprint");
    let url_finding = url_fault.map(|fault| server.finding_of("url", fault));
    url_finding.into_iter().chain(thumbprint.map(|fault| server.finding_of("thumbprint", fault))).collect()
}

fn pin_findings(custom: &Place<'_>) -> Vec<Finding> {
    let (pin, config) = (custom.value.word("pin"), custom.value.word("config"));
    if pin.is_none() && config.is_none() && !custom.value.is("needsNetwork", true) {
        return Vec::new();
    }
    let pin_fault = match pin {
        Some("tpm2" | "tang" | "sss") => None,
        Some(other) => Some(format!("found {other:?}, expected tpm2, tang or sss")),
        None => Some("missing, expected tpm2, tang or sss".to_owned()),
    };
    let config_fault = config.is_none().then_some("missing, expected the configuration of the pin");
    let pin_finding = pin_fault.map(|fault| custom.finding_of("pin", fault));
    pin_finding.into_iter().chain(config_fault.map(|fault| custom.finding_of("config", fault))).collect()
}

fn check_filesystem(filesystem: &Place<'_>, minor: Minor, found: &mut Findings) {
    check_device(filesystem, found);
    let value = filesystem.value;
    if let Some(fault) = value.word("path").and_then(path_fault) {
        found.errors.push(filesystem.finding_of("path", fault));
    }
    let label = value.word("label");
    let Some(format) = value.word("format") else {
        let is_described = ["path", "label", "uuid"].iter().any(|key| value.word(key).is_some())
            || value.is("wipeFilesystem", true)
            || ["mountOptions", "options"].iter().any(|key| !filesystem.items(key).is_empty());
        if is_described {
            let message = "missing, although the file system has a path, label, UUID, options or is wiped";
            found.errors.push(filesystem.finding_of("format", message));
        }
        return;
    };
    let known = FILESYSTEMS.iter().find(|(name, _)| *name == format && (format != "none" || minor >= NONE_SINCE));
    match (known, label) {
        (None, _) => {
            let none = if minor >= NONE_SINCE { ", vfat or none" } else { " or vfat" };
            let message = format!("found {format:?}, expected ext4, btrfs, xfs, swap{none}");
            found.errors.push(filesystem.finding_of("format", message));
        }
        (Some((_, longest)), Some(label)) if label.len() > *longest => {
            let message = format!("{} octets, expected at most {longest} with {format}", label.len());
            found.errors.push(filesystem.finding_of("label", message));
        }
        (Some(_), _) => {}
    }
}
