//! The Redfish client.

use std::sync::Arc;

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use bytes::Bytes;
use http_body_util::{BodyExt, Full, Limited};
use hyper::client::conn::http1;
use hyper::header::{ACCEPT, AUTHORIZATION, CONTENT_TYPE, HOST, LOCATION};
use hyper::{Method, Request, Response};
use hyper_util::rt::TokioIo;
use serde_json::{Value, json};
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::TcpStream;
use tokio_rustls::rustls::pki_types::ServerName;

use crate::fleet::{Bmc, BmcAddress, Power};

use super::super::{BmcError, BootDevice, Reset};
use super::tls;

/// Maximum length of a reply, in octets.
const MAX_REPLY_BYTES: usize = 4 << 20;
/// Maximum number of redirects of one request. Some services redirect between `/Systems` and `/Systems/`.
const MAX_REDIRECTS: usize = 3;

/// A Redfish service (DSP0266). It has one system, or the address of the BMC contains the path of one.
pub struct RedfishService<'a> {
    bmc: &'a Bmc,
    at: &'a BmcAddress,
    tls: bool,
}

impl<'a> RedfishService<'a> {
    /// Returns the service of a BMC.
    pub fn new(bmc: &'a Bmc, at: &'a BmcAddress, tls: bool) -> Self {
        Self { bmc, at, tls }
    }

    /// Returns the power state of the machine.
    pub async fn read_power(&self) -> Result<Power, BmcError> {
        let (_, system) = self.system().await?;
        match system["PowerState"].as_str() {
            Some("On" | "PoweringOff" | "Paused") => Ok(Power::On),
            Some("Off" | "PoweringOn") => Ok(Power::Off),
            _ => Err(self.unsupported("reading the power state")),
        }
    }

    /// Performs a power operation.
    pub async fn reset(&self, reset: Reset) -> Result<(), BmcError> {
        let (_, system) = self.system().await?;
        let action = &system["Actions"]["#ComputerSystem.Reset"];
        let target = action["target"].as_str().ok_or_else(|| self.unsupported("resetting the machine"))?;
        let allowed = action["ResetType@Redfish.AllowableValues"].as_array();
        if allowed.is_some_and(|allowed| !allowed.iter().any(|one| one == reset.as_str())) {
            return Err(self.unsupported("this kind of reset"));
        }
        self.request(Method::POST, target, Some(&json!({"ResetType": reset.as_str()}))).await.map(drop)
    }

    /// Sets the boot device, for the next boot or for all boots.
    pub async fn set_boot_device(&self, device: BootDevice, once: bool) -> Result<(), BmcError> {
        let (path, _) = self.system().await?;
        let (enabled, target) = match (device, once) {
            (BootDevice::Default, _) => ("Disabled", "None"),
            (BootDevice::Network, true) => ("Once", "Pxe"),
            (BootDevice::Network, false) => ("Continuous", "Pxe"),
            (BootDevice::Disk, true) => ("Once", "Hdd"),
            (BootDevice::Disk, false) => ("Continuous", "Hdd"),
        };
        let settings = json!({"Boot": {"BootSourceOverrideEnabled": enabled, "BootSourceOverrideTarget": target}});
        self.request(Method::PATCH, &path, Some(&settings)).await.map(drop)
    }

    /// Reads the system: that of the address, or the only one of the service. Returns its path and its resource.
    async fn system(&self) -> Result<(String, Value), BmcError> {
        let path = match &self.at.path {
            Some(path) => path.clone(),
            None => {
                let all = self.request(Method::GET, "/redfish/v1/Systems", None).await?;
                let members = all["Members"].as_array().map(Vec::as_slice).unwrap_or_default();
                match members {
                    [one] => one["@odata.id"].as_str().unwrap_or_default().to_owned(),
                    _ => {
                        return Err(
                            self.unsupported("a service without exactly one system: set its path in spec.bmc.address")
                        );
                    }
                }
            }
        };
        let system = self.request(Method::GET, &path, None).await?;
        Ok((path, system))
    }

    /// Sends a request and follows redirects. Returns the body of a successful reply.
    async fn request(&self, method: Method, path: &str, body: Option<&Value>) -> Result<Value, BmcError> {
        let mut path = path.to_owned();
        for _ in 0..MAX_REDIRECTS {
            let answer = self.exchange(&method, &path, body).await?;
            let code = answer.status();
            let moved = answer.headers().get(LOCATION).and_then(|place| place.to_str().ok()).map(path_of);
            if let (true, Some(moved)) = (code.is_redirection(), moved) {
                path = moved;
                continue;
            }
            let value: Value = serde_json::from_slice(answer.body()).unwrap_or_default();
            if code.is_success() {
                return Ok(value);
            }
            return Err(BmcError::Refused {
                at: self.at.to_string(),
                message: format!("{code}{}", message_of(&value)),
            });
        }
        Err(self.unreachable(format!("more than {MAX_REDIRECTS} redirects")))
    }

    /// Sends one request over a new connection.
    async fn exchange(&self, method: &Method, path: &str, body: Option<&Value>) -> Result<Response<Bytes>, BmcError> {
        let stream = TcpStream::connect((self.at.host.as_str(), self.at.port)).await;
        let stream = stream.map_err(|error| self.unreachable(error))?;
        if !self.tls {
            return self.send(stream, method, path, body).await;
        }
        let name = ServerName::try_from(self.at.host.clone()).map_err(|error| self.unreachable(error))?;
        let verified = !self.bmc.disable_certificate_verification;
        let config = tls::config(verified).map_err(|error| self.unreachable(error))?;
        let stream = tokio_rustls::TlsConnector::from(Arc::new(config)).connect(name, stream).await;
        self.send(stream.map_err(|error| self.unreachable(error))?, method, path, body).await
    }

    async fn send(
        &self,
        stream: impl AsyncRead + AsyncWrite + Unpin + Send + 'static,
        method: &Method,
        path: &str,
        body: Option<&Value>,
    ) -> Result<Response<Bytes>, BmcError> {
        let Bmc { username, password, .. } = self.bmc;
        let credentials = format!("Basic {}", STANDARD.encode(format!("{username}:{}", password.0)));
        let mut request = Request::builder()
            .method(method)
            .uri(path)
            .header(HOST, self.at.to_string())
            .header(ACCEPT, "application/json")
            .header(AUTHORIZATION, credentials);
        if body.is_some() {
            request = request.header(CONTENT_TYPE, "application/json");
        }
        let content = Full::new(Bytes::from(body.map(Value::to_string).unwrap_or_default()));
        let request = request.body(content).map_err(|error| self.unreachable(error))?;
        let handshake = http1::handshake(TokioIo::new(stream)).await;
        let (mut sender, connection) = handshake.map_err(|error| self.unreachable(error))?;
        // Errors of the connection are reported by the request.
        let task = tokio::spawn(connection);
        let answer = async {
            let (head, body) =
                sender.send_request(request).await.map_err(|error| self.unreachable(error))?.into_parts();
            let body = Limited::new(body, MAX_REPLY_BYTES).collect().await.map_err(|error| self.unreachable(error))?;
            Ok(Response::from_parts(head, body.to_bytes()))
        };
        let answer = answer.await;
        task.abort();
        answer
    }

    fn unreachable(&self, cause: impl ToString) -> BmcError {
        BmcError::Unreachable { at: self.at.to_string(), cause: cause.to_string() }
    }

    fn unsupported(&self, what: &'static str) -> BmcError {
        BmcError::Unsupported { at: self.at.to_string(), what }
    }
}

/// Returns the path of a URL.
fn path_of(location: &str) -> String {
    match location.split_once("://") {
        Some((_, rest)) => rest.find('/').map_or("/", |at| &rest[at..]).to_owned(),
        None => location.to_owned(),
    }
}

/// Returns the message of a Redfish error, preceded by a colon (DSP0266, section 8.6).
fn message_of(error: &Value) -> String {
    let told = error.pointer("/error/@Message.ExtendedInfo/0/Message").or_else(|| error.pointer("/error/message"));
    told.and_then(Value::as_str).map(|words| format!(": {words}")).unwrap_or_default()
}
