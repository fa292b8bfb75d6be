//! The IPMI client: sends packets, and repeats those that are not answered.

use std::time::Duration;

use ring::rand::{SecureRandom, SystemRandom};
use tokio::net::UdpSocket;
use tokio::sync::mpsc;
use tokio::time::{Instant, timeout_at};

use crate::fleet::{Bmc, BmcAddress, BootDevice, CipherSuite, FirmwareMode, Power, PrivilegeLevel, Reset};

use super::super::BmcError;
use super::chassis::{self, boot_flags, control, power_of};
use super::login::{self, Login, LoginError, MAX_PASSWORD, MAX_USERNAME, ProvenBmc};
use super::packet::{self, Command, MAX_PACKET, PacketError, PayloadType};
use super::session::Session;
use super::sol::{self, ConsoleReader};

/// Times to wait for the answer to a packet; it is sent so often.
const TRIES: &[Duration] = &[Duration::from_secs(1), Duration::from_secs(2), Duration::from_secs(3)];
/// The same for the first packet with a suite that another one follows.
const FIRST_SUITE_TRIES: &[Duration] = &[Duration::from_secs(1), Duration::from_secs(2)];
/// The same for the packet that closes a session. A session that is not closed ends after 60 s.
const CLOSE_TRIES: &[Duration] = &[Duration::from_millis(700), Duration::from_millis(700)];

/// Interval of the packets that keep a session with a console open: it ends after 60 s without one.
const KEEP_ALIVE_INTERVAL: Duration = Duration::from_secs(15);
/// Time without any packet after which a console is given up.
const CONSOLE_TIMEOUT: Duration = Duration::from_secs(50);

/// An open session with a BMC. One that is dropped without `close` is closed without waiting for the answer.
#[derive(Debug)]
pub struct IpmiSession {
    socket: UdpSocket,
    at: BmcAddress,
    session: Session,
    privilege: PrivilegeLevel,
    /// Whether this session has the serial console of the machine: that of another one is not to be ended.
    has_console: bool,
    is_closed: bool,
}

impl IpmiSession {
    /// Logs in. Returns the session with its cipher suite. `known` is the suite that the BMC used before: another one is not
    /// offered, so that nobody on the way can ask for a worse one.
    ///
    /// # Errors
    /// The BMC does not answer, or refuses the user or the cipher suite.
    pub async fn open(bmc: &Bmc, at: &BmcAddress, known: Option<CipherSuite>) -> Result<(Self, CipherSuite), BmcError> {
        check_lengths(bmc, at)?;
        let socket = connect(at).await?;
        let suites = bmc.cipher_suite.or(known).map_or(CipherSuite::ALL.to_vec(), |suite| vec![suite]);
        let mut last = None;
        for (place, suite) in suites.iter().enumerate() {
            let is_last = place + 1 == suites.len();
            let login = Login {
                suite: *suite,
                privilege: bmc.privilege_level.unwrap_or_default(),
                username: bmc.username.clone(),
                password: bmc.password.0.as_bytes().to_vec(),
                session: u32::from_le_bytes(random(at)?) | 1,
                random: random(at)?,
            };
            let opening = Opening { socket: &socket, at, login: &login };
            match opening.request(if is_last { TRIES } else { FIRST_SUITE_TRIES }).await {
                Ok(bmc_session) => {
                    let session = opening.log_in(bmc_session).await?;
                    let (at, privilege) = (at.clone(), login.privilege);
                    let mut opened = Self { socket, at, session, privilege, has_console: false, is_closed: false };
                    opened.raise_privilege().await?;
                    return Ok((opened, *suite));
                }
                Err(OpenError::NextSuite(error)) => last = Some(error),
                Err(OpenError::Final(error)) => return Err(error),
            }
        }
        let refused = || BmcError::Refused { at: at.to_string(), message: "no cipher suite is left".to_owned() };
        Err(last.unwrap_or_else(refused))
    }

    /// Returns the power state of the machine (Get Chassis Status).
    pub async fn read_power(&mut self) -> Result<Power, BmcError> {
        let status = self.command(chassis::STATUS, &[]).await?;
        power_of(&status).ok_or_else(|| self.unsupported("reading the power state"))
    }

    /// Performs a power operation (Chassis Control).
    pub async fn reset(&mut self, reset: Reset) -> Result<(), BmcError> {
        let control = control(reset).ok_or_else(|| self.unsupported("graceful restart over IPMI"))?;
        self.command(chassis::CONTROL, &[control]).await.map(drop)
    }

    /// Sets the boot device (Set System Boot Options). The flags do not expire before the machine is switched on, and name
    /// the mode of its firmware.
    pub async fn set_boot_device(
        &mut self,
        device: BootDevice,
        once: bool,
        mode: Option<FirmwareMode>,
    ) -> Result<(), BmcError> {
        // Many BMCs have no such parameters. They keep the flags for 60 s then, which is enough for a power-on right
        // after.
        for parameter in [chassis::KEEP_FLAGS_VALID, chassis::ACKNOWLEDGE_BOOT_INFO] {
            match self.command(chassis::SET_BOOT_OPTIONS, parameter).await {
                Ok(_) | Err(BmcError::Refused { .. } | BmcError::Unsupported { .. }) => {}
                Err(error) => return Err(error),
            }
        }
        self.command(chassis::SET_BOOT_OPTIONS, &boot_flags(device, once, mode)).await.map(drop)
    }

    /// Activates the serial console (Serial over LAN), and sends each piece of its text until the BMC ends it, or nobody
    /// receives any more.
    ///
    /// # Errors
    /// The BMC has no console for this user, or does not answer any more.
    pub async fn follow_console(&mut self, texts: &mpsc::Sender<Vec<u8>>) -> Result<(), BmcError> {
        match self.exchange(sol::ACTIVATE, &sol::ACTIVATE_DATA, TRIES).await? {
            (0, _) => self.has_console = true,
            (sol::ALREADY_ACTIVE, _) => {
                let message = "the serial console is in use by another session".to_owned();
                return Err(BmcError::Busy { at: self.at.to_string(), message, retry_after: None });
            }
            (code, _) => return Err(chassis::refusal(&self.at, code)),
        }
        let mut console = ConsoleReader::default();
        let mut last_heard = Instant::now();
        let mut received = [0; MAX_PACKET + 1];
        let mut asked = Instant::now();
        loop {
            if asked.elapsed() >= KEEP_ALIVE_INTERVAL {
                let number = self.session.next_request();
                let request = self.session.request(number, sol::KEEP_ALIVE, &[], random(&self.at)?);
                self.send_packet(request).await?;
                asked = Instant::now();
            }
            if last_heard.elapsed() >= CONSOLE_TIMEOUT {
                let seconds = CONSOLE_TIMEOUT.as_secs();
                return Err(unreachable(&self.at, format!("nothing heard of the serial console for {seconds} s")));
            }
            let Ok(length) = timeout_at(asked + KEEP_ALIVE_INTERVAL, self.socket.recv(&mut received)).await else {
                continue;
            };
            let length = length.map_err(|error| unreachable(&self.at, error.to_string()))?;
            let Ok((payload, body)) = self.session.open(received.get(..length).unwrap_or_default()) else { continue };
            last_heard = Instant::now();
            let Some(packet) = console.receive(payload, &body) else { continue };
            if !packet.text.is_empty() && texts.send(packet.text.to_vec()).await.is_err() {
                return Ok(());
            }
            let is_over = packet.is_over;
            if let Some(acknowledgement) = packet.acknowledgement {
                let vector = random(&self.at)?;
                let sealed = self.session.seal(PayloadType::SerialOverLan, &acknowledgement, vector);
                self.send_packet(sealed).await?;
            }
            if is_over {
                return Ok(());
            }
        }
    }

    /// Releases the serial console, if this session has it.
    pub async fn release_console(&mut self) {
        if !std::mem::take(&mut self.has_console) {
            return;
        }
        drop(self.exchange(sol::DEACTIVATE, &sol::DEACTIVATE_DATA, CLOSE_TRIES).await);
    }

    /// Sends a packet whose answer is not waited for; `None` is one that the session has no number for.
    async fn send_packet(&self, packet: Option<Vec<u8>>) -> Result<(), BmcError> {
        let packet = packet.ok_or_else(|| invalid(&self.at, "the session is used up".to_owned()))?;
        self.socket.send(&packet).await.map(drop).map_err(|error| unreachable(&self.at, error.to_string()))
    }

    /// Returns the error of what cannot be done over IPMI.
    pub fn unsupported(&self, what: &str) -> BmcError {
        BmcError::Unsupported { at: self.at.to_string(), what: what.to_owned() }
    }

    /// Closes the session: BMCs have few of them.
    pub async fn close(mut self) {
        self.is_closed = true;
        let session = self.session.bmc_id().to_le_bytes();
        if let Err(error) = self.exchange(chassis::CLOSE_SESSION, &session, CLOSE_TRIES).await {
            tracing::debug!(at = %self.at, %error, "failed to close an IPMI session");
        }
    }

    /// Raises the privilege of the session: it begins with that of a user.
    async fn raise_privilege(&mut self) -> Result<(), BmcError> {
        if self.privilege == PrivilegeLevel::User {
            return Ok(());
        }
        let level = login::privilege_number(self.privilege);
        let (code, _) = self.exchange(chassis::SET_PRIVILEGE, &[level], TRIES).await?;
        match code {
            0 => Ok(()),
            0x80..=0x82 | 0xcc | 0xd4 => {
                let message = format!(
                    "IPMI completion code {code:#04x}: the user may not have the privilege level {}; see bmc.privilegeLevel",
                    self.privilege
                );
                Err(BmcError::Denied { at: self.at.to_string(), message })
            }
            code => Err(chassis::refusal(&self.at, code)),
        }
    }

    /// Sends a command. Returns the data of its response.
    async fn command(&mut self, command: Command, data: &[u8]) -> Result<Vec<u8>, BmcError> {
        match self.exchange(command, data, TRIES).await? {
            (0, data) => Ok(data),
            (code, _) => Err(chassis::refusal(&self.at, code)),
        }
    }

    async fn exchange(&mut self, command: Command, data: &[u8], tries: &[Duration]) -> Result<(u8, Vec<u8>), BmcError> {
        let Self { socket, at, session, .. } = self;
        let number = session.next_request();
        let mut answered = Waiting::new(socket, at, "a command");
        for wait in tries {
            let request = session.request(number, command, data, random(at)?);
            let request = request.ok_or_else(|| invalid(at, "a command that is too long".to_owned()))?;
            if let Some(response) =
                answered.send(&request, *wait, |packet| session.response(number, command, packet)).await?
            {
                return Ok(response);
            }
        }
        Err(answered.failed(tries))
    }
}

impl Drop for IpmiSession {
    fn drop(&mut self) {
        if self.is_closed {
            return;
        }
        let number = self.session.next_request();
        let id = self.session.bmc_id().to_le_bytes();
        if let Ok(vector) = random(&self.at)
            && let Some(packet) = self.session.request(number, chassis::CLOSE_SESSION, &id, vector)
        {
            drop(self.socket.try_send(&packet));
        }
    }
}

/// A login in progress.
struct Opening<'a> {
    socket: &'a UdpSocket,
    at: &'a BmcAddress,
    login: &'a Login,
}

/// The reason that no session was opened.
enum OpenError {
    /// The BMC does not have the cipher suite, answers with another one, or not at all.
    NextSuite(BmcError),
    /// Another one.
    Final(BmcError),
}

impl Opening<'_> {
    /// Asks for a session. Returns the BMC's ID of it.
    async fn request(&self, tries: &[Duration]) -> Result<u32, OpenError> {
        let payload = self.login.open_request(1);
        let read = |body: &[u8]| self.login.read_open_response(1, body);
        let asked = self.ask("an Open Session Request", PayloadType::OpenSessionRequest, &payload, tries, read).await;
        match asked.map_err(|error| match error {
            BmcError::Unreachable { .. } | BmcError::InvalidReply { .. } => OpenError::NextSuite(error),
            other => OpenError::Final(other),
        })? {
            Ok(session) => Ok(session),
            // Some BMCs answer with the suite that they have.
            Err(error @ (LoginError::CipherSuite | LoginError::OtherAlgorithms)) => {
                Err(OpenError::NextSuite(self.refused(error)))
            }
            Err(error) => Err(OpenError::Final(self.refused(error))),
        }
    }

    /// Proves the password to the BMC, and has it prove that it knows it.
    async fn log_in(&self, bmc_session: u32) -> Result<Session, BmcError> {
        let payload = self.login.rakp1(2, bmc_session);
        let read = |body: &[u8]| self.login.read_rakp2(2, bmc_session, body);
        let proven: ProvenBmc = match self.ask("RAKP 1", PayloadType::Rakp1, &payload, TRIES, read).await? {
            Ok(proven) => proven,
            Err(error) => {
                if error == LoginError::WrongPassword {
                    let end = packet::outside_session(PayloadType::Rakp3, &login::rakp3_failure(3, bmc_session));
                    drop(self.socket.send(&end).await);
                }
                return Err(self.refused(error));
            }
        };
        let read = |body: &[u8]| proven.read_rakp4(3, body);
        match self.ask("RAKP 3", PayloadType::Rakp3, &proven.rakp3(3), TRIES, read).await? {
            Ok(keys) => Ok(Session::new(keys, self.login.session, bmc_session)),
            Err(error) => Err(self.refused(error)),
        }
    }

    /// Sends a message of the login until it is answered.
    async fn ask<T>(
        &self,
        name: &'static str,
        kind: PayloadType,
        payload: &[u8],
        tries: &[Duration],
        read: impl Fn(&[u8]) -> Result<T, LoginError>,
    ) -> Result<Result<T, LoginError>, BmcError> {
        let request = packet::outside_session(kind, payload);
        let reply = PayloadType::from_number(kind.number() + 1);
        let take = |packet: &[u8]| {
            let (found, body) = packet::read_outside_session(packet)?;
            if Some(found) != reply {
                return Err(PacketError::Unrelated);
            }
            match read(body) {
                Err(LoginError::Unrelated) => Err(PacketError::Unrelated),
                answer => Ok(answer),
            }
        };
        let mut waiting = Waiting::new(self.socket, self.at, name);
        for wait in tries {
            if let Some(answer) = waiting.send(&request, *wait, take).await? {
                return Ok(answer);
            }
        }
        Err(waiting.failed(tries))
    }

    /// Returns the error of a login that the BMC or this client refuses.
    fn refused(&self, error: LoginError) -> BmcError {
        let Login { suite, privilege, username, .. } = self.login;
        let at = self.at.to_string();
        let hint = match error {
            LoginError::Privilege => "; see bmc.privilegeLevel",
            LoginError::CipherSuite => "; see bmc.cipherSuite (17 or 3: the BMC must have one of them)",
            _ => "",
        };
        let message =
            format!("IPMI login of {username:?} at level {privilege} with cipher suite {suite}: {error}{hint}");
        match error {
            LoginError::NoResources => BmcError::Busy { at, message, retry_after: None },
            LoginError::WrongPassword | LoginError::NoSuchUser | LoginError::Privilege => {
                BmcError::Denied { at, message }
            }
            LoginError::CipherSuite => BmcError::Unsupported { at, what: message },
            LoginError::OtherAlgorithms => BmcError::InvalidReply { at, message },
            LoginError::Status(_) | LoginError::Unrelated => BmcError::Refused { at, message },
        }
    }
}

/// A packet that waits for its answer.
struct Waiting<'a> {
    socket: &'a UdpSocket,
    at: &'a BmcAddress,
    name: &'static str,
    /// The reason that the last packet was dropped.
    dropped: Option<PacketError>,
}

impl<'a> Waiting<'a> {
    fn new(socket: &'a UdpSocket, at: &'a BmcAddress, name: &'static str) -> Self {
        Self { socket, at, name, dropped: None }
    }

    /// Sends a packet and waits for an answer; `None` if there is none in this time. Packets that are none are dropped.
    async fn send<T>(
        &mut self,
        packet: &[u8],
        wait: Duration,
        mut take: impl FnMut(&[u8]) -> Result<T, PacketError>,
    ) -> Result<Option<T>, BmcError> {
        let deadline = Instant::now() + wait;
        let unreachable = |error: std::io::Error| unreachable(self.at, error.to_string());
        self.socket.send(packet).await.map_err(unreachable)?;
        let mut received = [0; MAX_PACKET + 1];
        loop {
            let Ok(length) = timeout_at(deadline, self.socket.recv(&mut received)).await else { return Ok(None) };
            let length = length.map_err(unreachable)?;
            match take(received.get(..length).unwrap_or_default()) {
                Ok(answer) => return Ok(Some(answer)),
                Err(reason) => {
                    tracing::debug!(at = %self.at, %reason, "IPMI packet dropped");
                    self.dropped = Some(reason);
                }
            }
        }
    }

    /// Returns the error after the last try.
    fn failed(&self, tries: &[Duration]) -> BmcError {
        match self.dropped {
            Some(reason) => invalid(self.at, format!("{} was answered with {reason}", self.name)),
            None => {
                let seconds = tries.iter().sum::<Duration>().as_secs_f32();
                unreachable(self.at, format!("no answer to {} within {seconds} s ({} tries)", self.name, tries.len()))
            }
        }
    }
}

/// Refuses a user name or a password that no BMC can have.
fn check_lengths(bmc: &Bmc, at: &BmcAddress) -> Result<(), BmcError> {
    let too_long = |what: &str, length: usize, limit: usize| BmcError::Denied {
        at: at.to_string(),
        message: format!("{what} has {length} bytes; IPMI allows {limit}"),
    };
    match (bmc.username.len(), bmc.password.0.len()) {
        (length, _) if length > MAX_USERNAME => Err(too_long("bmc.username", length, MAX_USERNAME)),
        (_, length) if length > MAX_PASSWORD => Err(too_long("bmc.password", length, MAX_PASSWORD)),
        _ => Ok(()),
    }
}

/// Returns a socket that receives from the BMC only.
async fn connect(at: &BmcAddress) -> Result<UdpSocket, BmcError> {
    let failed = |error: std::io::Error| unreachable(at, error.to_string());
    let target = tokio::net::lookup_host((at.host.as_str(), at.port)).await.map_err(failed)?.next();
    let target = target.ok_or_else(|| unreachable(at, "the name has no address".to_owned()))?;
    let socket = UdpSocket::bind(if target.is_ipv4() { "0.0.0.0:0" } else { "[::]:0" }).await.map_err(failed)?;
    socket.connect(target).await.map_err(failed)?;
    Ok(socket)
}

fn unreachable(at: &BmcAddress, cause: String) -> BmcError {
    BmcError::Unreachable { at: at.to_string(), cause }
}

fn invalid(at: &BmcAddress, message: String) -> BmcError {
    BmcError::InvalidReply { at: at.to_string(), message }
}

/// Returns random octets.
fn random<const LENGTH: usize>(at: &BmcAddress) -> Result<[u8; LENGTH], BmcError> {
    let mut octets = [0; LENGTH];
    let filled = SystemRandom::new().fill(&mut octets);
    filled.map_err(|_| unreachable(at, "the system has no random numbers".to_owned()))?;
    Ok(octets)
}
