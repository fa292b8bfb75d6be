//! The stages of a ledger, and the ways in which a boot ends.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

macro_rules! codes {
    ($(#[$about:meta])* $name:ident { $($variant:ident = $code:literal => $title:literal,)* }) => {
        $(#[$about])*
        #[derive(
            Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize, JsonSchema,
        )]
        #[serde(rename_all = "snake_case")]
        pub enum $name { $(#[doc = concat!("`", $code, "`: ", $title, ".")] $variant,)* }

        impl $name {
            /// All values, in order.
            pub const ALL: &'static [Self] = &[$(Self::$variant,)*];

            /// Returns the stable code for metrics, logs and the API, in snake case.
            pub fn code(self) -> &'static str {
                match self { $(Self::$variant => $code,)* }
            }
        }
    };
}

codes! {
    /// A stage of a boot, as a ledger counts its time.
    LedgerStage {
        Power = "power" => "from the power-on to the first request",
        OtherInterface = "other_interface" => "the firmware tried another interface first",
        Ipv6 = "ipv6" => "the firmware tried IPv6 first",
        Unheard = "unheard" => "the firmware asked, and nothing arrived",
        Dhcp = "dhcp" => "DHCP of the firmware, up to the request for the boot program",
        Program = "program" => "the boot program, over TFTP or HTTP",
        ProgramStart = "program_start" => "the boot program starts, and takes an address",
        Script = "script" => "the boot program asks for its script",
        Wait = "wait" => "the script waits for the image, or shows a menu",
        Loader = "loader" => "the loader of the image, until the kernel is loaded",
        Kernel = "kernel" => "the kernel starts, up to its first request",
        Install = "install" => "the installer, up to its report that it is done",
        System = "system" => "from the boot of the disk to the first request of its system",
    }
}

codes! {
    /// The way in which a boot ended.
    BootOutcome {
        Installed = "installed" => "the machine reported that its install is complete",
        LocalDisk = "local_disk" => "the machine was sent to its own disk",
        Restarted = "restarted" => "another boot of the machine began",
        PoweredOff = "powered_off" => "the machine was switched off",
    }
}

impl LedgerStage {
    /// Returns whether the stage may come after another one. A boot never goes back, except to what firmware tries when
    /// a boot fails.
    pub(super) fn may_follow(self, previous: Self) -> bool {
        let is_retry = matches!(self, Self::Ipv6 | Self::OtherInterface) && previous.rank() < Self::Loader.rank();
        is_retry || self.rank() >= previous.rank()
    }

    fn rank(self) -> u8 {
        match self {
            Self::Power | Self::OtherInterface | Self::Ipv6 | Self::Unheard => 0,
            Self::Dhcp => 1,
            Self::Program | Self::ProgramStart | Self::Script => 2,
            Self::Wait | Self::Loader | Self::Kernel | Self::System => 3,
            Self::Install => 4,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_code_is_that_of_the_json() {
        for stage in LedgerStage::ALL {
            assert_eq!(serde_json::to_value(stage).unwrap(), stage.code());
        }
        for outcome in BootOutcome::ALL {
            assert_eq!(serde_json::to_value(outcome).unwrap(), outcome.code());
        }
    }
}
