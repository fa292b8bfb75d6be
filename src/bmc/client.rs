//! Requests to BMCs, over the protocol of their address or the one that was detected.

use std::time::Duration;

use jiff::Timestamp;
use tokio::sync::mpsc;
use tokio::time::{Instant, timeout_at};

use crate::fleet::{
    Bmc, BmcAddress, BmcProtocol, BmcRecord, BootDevice, FirmwareMode, HardwareDetails, Host, Power, Reset,
};
use crate::http_client::tls::{FINGERPRINT, TrustAnchor};
use crate::http_client::{ConnectError, Server, ServerConnection};

use super::ipmi::client::IpmiSession;
use super::redfish::client::RedfishService;
pub use super::redfish::virtual_media::MediumUrls;
use super::{BmcError, CONNECT_TIMEOUT, detection};

/// Maximum time for one operation, with all its requests. BMCs are slow, and API clients wait.
const REQUEST_TIMEOUT: Duration = Duration::from_secs(20);
/// Maximum time to read the hardware, which takes many requests.
const INVENTORY_TIMEOUT: Duration = Duration::from_secs(120);
/// Maximum time to insert a medium: some BMCs fetch it first.
const MEDIUM_TIMEOUT: Duration = Duration::from_secs(60);
/// Maximum time to log out.
const LOGOUT_TIMEOUT: Duration = Duration::from_secs(5);

/// The configuration of how BMCs are asked.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct BmcPolicy {
    /// Whether a certificate that no authority vouches for is pinned at the first use of a BMC. Otherwise it is refused.
    pub pins_certificates: bool,
}

/// A client of one BMC.
#[derive(Debug)]
pub struct BmcClient {
    bmc: Bmc,
    policy: BmcPolicy,
    record: Option<BmcRecord>,
    /// Whether `record` has something that was not known before.
    has_learnt: bool,
    now: Timestamp,
    /// Maximum time for an operation.
    timeout: Duration,
}

impl BmcClient {
    /// Returns the client of a BMC, with what is known of it.
    pub fn new(bmc: &Bmc, record: Option<&BmcRecord>, policy: BmcPolicy, now: Timestamp) -> Self {
        let timeout = REQUEST_TIMEOUT;
        Self { bmc: bmc.clone(), policy, record: record.cloned(), has_learnt: false, now, timeout }
    }

    /// Returns the client of a host's BMC; `None` for a host without one.
    pub fn of(host: &Host, policy: BmcPolicy, now: Timestamp) -> Option<Self> {
        Some(Self::new(host.spec.bmc.as_ref()?, host.status.bmc.as_deref(), policy, now))
    }

    /// Returns what the client learnt of the BMC, if that is new.
    pub fn learnt(&self) -> Option<&BmcRecord> {
        self.record.as_ref().filter(|_| self.has_learnt)
    }

    /// Returns the power state of the machine.
    ///
    /// # Errors
    /// The BMC cannot be reached, refuses, or does not support the request.
    pub async fn read_power(&mut self) -> Result<Power, BmcError> {
        self.perform(async |access| match access {
            BmcAccess::Redfish(service) => service.read_power().await,
            BmcAccess::Ipmi(session) => session.read_power().await,
        })
        .await
    }

    /// Reads the hardware of the machine.
    ///
    /// # Errors
    /// Those of `read_power`. IPMI does not show it.
    pub async fn read_inventory(&mut self) -> Result<HardwareDetails, BmcError> {
        self.timeout = INVENTORY_TIMEOUT;
        self.perform(async |access| match access {
            BmcAccess::Redfish(service) => service.read_inventory().await,
            BmcAccess::Ipmi(session) => Err(session.unsupported("an inventory over IPMI")),
        })
        .await
    }

    /// Performs a power operation.
    ///
    /// # Errors
    /// Those of `read_power`.
    pub async fn reset(&mut self, reset: Reset) -> Result<(), BmcError> {
        self.perform(async |access| match access {
            BmcAccess::Redfish(service) => service.reset(reset).await,
            BmcAccess::Ipmi(session) => session.reset(reset).await,
        })
        .await
    }

    /// Inserts a medium into the virtual drive of the machine, and boots it once.
    ///
    /// # Errors
    /// Those of `read_power`. IPMI has no virtual drive.
    pub async fn boot_medium(&mut self, urls: MediumUrls<'_>, mode: Option<FirmwareMode>) -> Result<(), BmcError> {
        self.timeout = MEDIUM_TIMEOUT;
        self.perform(async |access| match access {
            BmcAccess::Redfish(service) => {
                let inserted = service.insert_medium(urls, tokio::time::sleep).await;
                let set = match inserted {
                    Ok(()) => service.set_boot_device(BootDevice::Cd, true, mode).await,
                    Err(error) => Err(error),
                };
                // Before the text is shortened: a part of the token is no whole one.
                set.map_err(|error| error.without_token(urls.token))
            }
            BmcAccess::Ipmi(session) => Err(session.unsupported("virtual media over IPMI")),
        })
        .await
    }

    /// Ejects the medium in the virtual drive of the machine, if its URL begins like one of these.
    ///
    /// # Errors
    /// Those of `boot_medium`.
    pub async fn eject_medium(&mut self, prefixes: &[String]) -> Result<(), BmcError> {
        self.perform(async |access| match access {
            BmcAccess::Redfish(service) => service.eject_medium(prefixes).await,
            BmcAccess::Ipmi(session) => Err(session.unsupported("virtual media over IPMI")),
        })
        .await
    }

    /// Follows the serial console of the machine (Serial over LAN), until the BMC ends it, `stopped` is done, or
    /// nobody receives the texts any more. It has no maximum time; what comes before has.
    ///
    /// # Errors
    /// Those of `read_power`. Redfish has no serial console that is served here.
    pub async fn follow_console(
        &mut self,
        texts: mpsc::Sender<Vec<u8>>,
        stopped: impl Future<Output = ()>,
    ) -> Result<(), BmcError> {
        let address: BmcAddress = self.bmc.address.parse()?;
        let bmc = self.bmc.clone();
        let result = self.follow_console_at(&address, texts, stopped).await;
        result.map_err(|error| error.without_password(&bmc))
    }

    async fn follow_console_at(
        &mut self,
        address: &BmcAddress,
        texts: mpsc::Sender<Vec<u8>>,
        stopped: impl Future<Output = ()>,
    ) -> Result<(), BmcError> {
        let deadline = Instant::now() + REQUEST_TIMEOUT;
        let no_answer = |_| no_answer(address, REQUEST_TIMEOUT);
        let (at, route) = timeout_at(deadline, self.route(address)).await.map_err(no_answer)??;
        if let Route::Redfish(_) = route {
            let what = "the serial console needs ipmi://".to_owned();
            return Err(BmcError::Unsupported { at: at.to_string(), what });
        }
        let mut session = timeout_at(deadline, self.open_ipmi_session(&at)).await.map_err(no_answer)??;
        let ended = tokio::select! {
            ended = session.follow_console(&texts) => ended,
            () = stopped => Ok(()),
        };
        session.release_console().await;
        session.close().await;
        ended
    }

    /// Sets the boot device, for the next boot or for all boots. The mode is that of the machine's firmware, if known.
    ///
    /// # Errors
    /// Those of `read_power`.
    pub async fn set_boot_device(
        &mut self,
        device: BootDevice,
        once: bool,
        mode: Option<FirmwareMode>,
    ) -> Result<(), BmcError> {
        self.perform(async |access| match access {
            BmcAccess::Redfish(service) => service.set_boot_device(device, once, mode).await,
            BmcAccess::Ipmi(session) => session.set_boot_device(device, once, mode).await,
        })
        .await
    }

    /// Performs an operation within its time, and removes the password from its error. All errors but those of a console pass here.
    async fn perform<T>(
        &mut self,
        operation: impl AsyncFnOnce(BmcAccess<'_>) -> Result<T, BmcError>,
    ) -> Result<T, BmcError> {
        let address: BmcAddress = self.bmc.address.parse()?;
        let bmc = self.bmc.clone();
        let result = self.perform_at(&address, operation).await;
        result.map_err(|error| error.without_password(&bmc))
    }

    async fn perform_at<T>(
        &mut self,
        address: &BmcAddress,
        operation: impl AsyncFnOnce(BmcAccess<'_>) -> Result<T, BmcError>,
    ) -> Result<T, BmcError> {
        let (deadline, limit) = (Instant::now() + self.timeout, self.timeout);
        let no_answer = |_| no_answer(address, limit);
        let (at, route) = timeout_at(deadline, self.route(address)).await.map_err(no_answer)??;
        let Route::Redfish(anchor) = route else {
            return timeout_at(deadline, self.in_ipmi_session(&at, operation)).await.map_err(no_answer)?;
        };
        let mut service = RedfishService::new(&self.bmc, &at, anchor);
        let answered = timeout_at(deadline, async {
            service.open_session().await?;
            operation(BmcAccess::Redfish(&service)).await
        })
        .await;
        // Also after a failure: a BMC has few sessions.
        match timeout_at(Instant::now() + LOGOUT_TIMEOUT, service.close_session()).await {
            Ok(Ok(())) => {}
            Ok(Err(error)) => tracing::debug!(%at, %error, "failed to close a Redfish session"),
            Err(_) => tracing::debug!(%at, "failed to close a Redfish session in time"),
        }
        answered.map_err(no_answer)?
    }

    /// Performs an operation in an IPMI session.
    async fn in_ipmi_session<T>(
        &mut self,
        at: &BmcAddress,
        operation: impl AsyncFnOnce(BmcAccess<'_>) -> Result<T, BmcError>,
    ) -> Result<T, BmcError> {
        let mut session = self.open_ipmi_session(at).await?;
        let answer = operation(BmcAccess::Ipmi(&mut session)).await;
        session.close().await;
        answer
    }

    async fn open_ipmi_session(&mut self, at: &BmcAddress) -> Result<IpmiSession, BmcError> {
        let known = self.record.as_ref().and_then(|record| record.cipher_suite);
        let (session, suite) = IpmiSession::open(&self.bmc, at, known).await?;
        if known != Some(suite) {
            self.learn(|record| record.cipher_suite = Some(suite));
        }
        Ok(session)
    }

    /// Returns the address with its protocol, and how the BMC is asked over that. At the first use both are found out;
    /// no credentials are sent for it.
    async fn route(&mut self, address: &BmcAddress) -> Result<(BmcAddress, Route), BmcError> {
        let at = match (address.protocol, self.record.as_ref().and_then(|record| record.protocol)) {
            (BmcProtocol::Detected, Some(known)) => address.with_protocol(known),
            (BmcProtocol::Detected, None) => {
                let found = detection::detect(address).await?;
                self.learn(|record| record.protocol = Some(found));
                address.with_protocol(found)
            }
            (BmcProtocol::Ipmi | BmcProtocol::Redfish { .. }, _) => address.clone(),
        };
        let route = match at.protocol {
            BmcProtocol::Redfish { tls: true } => Route::Redfish(Some(self.anchor(&at).await?)),
            BmcProtocol::Redfish { tls: false } => Route::Redfish(None),
            BmcProtocol::Ipmi | BmcProtocol::Detected => Route::Ipmi,
        };
        Ok((at, route))
    }

    /// Returns what the certificate of a Redfish service is checked against.
    async fn anchor(&mut self, at: &BmcAddress) -> Result<TrustAnchor, BmcError> {
        if self.bmc.disable_certificate_verification {
            return Ok(TrustAnchor::Any);
        }
        if !self.policy.pins_certificates {
            return Ok(TrustAnchor::System);
        }
        let known = self.record.as_ref().and_then(|record| record.certificate.clone());
        let known = match known {
            Some(known) => known,
            None => {
                let found = first_certificate(at).await?;
                self.learn(|record| record.certificate = Some(found.clone()));
                found
            }
        };
        match known.as_str() {
            BmcRecord::AUTHORITIES => Ok(TrustAnchor::System),
            // A record that cannot be parsed is not one of ours: nothing is trusted by it.
            digest => Ok(digest.parse().map_or(TrustAnchor::System, TrustAnchor::Fingerprint)),
        }
    }

    fn learn(&mut self, change: impl FnOnce(&mut BmcRecord)) {
        change(self.record.get_or_insert_with(|| BmcRecord::new(self.now)));
        self.has_learnt = true;
    }
}

/// The access to a BMC for one operation.
enum BmcAccess<'a> {
    /// A Redfish service, logged in.
    Redfish(&'a RedfishService<'a>),
    /// An IPMI session.
    Ipmi(&'a mut IpmiSession),
}

/// How a BMC is asked.
enum Route {
    /// Redfish; over TLS with a reference for its certificate.
    Redfish(Option<TrustAnchor>),
    /// IPMI.
    Ipmi,
}

fn no_answer(address: &BmcAddress, limit: Duration) -> BmcError {
    BmcError::Unreachable { at: address.to_string(), cause: format!("no answer within {} s", limit.as_secs()) }
}

/// Returns the digest of the certificate that a service shows; `BmcRecord::AUTHORITIES` if the system trusts it.
async fn first_certificate(at: &BmcAddress) -> Result<String, BmcError> {
    let server = Server { tls: true, host: at.host.clone(), port: at.port };
    match ServerConnection::open(&server, &TrustAnchor::System.into(), CONNECT_TIMEOUT).await {
        Ok(connection) => {
            connection.close();
            Ok(BmcRecord::AUTHORITIES.to_owned())
        }
        // The verifier of the HTTP client names the certificate that it refuses.
        Err(ConnectError::Handshake(cause)) if cause.contains(FINGERPRINT) => {
            let digest = cause.rsplit_once(FINGERPRINT).map_or("", |(_, digest)| digest);
            Ok(digest.trim_matches([' ', ')']).to_owned())
        }
        Err(error) => Err(BmcError::Unreachable { at: at.to_string(), cause: error.to_string() }),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn a_console_over_redfish_is_refused_at_once() {
        // Nobody answers at this address.
        let bmc = Bmc::new("redfish+http://127.0.0.1:1", "u", crate::fleet::Secret::default());
        let mut client = BmcClient::new(&bmc, None, BmcPolicy { pins_certificates: true }, Timestamp::UNIX_EPOCH);
        let refused = client.follow_console(mpsc::channel(1).0, std::future::pending()).await.unwrap_err();
        assert!(matches!(refused, BmcError::Unsupported { .. }), "{refused}");
    }
}
