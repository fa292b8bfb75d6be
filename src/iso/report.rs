//! What an ISO is, in words: `bootlatch iso inspect`.

use std::fmt;

use crate::iso::{Emulation, Examined, Family, Implanted, Platform};

impl fmt::Display for Examined {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(out, "volume id     {}", self.volume_id)?;
        writeln!(out, "distribution  {} ({})", self.distribution.name, self.distribution.family)?;
        writeln!(out, "image         {} bytes, of which {} are the volume", self.length, self.volume_length)?;
        let sides = [(true, "ISO 9660"), (self.rock_ridge, "Rock Ridge"), (self.joliet, "Joliet"), (self.udf, "UDF")];
        let tables = [(self.hybrid.mbr, "MBR"), (self.hybrid.gpt, "GPT")];
        let named = |rows: &[(bool, &'static str)]| {
            rows.iter().filter(|(has, _)| *has).map(|(_, name)| *name).collect::<Vec<_>>().join(", ")
        };
        writeln!(out, "names         {}", named(&sides))?;
        writeln!(out, "hybrid        {}", named(&tables))?;
        for boot in &self.boots {
            let image = boot.image;
            writeln!(
                out,
                "boots         {} by {} at byte {}, {} bytes",
                boot.platform, boot.emulation, image.offset, image.length
            )?;
        }
        match &self.implanted {
            Some(Implanted::IsoMd5Sum { md5, .. }) => writeln!(out, "own digest    isomd5sum {md5}")?,
            Some(Implanted::TagMedia) => writeln!(out, "own digest    tagmedia's")?,
            None => {}
        }
        if let Some(core_os) = &self.core_os {
            let ignition = core_os.ignition.map_or(0, |area| area.length);
            writeln!(
                out,
                "CoreOS        Ignition area of {ignition} bytes, {} places of kernel arguments",
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
    /// Says what of the image a host's changed view cannot keep as it is.
    pub fn warnings(&self) -> Vec<String> {
        let digest = self.implanted.as_ref().map(|implanted| match implanted {
            Implanted::IsoMd5Sum { .. } => "isomd5sum",
            Implanted::TagMedia => "tagmedia",
        });
        let digest = digest.map(|whose| {
            format!(
                "the image carries a digest about itself ({whose}): a host whose view is changed, by kernel arguments or \
                 files, sees none, and its kernel gets no rd.live.check"
            )
        });
        let sides =
            "the image has a UDF side: what is changed for a host is changed on its ISO 9660 and Joliet sides only";
        digest.into_iter().chain(self.udf.then(|| sides.to_owned())).collect()
    }
}

impl fmt::Display for Platform {
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
            Self::Floppy => out.write_str("an emulated floppy disk"),
            Self::HardDisk => out.write_str("an emulated hard disk"),
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
            Self::CloudSeed => "a cloud-init seed",
            Self::Unknown => "unknown",
        })
    }
}
