//! Whose image it is, told by the files that its makers put in it, and what its installer is told with.

use super::tree::Kind;
use super::{Iso, NotAnIso};
use crate::fleet::Format;

const TEXT_MAX: usize = 120;

/// Is who made an image, as far as its installer goes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Family {
    CoreOs,
    Fedora,
    RedHat,
    Debian,
    Ubuntu,
    Suse,
    Arch,
    Alpine,
    NixOs,
    Proxmox,
    Windows,
    Esxi,
    Memtest,
    Grub,
    CloudSeed,
    Unknown,
}

impl Family {
    const ALL: [Self; 16] = [
        Self::CoreOs,
        Self::Fedora,
        Self::RedHat,
        Self::Debian,
        Self::Ubuntu,
        Self::Suse,
        Self::Arch,
        Self::Alpine,
        Self::NixOs,
        Self::Proxmox,
        Self::Windows,
        Self::Esxi,
        Self::Memtest,
        Self::Grub,
        Self::CloudSeed,
        Self::Unknown,
    ];

    /// Reads a family's name as `Display` writes it; whatever else is unknown.
    pub fn named(name: &str) -> Self {
        Self::ALL.into_iter().find(|family| family.to_string() == name).unwrap_or(Self::Unknown)
    }
}

/// Is what an image holds.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Distribution {
    pub family: Family,
    /// Is its name and version in its makers' words, or the volume id.
    pub name: String,
}

/// Tells whose an image is.
///
/// # Errors
/// Says what of the image is damaged on the way.
pub fn recognise(iso: &Iso<'_>, core_os: bool) -> Result<Distribution, NotAnIso> {
    let id = iso.volume().primary.volume_id.clone();
    let lower = id.to_ascii_lowercase();
    let is = |family, name: String| Ok(Distribution { family, name: name.chars().take(TEXT_MAX).collect() });
    if core_os || lower.starts_with("fedora-coreos") || lower.starts_with("rhcos") || lower.starts_with("scos") {
        return is(Family::CoreOs, id);
    }
    if lower == "cidata" || lower == "config-2" {
        return is(Family::CloudSeed, id);
    }
    if let Some(info) = first_line(iso, "/.disk/info")? {
        let family = if info.to_ascii_lowercase().contains("ubuntu") { Family::Ubuntu } else { Family::Debian };
        return is(family, info);
    }
    if let Some(name) = tree_info(iso)? {
        return is(by_name(&name.to_ascii_lowercase()), name);
    }
    // Anaconda's network image has no .treeinfo, and gives no more than a version here.
    if let Some(told) = iso.read("/.discinfo")?.and_then(|text| line(&text, 1)) {
        let name = if told.starts_with(|first: char| first.is_ascii_digit()) { id } else { told };
        return is(by_name(&name.to_ascii_lowercase()), name);
    }
    for (path, family) in [("/media.1/products", Family::Suse), ("/.alpine-release", Family::Alpine)] {
        if let Some(text) = first_line(iso, path)? {
            return is(family, text.trim_start_matches("/ ").to_owned());
        }
    }
    let marks = [
        ("/arch/boot", Family::Arch),
        ("/nix-store.squashfs", Family::NixOs),
        ("/.pve-cd-id.txt", Family::Proxmox),
        ("/.cd-info", Family::Proxmox),
        ("/sources/boot.wim", Family::Windows),
        ("/EFI/BOOT/BOOT.CFG", Family::Esxi),
        // openSUSE's live images and Agama's have the next one too.
        ("/boot/x86_64/loader", Family::Suse),
        ("/boot/aarch64/linux", Family::Suse),
        ("/LiveOS/squashfs.img", by_name(&lower)),
        ("/install.amd", Family::Debian),
        ("/casper", Family::Ubuntu),
        ("/live/filesystem.squashfs", Family::Debian),
        ("/memtest", Family::Memtest),
    ];
    for (path, family) in marks {
        if iso.find(path)?.is_some() {
            return is(family, id);
        }
    }
    let memtest = lower.starts_with("mt86plus") || lower.contains("memtest");
    let grub = || Ok(matches!(iso.find("/boot/grub")?, Some(entry) if entry.kind == Kind::Directory));
    let family = if memtest {
        Family::Memtest
    } else if grub()? {
        Family::Grub
    } else {
        Family::Unknown
    };
    is(family, id)
}

/// Gives the kernel arguments that tell an installer where its config is; none where a family has no
/// way for a format. `url` is the config's own address; for cloud-init it is the directory, with its slash.
pub fn arguments(family: Family, format: Format, url: &str) -> Vec<String> {
    let list = |words: &[&str]| words.iter().map(|word| word.replace('@', url)).collect();
    match (format, family) {
        (Format::Ignition, _) => list(&[
            "ignition.firstboot",
            "ignition.platform.id=metal",
            "ignition.config.url=@",
            "rd.neednet=1",
            "ip=dhcp",
        ]),
        (Format::CloudInit, Family::Ubuntu) => list(&["autoinstall", "ds=nocloud;s=@"]),
        (Format::CloudInit, _) => list(&["ds=nocloud;s=@"]),
        (Format::Kickstart, Family::Ubuntu) => list(&["ks=@"]),
        (Format::Kickstart, _) => list(&["inst.ks=@"]),
        (Format::Preseed, _) => list(&["auto=true", "priority=critical", "url=@"]),
        (Format::Script, Family::Suse) => list(&["autoyast=@"]),
        (Format::Script, Family::Arch) => list(&["script=@"]),
        (Format::Script, _) => Vec::new(),
    }
}

/// Tells, of those that share a layout, by the image's name or its volume id in small letters.
fn by_name(name: &str) -> Family {
    match name {
        name if name.contains("suse") => Family::Suse,
        name if name.starts_with("fedora") => Family::Fedora,
        _ => Family::RedHat,
    }
}

/// Reads the name and version that Anaconda's `.treeinfo` gives.
fn tree_info(iso: &Iso<'_>) -> Result<Option<String>, NotAnIso> {
    let Some(text) = iso.read("/.treeinfo")? else { return Ok(None) };
    let text = String::from_utf8_lossy(&text);
    let value = |name: &str| {
        let pairs = text.lines().filter_map(|line| line.split_once('='));
        pairs.filter(|(key, _)| key.trim() == name).map(|(_, value)| value.trim().to_owned()).next()
    };
    let name = value("name").or_else(|| Some(format!("{} {}", value("family")?, value("version").unwrap_or_default())));
    Ok(name)
}

fn first_line(iso: &Iso<'_>, path: &str) -> Result<Option<String>, NotAnIso> {
    Ok(iso.read(path)?.and_then(|text| line(&text, 0)))
}

fn line(text: &[u8], number: usize) -> Option<String> {
    let text = String::from_utf8_lossy(text);
    text.lines().nth(number).map(|line| line.trim().to_owned()).filter(|line| !line.is_empty())
}
