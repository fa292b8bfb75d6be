//! The IPMI client.

use std::net::ToSocketAddrs;
use std::time::Duration;

use ipmi::{BlockingClient, PrivilegeLevel};

use crate::fleet::{Bmc, BmcAddress, Power};

use super::super::{BmcError, BootDevice, Reset};

// Network functions and commands (IPMI 2.0, appendix G).
const APPLICATION: u8 = 0x06;
const SET_SESSION_PRIVILEGE: u8 = 0x3b;
const ADMINISTRATOR: u8 = 4;
const CHASSIS: u8 = 0x00;
const CONTROL: u8 = 0x02;
const SET_BOOT_OPTIONS: u8 = 0x08;
const STATUS: u8 = 0x01;
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

/// Sets the boot device (Set System Boot Options).
pub async fn set_boot_device(bmc: &Bmc, at: &BmcAddress, device: BootDevice, once: bool) -> Result<(), BmcError> {
    // IPMI 2.0, table 28-14, parameter 5: valid, persistent, UEFI; then the device.
    let device = match device {
        BootDevice::Default => 0,
        BootDevice::Network => 1 << 2,
        BootDevice::Disk => 2 << 2,
    };
    let flags = if once { 0x80 } else { 0xc0 };
    command(bmc, at, SET_BOOT_OPTIONS, vec![5, flags, device, 0, 0, 0]).await.map(drop)
}

/// Sends a chassis command in a new session. The library blocks, so it runs on a blocking thread.
async fn command(bmc: &Bmc, at: &BmcAddress, command: u8, data: Vec<u8>) -> Result<Vec<u8>, BmcError> {
    let (bmc, at, address) = (bmc.clone(), at.clone(), at.to_string());
    let result = tokio::task::spawn_blocking(move || {
        let session = IpmiSession::open(&bmc, &at)?;
        let answer = session.command(CHASSIS, command, &data);
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
            .map_err(|error| unreachable(error.to_string()))?;
        let session = Self { client, at };
        // Sessions begin with user privilege, with which every change is refused (completion code 0xD4).
        session.command(APPLICATION, SET_SESSION_PRIVILEGE, &[ADMINISTRATOR])?;
        Ok(session)
    }

    fn command(&self, function: u8, command: u8, data: &[u8]) -> Result<Vec<u8>, BmcError> {
        let answer = self.client.send_raw(function, command, data);
        let answer =
            answer.map_err(|error| BmcError::Unreachable { at: self.at.to_string(), cause: error.to_string() })?;
        match answer.completion_code {
            0 => Ok(answer.data),
            code => {
                Err(BmcError::Refused { at: self.at.to_string(), message: format!("IPMI completion code {code:#04x}") })
            }
        }
    }

    /// Closes the session: BMCs have few of them.
    fn close(self) {
        if let Err(error) = self.client.close_session() {
            tracing::debug!(at = %self.at, %error, "failed to close an IPMI session");
        }
    }
}
