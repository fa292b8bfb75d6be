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

use super::super::{Next, Reset, Trouble};
use super::tls;

/// Bounds an answer, in bytes.
const ANSWER: usize = 4 << 20;
/// Bounds the redirections of one request: services move between `/Systems` and `/Systems/`.
const REDIRECTIONS: usize = 3;

/// Is a Redfish service that has one machine, or knows its path (DSP0266).
pub struct Service<'a> {
    bmc: &'a Bmc,
    at: &'a BmcAddress,
    tls: bool,
}

impl<'a> Service<'a> {
    pub fn new(bmc: &'a Bmc, at: &'a BmcAddress, tls: bool) -> Self {
        Self { bmc, at, tls }
    }

    pub async fn power(&self) -> Result<Power, Trouble> {
        let (_, system) = self.system().await?;
        match system["PowerState"].as_str() {
            Some("On" | "PoweringOff" | "Paused") => Ok(Power::On),
            Some("Off" | "PoweringOn") => Ok(Power::Off),
            _ => Err(self.lacks("the machine's power state")),
        }
    }

    pub async fn reset(&self, reset: Reset) -> Result<(), Trouble> {
        let (_, system) = self.system().await?;
        let action = &system["Actions"]["#ComputerSystem.Reset"];
        let target = action["target"].as_str().ok_or_else(|| self.lacks("how to reset the machine"))?;
        let allowed = action["ResetType@Redfish.AllowableValues"].as_array();
        if allowed.is_some_and(|allowed| !allowed.iter().any(|one| one == reset.as_str())) {
            return Err(self.lacks("this kind of reset"));
        }
        self.ask(Method::POST, target, Some(&json!({"ResetType": reset.as_str()}))).await.map(drop)
    }

    pub async fn boot(&self, next: Next, once: bool) -> Result<(), Trouble> {
        let (path, _) = self.system().await?;
        let (enabled, target) = match (next, once) {
            (Next::AsItLikes, _) => ("Disabled", "None"),
            (Next::Network, true) => ("Once", "Pxe"),
            (Next::Network, false) => ("Continuous", "Pxe"),
            (Next::Disk, true) => ("Once", "Hdd"),
            (Next::Disk, false) => ("Continuous", "Hdd"),
        };
        let wish = json!({"Boot": {"BootSourceOverrideEnabled": enabled, "BootSourceOverrideTarget": target}});
        self.ask(Method::PATCH, &path, Some(&wish)).await.map(drop)
    }

    /// Finds the machine: the one that the address names, or the service's only one.
    async fn system(&self) -> Result<(String, Value), Trouble> {
        let path = match &self.at.path {
            Some(path) => path.clone(),
            None => {
                let all = self.ask(Method::GET, "/redfish/v1/Systems", None).await?;
                let members = all["Members"].as_array().map(Vec::as_slice).unwrap_or_default();
                match members {
                    [one] => one["@odata.id"].as_str().unwrap_or_default().to_owned(),
                    _ => return Err(self.lacks("which of its machines is meant: name its path in the address")),
                }
            }
        };
        let system = self.ask(Method::GET, &path, None).await?;
        Ok((path, system))
    }

    async fn ask(&self, method: Method, path: &str, body: Option<&Value>) -> Result<Value, Trouble> {
        let mut path = path.to_owned();
        for _ in 0..REDIRECTIONS {
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
            return Err(Trouble::Refused { at: self.at.to_string(), message: format!("{code}{}", said(&value)) });
        }
        Err(self.unreachable("it redirects for ever"))
    }

    async fn exchange(&self, method: &Method, path: &str, body: Option<&Value>) -> Result<Response<Bytes>, Trouble> {
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
    ) -> Result<Response<Bytes>, Trouble> {
        let Bmc { username, password, .. } = self.bmc;
        let proof = format!("Basic {}", STANDARD.encode(format!("{username}:{}", password.0)));
        let mut request = Request::builder()
            .method(method)
            .uri(path)
            .header(HOST, self.at.to_string())
            .header(ACCEPT, "application/json")
            .header(AUTHORIZATION, proof);
        if body.is_some() {
            request = request.header(CONTENT_TYPE, "application/json");
        }
        let content = Full::new(Bytes::from(body.map(Value::to_string).unwrap_or_default()));
        let request = request.body(content).map_err(|error| self.unreachable(error))?;
        let shaken = http1::handshake(TokioIo::new(stream)).await;
        let (mut sender, connection) = shaken.map_err(|error| self.unreachable(error))?;
        // The connection runs beside; what goes wrong with it is told by the request.
        let beside = tokio::spawn(connection);
        let answer = async {
            let (head, body) =
                sender.send_request(request).await.map_err(|error| self.unreachable(error))?.into_parts();
            let body = Limited::new(body, ANSWER).collect().await.map_err(|error| self.unreachable(error))?;
            Ok(Response::from_parts(head, body.to_bytes()))
        };
        let answer = answer.await;
        beside.abort();
        answer
    }

    fn unreachable(&self, cause: impl ToString) -> Trouble {
        Trouble::Unreachable { at: self.at.to_string(), cause: cause.to_string() }
    }

    fn lacks(&self, what: &'static str) -> Trouble {
        Trouble::Lacks { at: self.at.to_string(), what }
    }
}

/// Takes the path out of a URL.
fn path_of(location: &str) -> String {
    match location.split_once("://") {
        Some((_, rest)) => rest.find('/').map_or("/", |at| &rest[at..]).to_owned(),
        None => location.to_owned(),
    }
}

/// Takes a service's own words out of its error (DSP0266, section 8.6).
fn said(error: &Value) -> String {
    let told = error.pointer("/error/@Message.ExtendedInfo/0/Message").or_else(|| error.pointer("/error/message"));
    told.and_then(Value::as_str).map(|words| format!(": {words}")).unwrap_or_default()
}
