use std::fmt;
use std::str::FromStr;

/// A client system architecture: the code of DHCP option 93 (RFC 4578; IANA "Processor Architecture Types"). Unknown
/// codes are kept.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Architecture(pub u16);

const NAMES: &[(u16, &str)] = &[
    (0, "bios"),
    (6, "x86-uefi"),
    (7, "x86_64-uefi"),
    (9, "x86_64-uefi-ebc"),
    (10, "arm-uefi"),
    (11, "arm64-uefi"),
    (15, "x86-uefi-http"),
    (16, "x86_64-uefi-http"),
    (17, "uefi-ebc-http"),
    (18, "arm-uefi-http"),
    (19, "arm64-uefi-http"),
    (20, "bios-http"),
    (21, "arm-uboot"),
    (22, "arm64-uboot"),
    (23, "arm-uboot-http"),
    (24, "arm64-uboot-http"),
    (27, "riscv64-uefi"),
    (28, "riscv64-uefi-http"),
    (41, "rpi"),
    (Architecture::UNKNOWN.0, "unknown"),
];

impl Architecture {
    /// The architecture of a client that boots and does not say on what. IANA assigns the code to no architecture.
    pub const UNKNOWN: Self = Self(u16::MAX);

    /// Returns whether firmware of this architecture is UEFI.
    pub fn is_uefi(self) -> bool {
        !matches!(self.0, 0 | 20 | 41)
    }

    /// Returns the PXE architecture that runs the same programs.
    ///
    /// The HTTP Boot codes differ from the PXE codes of the same machine only in the transport. x86-64 firmware before
    /// EDK2 sends the EBC code 9. U-Boot on ARM runs UEFI programs (`bootefi`).
    pub fn over_tftp(self) -> Self {
        Self(match self.0 {
            15 => 6,
            9 | 16 | 17 => 7,
            18 | 21 => 10,
            19 | 22 => 11,
            20 => 0,
            23 => 21,
            24 => 22,
            28 => 27,
            other => other,
        })
    }

    /// Returns the name of the program in `EFI/BOOT` that UEFI firmware of this architecture starts from a medium.
    pub fn uefi_program(self) -> Option<&'static str> {
        match self.over_tftp().over_tftp().0 {
            6 => Some("BOOTIA32.EFI"),
            7 => Some("BOOTX64.EFI"),
            10 => Some("BOOTARM.EFI"),
            11 => Some("BOOTAA64.EFI"),
            27 => Some("BOOTRISCV64.EFI"),
            _ => None,
        }
    }
}

impl fmt::Display for Architecture {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        match NAMES.iter().find(|(code, _)| *code == self.0) {
            Some((_, name)) => out.write_str(name),
            None => write!(out, "architecture-{}", self.0),
        }
    }
}

impl fmt::Debug for Architecture {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(out, "{self} ({})", self.0)
    }
}

impl FromStr for Architecture {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let named = NAMES.iter().find(|(_, name)| *name == text).map(|(code, _)| *code);
        let code = named.or_else(|| text.strip_prefix("architecture-").unwrap_or(text).parse().ok());
        code.map(Self).ok_or_else(|| {
            let names: Vec<_> = NAMES.iter().map(|(_, name)| *name).collect();
            format!(
                "{text:?} is not a client architecture: expected one of {}, or the number of DHCP option 93",
                names.join(", ")
            )
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_name_and_its_code_are_the_same_architecture() {
        for (code, name) in NAMES {
            assert_eq!(name.parse(), Ok(Architecture(*code)));
            assert_eq!(Architecture(*code).to_string(), *name);
        }
        assert_eq!("33".parse(), Ok(Architecture(33)));
        assert_eq!(Architecture(33).to_string().parse(), Ok(Architecture(33)));
        assert!("vax".parse::<Architecture>().is_err());
    }

    #[test]
    fn each_uefi_firmware_starts_the_program_of_its_machine() {
        let rows = [
            (6, Some("BOOTIA32.EFI")),
            (16, Some("BOOTX64.EFI")),
            (9, Some("BOOTX64.EFI")),
            (19, Some("BOOTAA64.EFI")),
            (23, Some("BOOTARM.EFI")),
            (24, Some("BOOTAA64.EFI")),
            (28, Some("BOOTRISCV64.EFI")),
            (0, None),
            (20, None),
            (33, None),
            (Architecture::UNKNOWN.0, None),
        ];
        for (code, program) in rows {
            assert_eq!(Architecture(code).uefi_program(), program, "{code}");
        }
    }

    #[test]
    fn http_boot_runs_the_program_of_its_machine() {
        for (http, tftp) in [(15, 6), (16, 7), (9, 7), (19, 11), (21, 10), (22, 11), (24, 22), (0, 0), (7, 7)] {
            assert_eq!(Architecture(http).over_tftp(), Architecture(tftp));
        }
    }
}
