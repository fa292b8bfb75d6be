//! The Redfish client.

use std::time::Duration;

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use bytes::Bytes;
use http_body_util::{BodyExt, Limited};
use hyper::header::{ACCEPT, AUTHORIZATION, CONTENT_TYPE, HOST};
use hyper::{Method, Request, Response, Uri};
use serde_json::{Value, json};

use crate::fleet::{Bmc, BmcAddress, Power};
use crate::http_client::tls::TrustAnchor;
use crate::http_client::{self, Server, ServerConnection};

use super::super::{BmcError, BootDevice, Reset};

/// Maximum time to connect to a service; and for its TLS handshake.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(15);
/// Maximum length of a reply, in octets.
const MAX_REPLY_BYTES: usize = 4 << 20;
/// Maximum number of redirects of one request. Some services redirect between `/Systems` and `/Systems/`.
const MAX_REDIRECTS: usize = 3;

/// A Redfish service (DSP0266). It has one system, or the address of the BMC contains the path of one.
#[derive(Debug)]
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
        self.power_of(&system)
    }

    /// Performs a power operation.
    pub async fn reset(&self, reset: Reset) -> Result<(), BmcError> {
        let (_, system) = self.system().await?;
        let target = self.reset_target(&system, reset)?;
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
                self.only_system(&all)?.to_owned()
            }
        };
        let system = self.request(Method::GET, &path, None).await?;
        Ok((path, system))
    }

    /// Returns the power state of a system resource.
    ///
    /// # Errors
    /// The resource has none, or an unknown one.
    pub fn power_of(&self, system: &Value) -> Result<Power, BmcError> {
        match system["PowerState"].as_str() {
            Some("On" | "PoweringOff" | "Paused") => Ok(Power::On),
            Some("Off" | "PoweringOn") => Ok(Power::Off),
            Some(other) => Err(self.unsupported(format!("power state {other:?}"))),
            None => Err(self.unsupported("reading the power state: the system has no PowerState")),
        }
    }

    /// Returns the path of the reset action of a system resource.
    ///
    /// # Errors
    /// The system cannot be reset, or not in this way.
    pub fn reset_target<'b>(&self, system: &'b Value, reset: Reset) -> Result<&'b str, BmcError> {
        let action = &system["Actions"]["#ComputerSystem.Reset"];
        let target = action["target"].as_str();
        let target = target.ok_or_else(|| self.unsupported("resetting the machine: the system has no reset action"))?;
        if let Some(allowed) = action["ResetType@Redfish.AllowableValues"].as_array() {
            let allowed: Vec<_> = allowed.iter().filter_map(Value::as_str).collect();
            if !allowed.contains(&reset.as_str()) {
                let values = allowed.join(", ");
                return Err(self.unsupported(format!("reset type {}; allowable values: {values}", reset.as_str())));
            }
        }
        Ok(target)
    }

    /// Returns the path of the only system in a collection of systems.
    ///
    /// # Errors
    /// The collection has not exactly one.
    pub fn only_system<'b>(&self, all: &'b Value) -> Result<&'b str, BmcError> {
        match all["Members"].as_array().map(Vec::as_slice).unwrap_or_default() {
            [one] => Ok(one["@odata.id"].as_str().unwrap_or_default()),
            _ => Err(self.unsupported("a service without exactly one system: set its path in spec.bmc.address")),
        }
    }

    /// Sends a request and follows redirects. Returns the body of a successful reply; null for none.
    async fn request(&self, method: Method, path: &str, body: Option<&Value>) -> Result<Value, BmcError> {
        let mut path = path.to_owned();
        for _ in 0..=MAX_REDIRECTS {
            let url = self.url(&path)?;
            let answer = self.exchange(&method, &url, body).await?;
            // The service's own name for itself may differ; the credentials go to the configured address only.
            match http_client::redirect_target(&url, &answer) {
                Some(target) => path = target.path_and_query().map_or("/", |path| path.as_str()).to_owned(),
                None => return self.read_reply(&method, &answer),
            }
        }
        Err(self.invalid_reply(format!("more than {MAX_REDIRECTS} redirects; the last one to {path}")))
    }

    /// Returns the URL of a path in the service. Its host is not used: an address with a zone is not a valid one.
    ///
    /// # Errors
    /// The path is not one of a URL.
    pub fn url(&self, path: &str) -> Result<Uri, BmcError> {
        let url = Uri::builder().scheme("http").authority("bmc").path_and_query(path).build();
        url.map_err(|error| self.invalid_reply(format!("path {path:?}: {error}")))
    }

    /// Parses the body of a reply that is not a redirect. Only the reply to a GET must have one.
    ///
    /// # Errors
    /// The service refused, or the body is not JSON.
    pub fn read_reply(&self, method: &Method, answer: &Response<Bytes>) -> Result<Value, BmcError> {
        let (code, body) = (answer.status(), answer.body());
        let value = serde_json::from_slice::<Value>(body);
        if !code.is_success() {
            let message = format!("{code}{}", message_of(&value.unwrap_or_default()));
            return Err(BmcError::Refused { at: self.at.to_string(), message });
        }
        match value {
            Ok(value) => Ok(value),
            Err(_) if body.is_empty() && *method != Method::GET => Ok(Value::Null),
            Err(_) => Err(self.invalid_reply(not_json(answer))),
        }
    }

    /// Sends one request over a new connection, and returns the whole reply.
    async fn exchange(&self, method: &Method, url: &Uri, body: Option<&Value>) -> Result<Response<Bytes>, BmcError> {
        let Bmc { username, password, disable_certificate_verification, .. } = self.bmc;
        let credentials = format!("Basic {}", STANDARD.encode(format!("{username}:{}", password.0)));
        let mut request = Request::builder()
            .method(method)
            .uri(url.path_and_query().map_or("/", |path| path.as_str()))
            .header(HOST, self.at.to_string())
            .header(ACCEPT, "application/json")
            .header(AUTHORIZATION, credentials);
        if body.is_some() {
            request = request.header(CONTENT_TYPE, "application/json");
        }
        let content = http_client::full(body.map(Value::to_string).unwrap_or_default());
        let request = request.body(content).map_err(|error| self.unreachable(error))?;
        let anchor = if *disable_certificate_verification { TrustAnchor::Any } else { TrustAnchor::System };
        let server = Server { tls: self.tls, host: self.at.host.clone(), port: self.at.port };
        let opened = ServerConnection::open(&server, &anchor.into(), CONNECT_TIMEOUT).await;
        let mut connection = opened.map_err(|error| self.unreachable(error))?;
        let answer = async {
            let (head, body) = connection.send(request).await.map_err(|error| self.unreachable(error))?.into_parts();
            let body = Limited::new(body, MAX_REPLY_BYTES).collect().await.map_err(|error| self.unreachable(error))?;
            Ok(Response::from_parts(head, body.to_bytes()))
        };
        let answer = answer.await;
        connection.close();
        answer
    }

    fn unreachable(&self, cause: impl ToString) -> BmcError {
        BmcError::Unreachable { at: self.at.to_string(), cause: cause.to_string() }
    }

    fn unsupported(&self, what: impl Into<String>) -> BmcError {
        BmcError::Unsupported { at: self.at.to_string(), what: what.into() }
    }

    fn invalid_reply(&self, message: String) -> BmcError {
        BmcError::InvalidReply { at: self.at.to_string(), message }
    }
}

/// Returns the message for a successful reply whose body is not JSON.
fn not_json(answer: &Response<Bytes>) -> String {
    let code = answer.status().as_u16();
    let kind = answer.headers().get(CONTENT_TYPE).and_then(|kind| kind.to_str().ok());
    let kind = kind.and_then(|kind| kind.split(';').next()).map(str::trim).unwrap_or_default();
    match kind {
        _ if answer.body().is_empty() => format!("answered {code} without a body, expected JSON"),
        "" => format!("answered {code} with a body that is not JSON"),
        kind if kind.contains("json") => format!("answered {code} with {kind} that cannot be parsed"),
        kind => format!("answered {code} with {kind}, not JSON"),
    }
}

/// Returns the message of a Redfish error, preceded by a colon (DSP0266, section 8.6).
fn message_of(error: &Value) -> String {
    let told = error.pointer("/error/@Message.ExtendedInfo/0/Message").or_else(|| error.pointer("/error/message"));
    told.and_then(Value::as_str).map(|words| format!(": {words}")).unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use std::sync::{Arc, Mutex};

    use tokio::io::{AsyncReadExt, AsyncWriteExt};
    use tokio::net::TcpListener;

    use super::*;

    const SYSTEM: &str = r##"{"PowerState": "On", "Actions": {"#ComputerSystem.Reset": {"target": "/reset",
        "ResetType@Redfish.AllowableValues": ["On", "ForceOff"]}}}"##;

    fn reply(head: &str, body: &str) -> String {
        format!("HTTP/1.1 {head}\r\nContent-Length: {}\r\n\r\n{body}", body.len())
    }

    fn redirect(location: &str) -> String {
        reply(&format!("302 Found\r\nLocation: {location}"), "")
    }

    /// Runs a request against a service with these replies, one a connection. Returns its result and the paths that
    /// were requested.
    async fn with_replies<T>(
        replies: Vec<String>,
        ask: impl AsyncFnOnce(&RedfishService<'_>) -> Result<T, BmcError>,
    ) -> (Result<T, String>, Vec<String>) {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let port = listener.local_addr().unwrap().port();
        let paths = Arc::new(Mutex::new(Vec::new()));
        let seen = paths.clone();
        let serving = tokio::spawn(async move {
            for reply in replies {
                let (mut stream, _) = listener.accept().await.unwrap();
                let mut head = Vec::new();
                while !head.windows(4).any(|end| end == b"\r\n\r\n") {
                    assert_ne!(stream.read_buf(&mut head).await.unwrap(), 0, "the client closed the connection");
                }
                let path = String::from_utf8_lossy(&head).split(' ').nth(1).unwrap().to_owned();
                seen.lock().unwrap().push(path);
                stream.write_all(reply.as_bytes()).await.unwrap();
            }
        });
        let address = format!("redfish+http://127.0.0.1:{port}/sys");
        let at: BmcAddress = address.parse().unwrap();
        let (username, password) = ("admin".to_owned(), Default::default());
        let bmc = Bmc { address, username, password, disable_certificate_verification: false };
        let result = ask(&RedfishService::new(&bmc, &at, false)).await;
        serving.abort();
        let paths = paths.lock().unwrap().clone();
        (result.map_err(|error| error.to_string().replace(&at.to_string(), "AT")), paths)
    }

    async fn read_power(replies: &[String]) -> (Result<Power, String>, Vec<String>) {
        with_replies(replies.to_vec(), async |service| service.read_power().await).await
    }

    #[tokio::test]
    async fn a_reply_that_is_not_json_is_reported_as_it_is() {
        let rows = [
            (
                reply("200 OK\r\nContent-Type: text/html; charset=utf-8", "<html>"),
                "answered 200 with text/html, not JSON",
            ),
            (
                reply("200 OK\r\nContent-Type: application/json", "{"),
                "answered 200 with application/json that cannot be parsed",
            ),
            (reply("200 OK", "On"), "answered 200 with a body that is not JSON"),
            (reply("200 OK", ""), "answered 200 without a body, expected JSON"),
        ];
        for (reply, expected) in rows {
            let (result, _) = read_power(&[reply]).await;
            assert_eq!(result, Err(format!("BMC AT: invalid reply: {expected}")));
        }
        let refused = reply("404 Not Found\r\nContent-Type: text/html", "<html>");
        assert_eq!(read_power(&[refused]).await.0, Err("BMC AT: request refused: 404 Not Found".to_owned()));
        let unknown = reply("200 OK", r#"{"PowerState": "Odd"}"#);
        assert_eq!(read_power(&[unknown]).await.0, Err("BMC AT: not supported: power state \"Odd\"".to_owned()));
    }

    #[tokio::test]
    async fn three_redirects_are_followed_and_a_fourth_is_reported() {
        let three = [redirect("/a/"), redirect("b"), redirect("http://other/c?d")];
        let (result, paths) = read_power(&[&three[..], &[reply("200 OK", SYSTEM)]].concat()).await;
        assert_eq!(result, Ok(Power::On));
        assert_eq!(paths, ["/sys", "/a/", "/a/b", "/c?d"]);
        let (result, paths) = read_power(&[&three[..], &[redirect("/last")]].concat()).await;
        assert_eq!(result, Err("BMC AT: invalid reply: more than 3 redirects; the last one to /last".to_owned()));
        assert_eq!(paths.len(), 4);
    }

    #[tokio::test]
    async fn a_reset_that_the_service_does_not_offer_is_named_with_those_it_does() {
        let reset = async |reset, replies: &[String]| {
            with_replies(replies.to_vec(), async |service| service.reset(reset).await).await
        };
        let system = reply("200 OK", SYSTEM);
        let (result, paths) = reset(Reset::Nmi, std::slice::from_ref(&system)).await;
        assert_eq!(result, Err("BMC AT: not supported: reset type Nmi; allowable values: On, ForceOff".to_owned()));
        assert_eq!(paths, ["/sys"]);
        for done in [reply("204 No Content", ""), reply("200 OK", ""), reply("202 Accepted", "{}")] {
            let (result, paths) = reset(Reset::ForceOff, &[system.clone(), done]).await;
            assert_eq!((result, paths.last().map(String::as_str)), (Ok(()), Some("/reset")));
        }
    }
}
