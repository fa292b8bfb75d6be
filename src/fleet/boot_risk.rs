//! The reasons why a boot of a host will not work, or not as its spec says, as far as they are known before it.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// The reason of a warning in a host's status.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize, JsonSchema)]
pub enum BootRisk {
    /// The file of the image cannot be served.
    ImageBroken,
    /// The image has no boot loader for the machine's firmware.
    NoLoader,
    /// The image has no kernel that `method: kernel` can load.
    KernelNotFound,
    /// The image has no kernel that `method: sanhook` can load: the machine boots its loader instead.
    LoaderInstead,
    /// The machine has not enough memory for the kernel and its initrds.
    MemoryTooSmall,
    /// Kernel arguments, or the address of the config, cannot be added to the boot menus of the image.
    ArgumentsNotAdded,
    /// The config never reports a completed install, and the install waits for the report.
    CompletionNotReported,
    /// The machine may be that of another host, over another interface.
    SecondInterface,
}

impl BootRisk {
    /// Returns the reason of a condition.
    pub fn condition_reason(self) -> String {
        format!("{self:?}")
    }

    /// Returns whether the boot works: `None` if that is not known.
    pub fn boot_works(self) -> Option<bool> {
        match self {
            Self::ImageBroken
            | Self::NoLoader
            | Self::KernelNotFound
            | Self::MemoryTooSmall
            | Self::ArgumentsNotAdded
            | Self::CompletionNotReported => Some(false),
            Self::LoaderInstead => Some(true),
            Self::SecondInterface => None,
        }
    }
}

/// Returns the risk that decides on a boot: the first that it fails by, or else the first of which that is not known.
pub fn decisive(risks: &[BootRisk]) -> Option<BootRisk> {
    let first = |works: Option<bool>| risks.iter().copied().find(|risk| risk.boot_works() == works);
    first(Some(false)).or_else(|| first(None))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_certain_failure_decides_before_an_uncertain_one() {
        use BootRisk::{ArgumentsNotAdded, LoaderInstead, NoLoader, SecondInterface};
        for (risks, expected) in [
            (&[][..], None),
            (&[LoaderInstead], None),
            (&[LoaderInstead, SecondInterface], Some(SecondInterface)),
            (&[SecondInterface, ArgumentsNotAdded, NoLoader], Some(ArgumentsNotAdded)),
        ] {
            assert_eq!(decisive(risks), expected, "{risks:?}");
        }
    }
}
