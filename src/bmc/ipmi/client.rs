use std::net::ToSocketAddrs;
use std::time::Duration;

use ipmi::{BlockingClient, PrivilegeLevel};

use crate::fleet::{Bmc, BmcAddress, Power};

use super::super::{Next, Reset, Trouble};

const APPLICATION: u8 = 0x06;
const SET_SESSION_PRIVILEGE: u8 = 0x3b;
const ADMINISTRATOR: u8 = 4;
const CHASSIS: u8 = 0x00;
const CONTROL: u8 = 0x02;
const SET_BOOT_OPTIONS: u8 = 0x08;
const STATUS: u8 = 0x01;
/// Is how long one packet's answer is waited for, and how often it is sent again.
const WAIT: Duration = Duration::from_secs(2);
const TRIES: u32 = 3;

pub async fn power(bmc: &Bmc, at: &BmcAddress) -> Result<Power, Trouble> {
    let status = ask(bmc, at, STATUS, Vec::new()).await?;
    match status.first() {
        Some(state) if state & 1 == 1 => Ok(Power::On),
        Some(_) => Ok(Power::Off),
        None => Err(Trouble::Lacks { at: at.to_string(), what: "the machine's power state" }),
    }
}

pub async fn reset(bmc: &Bmc, at: &BmcAddress, reset: Reset) -> Result<(), Trouble> {
    // IPMI 2.0, table 28-4. A machine is not asked politely to restart: IPMI has no such word.
    let control = match reset {
        Reset::ForceOff => 0,
        Reset::On => 1,
        Reset::PowerCycle => 2,
        Reset::ForceRestart => 3,
        Reset::Nmi => 4,
        Reset::GracefulShutdown => 5,
        Reset::GracefulRestart => {
            return Err(Trouble::Lacks { at: at.to_string(), what: "a graceful restart, which IPMI has not" });
        }
    };
    ask(bmc, at, CONTROL, vec![control]).await.map(drop)
}

pub async fn boot(bmc: &Bmc, at: &BmcAddress, next: Next, once: bool) -> Result<(), Trouble> {
    // IPMI 2.0, table 28-14, parameter 5: valid, persistent, UEFI; then the device.
    let device = match next {
        Next::AsItLikes => 0,
        Next::Network => 1 << 2,
        Next::Disk => 2 << 2,
    };
    let flags = if once { 0x80 } else { 0xc0 };
    ask(bmc, at, SET_BOOT_OPTIONS, vec![5, flags, device, 0, 0, 0]).await.map(drop)
}

/// Asks a chassis command in a session of its own. The library waits, so a thread that may waits with it.
async fn ask(bmc: &Bmc, at: &BmcAddress, command: u8, data: Vec<u8>) -> Result<Vec<u8>, Trouble> {
    let (bmc, at) = (bmc.clone(), at.clone());
    let asked = tokio::task::spawn_blocking(move || {
        let session = Session::open(&bmc, &at)?;
        let answer = session.ask(CHASSIS, command, &data);
        session.close();
        answer
    });
    let lost = |error: tokio::task::JoinError| Trouble::Unreachable { at: String::new(), cause: error.to_string() };
    asked.await.map_err(lost)?
}

/// Is a session with a controller, as its administrator.
struct Session<'a> {
    client: BlockingClient,
    at: &'a BmcAddress,
}

impl<'a> Session<'a> {
    fn open(bmc: &Bmc, at: &'a BmcAddress) -> Result<Self, Trouble> {
        let unreachable = |cause: String| Trouble::Unreachable { at: at.to_string(), cause };
        let found = (at.host.as_str(), at.port).to_socket_addrs();
        let target = found.map_err(|error| unreachable(error.to_string()))?.next();
        let target = target.ok_or_else(|| unreachable("its name has no address".into()))?;
        let client = BlockingClient::builder(target)
            .username(&bmc.username)
            .password(&bmc.password.0)
            .privilege_level(PrivilegeLevel::Administrator)
            .timeout(WAIT)
            .retries(TRIES)
            .build()
            .map_err(|error| unreachable(error.to_string()))?;
        let session = Self { client, at };
        // Sessions begin as a user's: without this every change is refused with 0xD4.
        session.ask(APPLICATION, SET_SESSION_PRIVILEGE, &[ADMINISTRATOR])?;
        Ok(session)
    }

    fn ask(&self, function: u8, command: u8, data: &[u8]) -> Result<Vec<u8>, Trouble> {
        let answer = self.client.send_raw(function, command, data);
        let answer =
            answer.map_err(|error| Trouble::Unreachable { at: self.at.to_string(), cause: error.to_string() })?;
        match answer.completion_code {
            0 => Ok(answer.data),
            code => {
                Err(Trouble::Refused { at: self.at.to_string(), message: format!("IPMI completion code {code:#04x}") })
            }
        }
    }

    /// Gives the session back: controllers have few of them.
    fn close(self) {
        if let Err(error) = self.client.close_session() {
            tracing::debug!(at = %self.at, %error, "an IPMI session was not closed");
        }
    }
}
