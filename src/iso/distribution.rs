//! The distribution of an image, detected by the files in it, and the kernel arguments of its installer.

use std::net::SocketAddr;

use super::tree::EntryKind;
use super::{Iso, IsoError};
use crate::fleet::Format;
use crate::fleet::text::printable;

/// Maximum length of a distribution name in characters.
const MAX_TEXT_LENGTH: usize = 120;

/// A family of distributions that share an installer.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Family {
    /// Fedora CoreOS, RHEL CoreOS and CentOS Stream CoreOS.
    CoreOs,
    /// Fedora Linux (Anaconda).
    Fedora,
    /// Red Hat Enterprise Linux and its rebuilds (Anaconda).
    RedHat,
    /// Debian (debian-installer).
    Debian,
    /// Ubuntu (Subiquity, or debian-installer before 20.04).
    Ubuntu,
    /// openSUSE and SUSE Linux Enterprise to version 15 (YaST).
    Suse,
    /// openSUSE and SUSE Linux Enterprise from version 16 (Agama).
    Agama,
    /// Arch Linux.
    Arch,
    /// Alpine Linux.
    Alpine,
    /// NixOS.
    NixOs,
    /// Proxmox products.
    Proxmox,
    /// Microsoft Windows Setup.
    Windows,
    /// VMware ESXi.
    Esxi,
    /// Memtest86+.
    Memtest,
    /// A GRUB rescue image.
    Grub,
    /// A cloud-init seed: NoCloud (`cidata`) or ConfigDrive (`config-2`).
    CloudSeed,
    /// Any other image.
    Unknown,
}

impl Family {
    const ALL: [Self; 17] = [
        Self::CoreOs,
        Self::Fedora,
        Self::RedHat,
        Self::Debian,
        Self::Ubuntu,
        Self::Suse,
        Self::Agama,
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

    /// Returns the family with this name, as `Display` writes it; `Unknown` for any other text.
    pub fn from_name(name: &str) -> Self {
        Self::ALL.into_iter().find(|family| family.to_string() == name).unwrap_or(Self::Unknown)
    }
}

/// The distribution of an image.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Distribution {
    /// Family of the installer.
    pub family: Family,
    /// Name and version as the image states them, or else the volume id; at most 120 characters.
    pub name: String,
}

/// Detects the distribution of an image. `core_os` states whether the image has CoreOS embed areas.
///
/// # Errors
/// Returns what is damaged in the image.
pub fn detect(iso: &Iso<'_>, core_os: bool) -> Result<Distribution, IsoError> {
    let id = iso.volume().primary.volume_id.clone();
    let lower = id.to_ascii_lowercase();
    let found = |family, name: String| {
        Ok(Distribution { family, name: printable(&name).chars().take(MAX_TEXT_LENGTH).collect() })
    };
    if core_os || lower.starts_with("fedora-coreos") || lower.starts_with("rhcos") || lower.starts_with("scos") {
        return found(Family::CoreOs, id);
    }
    if lower == "cidata" || lower == "config-2" {
        return found(Family::CloudSeed, id);
    }
    if let Some(info) = first_line(iso, "/.disk/info")? {
        let family = if info.to_ascii_lowercase().contains("ubuntu") { Family::Ubuntu } else { Family::Debian };
        return found(family, info);
    }
    if let Some(name) = tree_info(iso)? {
        return found(by_name(&name.to_ascii_lowercase()), name);
    }
    // Anaconda's network image has no .treeinfo; its .discinfo has only a version in this line.
    if let Some(name) = iso.read("/.discinfo")?.and_then(|text| line(&text, 1)) {
        let name = if name.starts_with(|first: char| first.is_ascii_digit()) { id } else { name };
        return found(by_name(&name.to_ascii_lowercase()), name);
    }
    for (path, family) in [("/media.1/products", Family::Suse), ("/.alpine-release", Family::Alpine)] {
        if let Some(text) = first_line(iso, path)? {
            return found(family, text.trim_start_matches("/ ").to_owned());
        }
    }
    if is_agama(iso, &lower)? {
        return found(Family::Agama, id);
    }
    let markers = [
        ("/arch/boot", Family::Arch),
        ("/nix-store.squashfs", Family::NixOs),
        ("/.pve-cd-id.txt", Family::Proxmox),
        ("/.cd-info", Family::Proxmox),
        ("/sources/boot.wim", Family::Windows),
        ("/EFI/BOOT/BOOT.CFG", Family::Esxi),
        // The live images of openSUSE contain /LiveOS/squashfs.img too.
        ("/boot/x86_64/loader", Family::Suse),
        ("/boot/aarch64/linux", Family::Suse),
        ("/LiveOS/squashfs.img", by_name(&lower)),
        ("/install.amd", Family::Debian),
        ("/casper", Family::Ubuntu),
        ("/live/filesystem.squashfs", Family::Debian),
        ("/memtest", Family::Memtest),
    ];
    for (path, family) in markers {
        if iso.find(path)?.is_some() {
            return found(family, id);
        }
    }
    let memtest = lower.starts_with("mt86plus") || lower.contains("memtest");
    let grub = || Ok(matches!(iso.find("/boot/grub")?, Some(entry) if entry.kind == EntryKind::Directory));
    let family = if memtest {
        Family::Memtest
    } else if grub()? {
        Family::Grub
    } else {
        Family::Unknown
    };
    found(family, id)
}

/// Returns the kernel arguments that give an installer the address of its config. The list is empty if the
/// installer of a family does not support the format.
///
/// `url` is the address of the config. For cloud-init it is a directory and ends with a slash.
pub fn config_arguments(family: Family, format: Format, url: &str) -> Vec<String> {
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
        (Format::Script, Family::Agama) => list(&["inst.auto=@"]),
        (Format::Script, Family::Arch) => list(&["script=@"]),
        (Format::Script, _) => Vec::new(),
    }
}

/// Returns the kernel arguments that have an installer send its log to a syslog receiver. The list is empty if the installer of a
/// family cannot.
///
/// Anaconda's rsyslog sends over TCP, debian-installer's syslogd (busybox) over UDP. systemd's
/// `systemd.journald.forward_to_syslog` leads to a syslog daemon on the same machine only.
pub fn syslog_arguments(family: Family, receiver: SocketAddr) -> Vec<String> {
    match family {
        Family::Fedora | Family::RedHat => vec![format!("inst.syslog={receiver}")],
        Family::Debian | Family::Ubuntu => {
            vec![format!("log_host={}", receiver.ip()), format!("log_port={}", receiver.port())]
        }
        Family::CoreOs
        | Family::Suse
        | Family::Agama
        | Family::Arch
        | Family::Alpine
        | Family::NixOs
        | Family::Proxmox
        | Family::Windows
        | Family::Esxi
        | Family::Memtest
        | Family::Grub
        | Family::CloudSeed
        | Family::Unknown => Vec::new(),
    }
}

/// Returns whether an image without `/media.1/products` is an installer of SUSE that has replaced YaST: a live system that
/// is called so, or one with the name of an installation medium. `id` is the volume id in lower case.
fn is_agama(iso: &Iso<'_>, id: &str) -> Result<bool, IsoError> {
    let is_suse = iso.find("/boot/x86_64/loader")?.is_some() || id.contains("suse") || id.contains("sles");
    let is_live = iso.find("/LiveOS/squashfs.img")?.is_some();
    Ok(id.contains("agama") || (is_suse && is_live && id.starts_with("install")))
}

/// Returns the family of an Anaconda or openSUSE image, by its name or volume id in lower case.
fn by_name(name: &str) -> Family {
    match name {
        name if name.contains("suse") => Family::Suse,
        name if name.starts_with("fedora") => Family::Fedora,
        _ => Family::RedHat,
    }
}

/// Reads the name and version from Anaconda's `.treeinfo`.
fn tree_info(iso: &Iso<'_>) -> Result<Option<String>, IsoError> {
    let Some(text) = iso.read("/.treeinfo")? else { return Ok(None) };
    let text = String::from_utf8_lossy(&text);
    let value = |name: &str| {
        let pairs = text.lines().filter_map(|line| line.split_once('='));
        pairs.filter(|(key, _)| key.trim() == name).map(|(_, value)| value.trim().to_owned()).next()
    };
    let name = value("name").or_else(|| Some(format!("{} {}", value("family")?, value("version").unwrap_or_default())));
    Ok(name)
}

fn first_line(iso: &Iso<'_>, path: &str) -> Result<Option<String>, IsoError> {
    Ok(iso.read(path)?.and_then(|text| line(&text, 0)))
}

fn line(text: &[u8], number: usize) -> Option<String> {
    let text = String::from_utf8_lossy(text);
    text.lines().nth(number).map(|line| line.trim().to_owned()).filter(|line| !line.is_empty())
}
