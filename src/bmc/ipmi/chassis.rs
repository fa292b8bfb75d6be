//! Chassis commands (IPMI 2.0, chapter 28). Pure.

use crate::fleet::{BmcAddress, BootDevice, FirmwareMode, Power, Reset};

use super::super::BmcError;
use super::packet::Command;

/// Get Chassis Status.
pub const STATUS: Command = Command { function: 0x00, command: 0x01 };
/// Chassis Control.
pub const CONTROL: Command = Command { function: 0x00, command: 0x02 };
/// Set System Boot Options.
pub const SET_BOOT_OPTIONS: Command = Command { function: 0x00, command: 0x08 };
/// Set Session Privilege Level.
pub const SET_PRIVILEGE: Command = Command { function: 0x06, command: 0x3b };
/// Close Session.
pub const CLOSE_SESSION: Command = Command { function: 0x06, command: 0x3c };

// Parameters of Set System Boot Options (table 28-14).
const BOOT_FLAGS: u8 = 5;
const VALID: u8 = 0x80;
const PERSISTENT: u8 = 0x40;
const UEFI: u8 = 0x20;
/// Parameter 3: the flags stay valid if no power operation follows within 60 s.
pub const KEEP_FLAGS_VALID: &[u8] = &[3, 0x08];
/// Parameter 4: the flags are for the BIOS, which has not handled them yet.
pub const ACKNOWLEDGE_BOOT_INFO: &[u8] = &[4, 0x01, 0x01];

/// Returns the power state in the data of Get Chassis Status.
pub fn power_of(status: &[u8]) -> Option<Power> {
    let state = status.first()?;
    Some(if state & 1 == 1 { Power::On } else { Power::Off })
}

/// Returns the data of Chassis Control for a power operation (table 28-4). IPMI has no graceful restart.
pub fn control(reset: Reset) -> Option<u8> {
    match reset {
        Reset::ForceOff => Some(0),
        Reset::On => Some(1),
        Reset::PowerCycle => Some(2),
        Reset::ForceRestart => Some(3),
        Reset::Nmi => Some(4),
        Reset::GracefulShutdown => Some(5),
        Reset::GracefulRestart => None,
    }
}

/// Returns the boot flags with their parameter number (table 28-14).
pub fn boot_flags(device: BootDevice, once: bool, mode: Option<FirmwareMode>) -> [u8; 6] {
    let selector = match device {
        BootDevice::Default => 0,
        BootDevice::Network => 1 << 2,
        BootDevice::Disk => 2 << 2,
        BootDevice::Cd => 5 << 2,
    };
    let persistent = if once { 0 } else { PERSISTENT };
    let uefi = if mode == Some(FirmwareMode::Uefi) { UEFI } else { 0 };
    [BOOT_FLAGS, VALID | persistent | uefi, selector, 0, 0, 0]
}

/// Returns the error of a completion code (table 5-2).
pub fn refusal(at: &BmcAddress, code: u8) -> BmcError {
    let (at, named) = (at.to_string(), |meaning: &str| format!("IPMI completion code {code:#04x} ({meaning})"));
    match code {
        0xc0 => BmcError::Busy { at, message: named("node busy"), retry_after: None },
        0xc3 => BmcError::Busy { at, message: named("timeout while processing"), retry_after: None },
        0xd1 => BmcError::Busy { at, message: named("firmware update"), retry_after: None },
        0xd2 => BmcError::Busy { at, message: named("the BMC is starting"), retry_after: None },
        0xd5 => BmcError::Busy { at, message: named("not in the present state"), retry_after: None },
        0xc1 | 0xc2 => BmcError::Unsupported { at, what: named("invalid command") },
        0x80 | 0xc9 | 0xcc => BmcError::Unsupported { at, what: named("invalid parameter") },
        0xd4 => BmcError::Denied { at, message: named("insufficient privilege; see bmc.privilegeLevel") },
        _ => BmcError::Refused { at, message: format!("IPMI completion code {code:#04x}") },
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn boot_flags_name_the_firmwares_mode() {
        use BootDevice::{Default, Disk, Network};
        for (device, once, mode, expected) in [
            (Network, true, Some(FirmwareMode::Uefi), [5, 0xa0, 0x04, 0, 0, 0]),
            (Network, true, Some(FirmwareMode::Legacy), [5, 0x80, 0x04, 0, 0, 0]),
            (Network, false, None, [5, 0xc0, 0x04, 0, 0, 0]),
            (Disk, false, Some(FirmwareMode::Uefi), [5, 0xe0, 0x08, 0, 0, 0]),
            (Default, true, None, [5, 0x80, 0x00, 0, 0, 0]),
        ] {
            assert_eq!(boot_flags(device, once, mode), expected, "{device:?} {once} {mode:?}");
        }
    }

    #[test]
    fn a_completion_code_says_whether_another_attempt_helps() {
        let at = "ipmi://b".parse().unwrap();
        for (code, reason) in
            [(0xc0, "Busy"), (0xd5, "Busy"), (0xcc, "NotSupported"), (0xd4, "Refused"), (0xff, "Refused")]
        {
            let error = refusal(&at, code);
            assert_eq!(error.reason(), reason, "{error}");
            assert!(error.to_string().contains(&format!("{code:#04x}")), "{error}");
        }
    }

    #[test]
    fn the_power_state_is_the_first_bit() {
        for (status, expected) in [
            (&[][..], None),
            (&[0x01, 0, 0], Some(Power::On)),
            (&[0x20, 0, 0], Some(Power::Off)),
            (&[0x61], Some(Power::On)),
        ] {
            assert_eq!(power_of(status), expected, "{status:?}");
        }
    }
}
