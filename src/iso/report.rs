//! The result of an inspection as text.

use std::fmt;

use super::{BootPlatform, Emulation, Examined, Family, ImplantedDigest};

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
            }
        }
        Ok(())
    }
}

impl Examined {
    /// Returns sentences about properties of the image that a customized view does not keep.
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
        digest.into_iter().chain(self.udf.then(|| udf.to_owned())).collect()
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
