//! The result of an inspection as text.

use std::collections::BTreeSet;
use std::fmt;

use super::{BootPlatform, Emulation, Examined, Family, ImplantedDigest, Obstacle, menu};

/// Maximum number of entries that a warning about a menu names.
const MAX_NAMED_ENTRIES: usize = 3;
/// Maximum number of warnings about menus.
const MAX_WARNINGS: usize = 8;

impl fmt::Display for Examined {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(out, "volume id     {}", self.volume_id)?;
        writeln!(out, "distribution  {} ({})", self.distribution.name, self.distribution.family)?;
        writeln!(out, "image         {} bytes (volume: {} bytes)", self.length, self.volume_length)?;
        let file_systems =
            [(true, "ISO 9660"), (self.rock_ridge, "Rock Ridge"), (self.joliet, "Joliet"), (self.udf, "UDF")];
        let tables = [(self.hybrid.mbr, "MBR"), (self.hybrid.gpt, "GPT")];
        let names = |rows: &[(bool, &'static str)]| {
            rows.iter().filter(|(has, _)| *has).map(|(_, name)| *name).collect::<Vec<_>>().join(", ")
        };
        writeln!(out, "names         {}", names(&file_systems))?;
        writeln!(out, "hybrid        {}", names(&tables))?;
        for boot in &self.boots {
            let image = boot.image;
            writeln!(
                out,
                "boots         {}, {}, at byte {}, {} bytes",
                boot.platform, boot.emulation, image.offset, image.length
            )?;
        }
        match &self.implanted {
            Some(ImplantedDigest::IsoMd5Sum { md5, .. }) => writeln!(out, "digest        isomd5sum {md5}")?,
            Some(ImplantedDigest::TagMedia) => writeln!(out, "digest        tagmedia")?,
            None => {}
        }
        if let Some(core_os) = &self.core_os {
            let ignition = core_os.ignition.map_or(0, |area| area.length);
            writeln!(
                out,
                "CoreOS        Ignition area of {ignition} bytes, {} kernel argument areas",
                core_os.kargs.len()
            )?;
        }
        for menu in &self.menus {
            writeln!(out, "menu          {} ({:?})", menu.path, menu.dialect)?;
            for entry in &menu.entries {
                let initrds = entry.initrds.join(",");
                writeln!(out, "  {:?}: {} initrd={initrds} {}", entry.title, entry.kernel, entry.arguments)?;
                if let Some(obstacle) = &entry.obstacle {
                    writeln!(out, "    only its own loader boots it: {obstacle}")?;
                }
            }
        }
        Ok(())
    }
}

impl Examined {
    /// Returns sentences about properties of the image that a customized view does not keep, and about its menus.
    pub fn warnings(&self) -> Vec<String> {
        let digest = self.implanted.as_ref().map(|implanted| match implanted {
            ImplantedDigest::IsoMd5Sum { .. } => "isomd5sum",
            ImplantedDigest::TagMedia => "tagmedia",
        });
        let digest = digest.map(|tool| {
            format!(
                "the image has an implanted digest ({tool}): a view with other kernel arguments or files has no digest, \
                 and its kernel lines no rd.live.check"
            )
        });
        let udf = "the image has a UDF file system: a customized view changes only ISO 9660 and Joliet";
        let view = digest.into_iter().chain(self.udf.then(|| udf.to_owned()));
        view.chain(self.menu_warnings()).collect()
    }

    /// Returns sentences about what is not understood in the boot menus.
    fn menu_warnings(&self) -> Vec<String> {
        let mut warnings = Vec::new();
        let expects_linux = !matches!(self.distribution.family, Family::CloudSeed | Family::Memtest);
        if self.kernel_lines() == 0 && expects_linux {
            warnings.push(
                "no boot menu on the ISO has a Linux kernel line: kernel arguments and the address of a config \
                 cannot be added, and every host sees the ISO as it is"
                    .to_owned(),
            );
        }
        if self.has_more_menus {
            warnings.push(
                "the ISO has more files that may be boot menus than are read: the others are not edited".to_owned(),
            );
        }
        let gaps = self.menus.iter().flat_map(|menu| menu.gaps.iter().map(move |gap| (&menu.path, gap)));
        warnings.extend(
            gaps.map(|(path, gap)| format!("menu {path}: not all of it is understood: {gap}")).take(MAX_WARNINGS / 2),
        );
        let usable = self.kernel();
        let mut seen = BTreeSet::new();
        for menu in self.menus.iter().filter(|menu| !menu::is_loopback(&menu.path)) {
            let failing = menu.entries.iter().filter_map(|entry| {
                let obstacle = entry.obstacle.as_ref()?;
                // The kernel may be in the EFI partition, like its menu.
                let is_elsewhere = menu.path.starts_with("efi:") && matches!(obstacle, Obstacle::MissingFile(_));
                (usable.is_none() || !is_elsewhere).then(|| format!("{:?} ({obstacle})", entry.title))
            });
            let mut failing: Vec<String> = failing.filter(|words| seen.insert(words.clone())).collect();
            let more = failing.len().saturating_sub(MAX_NAMED_ENTRIES);
            failing.truncate(MAX_NAMED_ENTRIES);
            let more = if more == 0 { String::new() } else { format!(", and {more} more") };
            if !failing.is_empty() && warnings.len() < MAX_WARNINGS {
                warnings.push(format!(
                    "menu {}: only its own boot loader can boot {}{more}; method kernel and sanhook cannot",
                    menu.path,
                    failing.join(", ")
                ));
            }
        }
        warnings
    }
}

impl fmt::Display for BootPlatform {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Bios => out.write_str("BIOS"),
            Self::PowerPc => out.write_str("PowerPC"),
            Self::Mac => out.write_str("Mac"),
            Self::Uefi => out.write_str("UEFI"),
            Self::Other(code) => write!(out, "platform {code:#04x}"),
        }
    }
}

impl fmt::Display for Emulation {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::None => out.write_str("no emulation"),
            Self::Floppy => out.write_str("floppy disk emulation"),
            Self::HardDisk => out.write_str("hard disk emulation"),
            Self::Other(code) => write!(out, "emulation {code}"),
        }
    }
}

impl fmt::Display for Family {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        out.write_str(match self {
            Self::CoreOs => "CoreOS",
            Self::Fedora => "Fedora",
            Self::RedHat => "Red Hat",
            Self::Debian => "Debian",
            Self::Ubuntu => "Ubuntu",
            Self::Suse => "SUSE",
            Self::Agama => "Agama",
            Self::Arch => "Arch",
            Self::Alpine => "Alpine",
            Self::NixOs => "NixOS",
            Self::Proxmox => "Proxmox",
            Self::Windows => "Windows",
            Self::Esxi => "ESXi",
            Self::Memtest => "memtest86+",
            Self::Grub => "GRUB",
            Self::CloudSeed => "cloud-init seed",
            Self::Unknown => "unknown",
        })
    }
}
