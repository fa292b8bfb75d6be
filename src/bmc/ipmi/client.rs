//! The IPMI client.

use std::net::ToSocketAddrs;
use std::time::Duration;

use ipmi::{BlockingClient, PrivilegeLevel};

use crate::fleet::{Bmc, BmcAddress, FirmwareMode, Power};

use super::super::{BmcError, BootDevice, Reset};

// Network functions and commands (IPMI 2.0, appendix G).
const APPLICATION: u8 = 0x06;
const SET_SESSION_PRIVILEGE: u8 = 0x3b;
const ADMINISTRATOR: u8 = 4;
const CHASSIS: u8 = 0x00;
const CONTROL: u8 = 0x02;
const SET_BOOT_OPTIONS: u8 = 0x08;
const STATUS: u8 = 0x01;
// Parameters of Set System Boot Options (IPMI 2.0, table 28-14).
const BOOT_FLAGS: u8 = 5;
const VALID: u8 = 0x80;
const PERSISTENT: u8 = 0x40;
const UEFI: u8 = 0x20;
/// Parameter 3: the flags stay valid if no power operation follows within 60 s.
const KEEP_FLAGS_VALID: &[u8] = &[3, 0x08];
/// Parameter 4: the flags are for the BIOS, which has not handled them yet.
const ACKNOWLEDGE_BOOT_INFO: &[u8] = &[4, 0x01, 0x01];
/// Time to wait for the answer to one packet.
const PACKET_TIMEOUT: Duration = Duration::from_secs(2);
/// Maximum number of times that a packet is sent again.
const MAX_RETRIES: u32 = 3;

/// Returns the power state of the machine (Get Chassis Status).
pub async fn read_power(bmc: &Bmc, at: &BmcAddress) -> Result<Power, BmcError> {
    let status = command(bmc, at, STATUS, Vec::new()).await?;
    match status.first() {
        Some(state) if state & 1 == 1 => Ok(Power::On),
        Some(_) => Ok(Power::Off),
        None => Err(BmcError::Unsupported { at: at.to_string(), what: "reading the power state".to_owned() }),
    }
}

/// Performs a power operation (Chassis Control).
pub async fn reset(bmc: &Bmc, at: &BmcAddress, reset: Reset) -> Result<(), BmcError> {
    // IPMI 2.0, table 28-4. IPMI has no graceful restart.
    let control = match reset {
        Reset::ForceOff => 0,
        Reset::On => 1,
        Reset::PowerCycle => 2,
        Reset::ForceRestart => 3,
        Reset::Nmi => 4,
        Reset::GracefulShutdown => 5,
        Reset::GracefulRestart => {
            return Err(BmcError::Unsupported { at: at.to_string(), what: "graceful restart over IPMI".to_owned() });
        }
    };
    command(bmc, at, CONTROL, vec![control]).await.map(drop)
}

/// Sets the boot device (Set System Boot Options). The flags do not expire before the machine is switched on, and name
/// the mode of its firmware.
pub async fn set_boot_device(
    bmc: &Bmc,
    at: &BmcAddress,
    device: BootDevice,
    once: bool,
    mode: Option<FirmwareMode>,
) -> Result<(), BmcError> {
    in_session(bmc, at, move |session| {
        // Many BMCs have no such parameters. They keep the flags for 60 s then, which is enough for a power-on right
        // after.
        for parameter in [KEEP_FLAGS_VALID, ACKNOWLEDGE_BOOT_INFO] {
            match session.command(CHASSIS, SET_BOOT_OPTIONS, parameter) {
                Ok(_) | Err(BmcError::Refused { .. } | BmcError::Unsupported { .. }) => {}
                Err(error) => return Err(error),
            }
        }
        session.command(CHASSIS, SET_BOOT_OPTIONS, &boot_flags(device, once, mode)).map(drop)
    })
    .await
}

/// Returns the boot flags with their parameter number (IPMI 2.0, table 28-14).
fn boot_flags(device: BootDevice, once: bool, mode: Option<FirmwareMode>) -> [u8; 6] {
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

/// Sends a chassis command in a new session.
async fn command(bmc: &Bmc, at: &BmcAddress, command: u8, data: Vec<u8>) -> Result<Vec<u8>, BmcError> {
    in_session(bmc, at, move |session| session.command(CHASSIS, command, &data)).await
}

/// Runs commands in a new session. The library blocks, so they run on a blocking thread.
async fn in_session<T: Send + 'static>(
    bmc: &Bmc,
    at: &BmcAddress,
    commands: impl FnOnce(&IpmiSession<'_>) -> Result<T, BmcError> + Send + 'static,
) -> Result<T, BmcError> {
    let (bmc, at, address) = (bmc.clone(), at.clone(), at.to_string());
    let result = tokio::task::spawn_blocking(move || {
        let session = IpmiSession::open(&bmc, &at)?;
        let answer = commands(&session);
        session.close();
        answer
    });
    let panicked = |error: tokio::task::JoinError| BmcError::Unreachable { at: address, cause: error.to_string() };
    result.await.map_err(panicked)?
}

/// A session with administrator privilege.
struct IpmiSession<'a> {
    client: BlockingClient,
    at: &'a BmcAddress,
}

impl<'a> IpmiSession<'a> {
    fn open(bmc: &Bmc, at: &'a BmcAddress) -> Result<Self, BmcError> {
        let unreachable = |cause: String| BmcError::Unreachable { at: at.to_string(), cause };
        let found = (at.host.as_str(), at.port).to_socket_addrs();
        let target = found.map_err(|error| unreachable(error.to_string()))?.next();
        let target = target.ok_or_else(|| unreachable("the name has no address".into()))?;
        let client = BlockingClient::builder(target)
            .username(&bmc.username)
            .password(&bmc.password.0)
            .privilege_level(PrivilegeLevel::Administrator)
            .timeout(PACKET_TIMEOUT)
            .retries(MAX_RETRIES)
            .build()
            .map_err(|error| failure(at, &error))?;
        let session = Self { client, at };
        // Sessions begin with user privilege, with which every change is refused (completion code 0xD4).
        session.command(APPLICATION, SET_SESSION_PRIVILEGE, &[ADMINISTRATOR])?;
        Ok(session)
    }

    fn command(&self, function: u8, command: u8, data: &[u8]) -> Result<Vec<u8>, BmcError> {
        let answer = self.client.send_raw(function, command, data).map_err(|error| failure(self.at, &error))?;
        match answer.completion_code {
            0 => Ok(answer.data),
            code => Err(refusal(self.at, code)),
        }
    }

    /// Closes the session: BMCs have few of them.
    fn close(self) {
        if let Err(error) = self.client.close_session() {
            tracing::debug!(at = %self.at, %error, "failed to close an IPMI session");
        }
    }
}

/// Returns the error of a session that failed.
fn failure(at: &BmcAddress, error: &ipmi::Error) -> BmcError {
    let at = at.to_string();
    match error {
        ipmi::Error::AuthenticationFailed(_) => BmcError::Denied { at, message: error.to_string() },
        ipmi::Error::CompletionCode { completion_code } => {
            BmcError::Refused { at, message: format!("IPMI completion code {completion_code:#04x}") }
        }
        _ => BmcError::Unreachable { at, cause: error.to_string() },
    }
}

/// Returns the error of a completion code (IPMI 2.0, table 5-2).
fn refusal(at: &BmcAddress, code: u8) -> BmcError {
    let (at, named) = (at.to_string(), |meaning: &str| format!("IPMI completion code {code:#04x} ({meaning})"));
    match code {
        0xc0 => BmcError::Busy { at, message: named("node busy"), retry_after: None },
        0xc3 => BmcError::Busy { at, message: named("timeout while processing"), retry_after: None },
        0xd1 => BmcError::Busy { at, message: named("firmware update"), retry_after: None },
        0xd2 => BmcError::Busy { at, message: named("the BMC is starting"), retry_after: None },
        0xd5 => BmcError::Busy { at, message: named("not in the present state"), retry_after: None },
        0xc1 | 0xc2 => BmcError::Unsupported { at, what: named("invalid command") },
        0x80 | 0xc9 | 0xcc => BmcError::Unsupported { at, what: named("invalid parameter") },
        0xd4 => BmcError::Denied { at, message: named("insufficient privilege") },
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
}
