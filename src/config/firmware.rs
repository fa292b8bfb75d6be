//! Where boot programs are found.

use std::path::PathBuf;

use serde::Deserialize;

/// The files of signed boot programs in Debian's packages shim-signed and grub-efi-amd64-signed, or those for arm64. Both
/// files of a pair are taken or none: a shim starts only the GRUB that its own distribution signed.
const PACKAGED_PAIRS: [[(&str, &str); 2]; 2] = [
    [
        ("shimx64.efi", "/usr/lib/shim/shimx64.efi.signed"),
        ("grubx64.efi", "/usr/lib/grub/x86_64-efi-signed/grubnetx64.efi.signed"),
    ],
    [
        ("shimaa64.efi", "/usr/lib/shim/shimaa64.efi.signed"),
        ("grubaa64.efi", "/usr/lib/grub/arm64-efi-signed/grubnetaa64.efi.signed"),
    ],
];

/// Where shim and GRUB come from.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum SignedPrograms {
    /// The packages of this machine's distribution where both of a pair are installed, so that revocations arrive with
    /// its updates; else `firmware_dir`.
    #[default]
    Packages,
    /// `firmware_dir` only.
    FirmwareDir,
}

/// A boot program that a package of the distribution has.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PackagedProgram {
    /// Name that machines ask for.
    pub name: &'static str,
    /// The package's file.
    pub path: PathBuf,
}

impl SignedPrograms {
    /// Returns the pairs of programs that may be taken from packages.
    pub fn pairs(self) -> Vec<[PackagedProgram; 2]> {
        let program = |(name, path): (&'static str, &str)| PackagedProgram { name, path: path.into() };
        match self {
            Self::Packages => PACKAGED_PAIRS.map(|pair| pair.map(program)).into(),
            Self::FirmwareDir => Vec::new(),
        }
    }
}

/// `firmware_dir` as it is written: one directory, or several in the order of the search.
#[derive(Debug, Deserialize)]
#[serde(untagged, expecting = "expected a directory, or a list of directories")]
pub(super) enum RawDirectories {
    One(PathBuf),
    Several(Vec<PathBuf>),
}

impl RawDirectories {
    pub(super) fn into_paths(self) -> Vec<PathBuf> {
        match self {
            Self::One(path) => vec![path],
            Self::Several(paths) => paths,
        }
    }
}
