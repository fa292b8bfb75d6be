//! The Redfish client.

use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use bytes::Bytes;
use http_body_util::{BodyExt, Limited};
use hyper::header::{ACCEPT, AUTHORIZATION, CONTENT_TYPE, ETAG, HOST, IF_MATCH, RETRY_AFTER};
use hyper::{Method, Request, Response, StatusCode, Uri};
use serde_json::{Map, Value, json};

use crate::fleet::{Bmc, BmcAddress, FirmwareMode, Power};
use crate::http_client::tls::TrustAnchor;
use crate::http_client::{self, RequestBody, Server, ServerConnection};

use super::super::{BmcError, BootDevice, CONNECT_TIMEOUT, Reset};

/// Maximum number of times that a write is sent whose precondition fails (412).
const MAX_WRITES: usize = 3;
/// Messages of DMTF's Base registry by which a service says that it never does what is asked.
const UNSUPPORTED: [&str; 6] = [
    "ActionNotSupported",
    "ActionParameterNotSupported",
    "ActionParameterUnknown",
    "ActionParameterValueNotInList",
    "PropertyUnknown",
    "PropertyValueNotInList",
];
/// Messages of DMTF's Base registry by which a service says that it does it later.
const BUSY: [&str; 3] = ["ServiceTemporarilyUnavailable", "ResourceInUse", "ResourceInStandby"];
/// Maximum length of a reply, in octets.
const MAX_REPLY_BYTES: usize = 4 << 20;
/// Maximum number of redirects of one request. Some services redirect between `/Systems` and `/Systems/`.
const MAX_REDIRECTS: usize = 3;

/// Properties of a system resource.
const RESET_TYPES: &str = "ResetType@Redfish.AllowableValues";
const TARGET: &str = "BootSourceOverrideTarget";
const MODE: &str = "BootSourceOverrideMode";

/// A Redfish service (DSP0266). It has one system, or the address of the BMC contains the path of one.
#[derive(Debug)]
pub struct RedfishService<'a> {
    bmc: &'a Bmc,
    at: &'a BmcAddress,
    /// Reference for the certificate of a service over TLS.
    anchor: Option<TrustAnchor>,
    login: SessionLogin,
    /// Connection of the last request, for the next one.
    idle: Mutex<Option<ServerConnection>>,
}

/// The proof of identity in a request.
#[derive(Debug)]
enum SessionLogin {
    /// None: what is asked for needs none, or contains the password.
    Nothing,
    /// HTTP basic authentication in each request.
    Basic,
    /// A session.
    Session {
        /// The token.
        token: String,
        /// The path of the session.
        path: String,
    },
}

impl<'a> RedfishService<'a> {
    /// Returns the service of a BMC: over TLS with a reference for its certificate, or over plain HTTP.
    pub fn new(bmc: &'a Bmc, at: &'a BmcAddress, anchor: Option<TrustAnchor>) -> Self {
        Self { bmc, at, anchor, login: SessionLogin::Basic, idle: Mutex::new(None) }
    }

    /// Logs in for the next requests (DSP0266, section 13.3.4). A service without sessions, or without a free one, gets
    /// the password in each request.
    pub async fn open_session(&mut self) -> Result<(), BmcError> {
        self.login = SessionLogin::Nothing;
        let opened = self.request_session().await;
        self.login = SessionLogin::Basic;
        if let Some(session) = opened? {
            self.login = session;
        }
        Ok(())
    }

    /// Requests a session; `None` if the service offers none.
    ///
    /// # Errors
    /// The service cannot be reached, or refuses the user.
    async fn request_session(&self) -> Result<Option<SessionLogin>, BmcError> {
        // Whatever is wrong with the root: the request that is to be made says it.
        let Ok(root) = self.send(Method::GET, "/redfish/v1/", None, None).await else { return Ok(None) };
        let root = self.read_reply(&Method::GET, &root).unwrap_or_default();
        let Some(sessions) = root.pointer("/Links/Sessions/@odata.id").and_then(Value::as_str) else {
            return Ok(None);
        };
        let Bmc { username, password, .. } = self.bmc;
        let user = json!({"UserName": username, "Password": password.0});
        let answer = self.send(Method::POST, sessions, Some(&user), None).await?;
        let session = match self.read_reply(&Method::POST, &answer) {
            Ok(session) => session,
            Err(error @ BmcError::Denied { .. }) => return Err(error),
            Err(_) => return Ok(None),
        };
        let header = |name: &str| answer.headers().get(name).and_then(|text| text.to_str().ok());
        let path = header("location").and_then(|location| location.parse::<Uri>().ok());
        let path = path.as_ref().map(Uri::path).or_else(|| session["@odata.id"].as_str());
        Ok(header("x-auth-token")
            .zip(path)
            .map(|(token, path)| SessionLogin::Session { token: token.to_owned(), path: path.to_owned() }))
    }

    /// Logs out: a BMC has few sessions.
    pub async fn close_session(&self) -> Result<(), BmcError> {
        let SessionLogin::Session { path, .. } = &self.login else { return Ok(()) };
        self.request(Method::DELETE, path, None).await.map(drop)
    }

    /// Returns the power state of the machine.
    pub async fn read_power(&self) -> Result<Power, BmcError> {
        let (_, system) = self.system().await?;
        self.power_of(&system)
    }

    /// Performs a power operation.
    pub async fn reset(&self, reset: Reset) -> Result<(), BmcError> {
        let (_, mut system) = self.system().await?;
        self.read_action_info(&mut system).await?;
        let target = self.reset_target(&system, reset)?;
        self.request(Method::POST, target, Some(&json!({"ResetType": reset.as_str()}))).await.map(drop)
    }

    /// Adds the reset types to a system resource that names them in an ActionInfo resource (DSP0266, section 7.6).
    async fn read_action_info(&self, system: &mut Value) -> Result<(), BmcError> {
        let Some(action) = system.pointer_mut("/Actions/#ComputerSystem.Reset") else { return Ok(()) };
        if action.get(RESET_TYPES).is_some() {
            return Ok(());
        }
        let Some(path) = action["@Redfish.ActionInfo"].as_str().map(str::to_owned) else { return Ok(()) };
        let info = self.request(Method::GET, &path, None).await?;
        let parameters = info["Parameters"].as_array().map(Vec::as_slice).unwrap_or_default();
        let parameter = parameters.iter().find(|parameter| parameter["Name"] == "ResetType");
        if let Some(values) =
            parameter.map(|parameter| &parameter["AllowableValues"]).filter(|values| values.is_array())
        {
            action[RESET_TYPES] = values.clone();
        }
        Ok(())
    }

    /// Sets the boot device, for the next boot or for all boots, in the mode of the machine's firmware.
    pub async fn set_boot_device(
        &self,
        device: BootDevice,
        once: bool,
        mode: Option<FirmwareMode>,
    ) -> Result<(), BmcError> {
        let path = self.system_path().await?;
        let settings = |system: &Value| Ok(json!({"Boot": self.boot_settings(&system["Boot"], device, once, mode)?}));
        let answer = self.patch(&path, settings).await?;
        self.read_reply(&Method::PATCH, &answer).map(drop)
    }

    /// Writes settings that follow from a resource.
    ///
    /// Only a resource that has not changed since it was read is written (RFC 9110, section 13.1.1). Services that compare
    /// entity tags wrongly never match: they get the strong form of a weak tag, then none if the tag stays the same.
    pub(super) async fn patch(
        &self,
        path: &str,
        settings: impl Fn(&Value) -> Result<Value, BmcError>,
    ) -> Result<Response<Bytes>, BmcError> {
        let (mut last_tag, mut writes) = (None, 0);
        loop {
            writes += 1;
            let (resource, tag) = self.read_with_tag(path).await?;
            let settings = settings(&resource)?;
            let if_match = match (&tag, &last_tag) {
                (Some(tag), Some(last)) if tag == last && writes == MAX_WRITES => None,
                (Some(tag), Some(last)) if tag == last => Some(tag.strip_prefix("W/").unwrap_or(tag).to_owned()),
                (tag, _) => tag.clone(),
            };
            match self.send(Method::PATCH, path, Some(&settings), if_match.as_deref()).await? {
                answer if answer.status() == StatusCode::PRECONDITION_FAILED && writes < MAX_WRITES => last_tag = tag,
                answer => return Ok(answer),
            }
        }
    }

    /// Returns the boot settings to write, in the words that the service has for them.
    ///
    /// # Errors
    /// The service does not offer the device.
    pub fn boot_settings(
        &self,
        boot: &Value,
        device: BootDevice,
        once: bool,
        mode: Option<FirmwareMode>,
    ) -> Result<Map<String, Value>, BmcError> {
        let offered = |property: &str, word: &str| {
            let values = boot[format!("{property}@Redfish.AllowableValues")].as_array();
            values.is_none_or(|values| values.iter().any(|value| value == word))
        };
        let words: &[&str] = match device {
            BootDevice::Network => &["Pxe", "UefiHttp"],
            BootDevice::Disk => &["Hdd"],
            BootDevice::Cd => &["Cd"],
            BootDevice::Default => &["None"],
        };
        let target = words.iter().find(|word| offered(TARGET, word));
        let target = match (target, device) {
            (Some(target), _) => *target,
            (None, BootDevice::Default) => "None",
            (None, _) => return Err(self.unsupported(format!("boot device {}", words.join(" or ")))),
        };
        let enabled = match (device, once) {
            (BootDevice::Default, _) => "Disabled",
            (_, true) => "Once",
            (_, false) => "Continuous",
        };
        let mut settings = Map::new();
        settings.insert("BootSourceOverrideEnabled".into(), enabled.into());
        settings.insert(TARGET.into(), target.into());
        let mode = mode.filter(|_| device != BootDevice::Default).map(|mode| match mode {
            FirmwareMode::Uefi => "UEFI",
            FirmwareMode::Legacy => "Legacy",
        });
        // A service that has no mode refuses the property.
        if let Some(mode) = mode.filter(|mode| boot.get(MODE).is_some() && offered(MODE, mode)) {
            settings.insert(MODE.into(), mode.into());
        }
        Ok(settings)
    }

    /// Reads the system. Returns its path and its resource.
    pub(super) async fn system(&self) -> Result<(String, Value), BmcError> {
        let path = self.system_path().await?;
        let system = self.request(Method::GET, &path, None).await?;
        Ok((path, system))
    }

    /// Returns the path of the system: that of the address, or the only one of the service.
    async fn system_path(&self) -> Result<String, BmcError> {
        match &self.at.path {
            Some(path) => Ok(path.clone()),
            None => {
                let all = self.request(Method::GET, "/redfish/v1/Systems", None).await?;
                self.only_system(&all).map(str::to_owned)
            }
        }
    }

    /// Reads a resource, with its entity tag if it has one.
    async fn read_with_tag(&self, path: &str) -> Result<(Value, Option<String>), BmcError> {
        let answer = self.send(Method::GET, path, None, None).await?;
        let resource = self.read_reply(&Method::GET, &answer)?;
        let header = answer.headers().get(ETAG).and_then(|tag| tag.to_str().ok());
        let tag = header.or_else(|| resource["@odata.etag"].as_str()).map(str::to_owned);
        Ok((resource, tag))
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
        if let Some(allowed) = action[RESET_TYPES].as_array() {
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

    /// Sends a request. Returns the body of a successful reply; null for none.
    pub(super) async fn request(&self, method: Method, path: &str, body: Option<&Value>) -> Result<Value, BmcError> {
        let answer = self.send(method.clone(), path, body, None).await?;
        self.read_reply(&method, &answer)
    }

    /// Sends a request and follows redirects. Returns the reply.
    pub(super) async fn send(
        &self,
        method: Method,
        path: &str,
        body: Option<&Value>,
        if_match: Option<&str>,
    ) -> Result<Response<Bytes>, BmcError> {
        let mut path = path.to_owned();
        for _ in 0..=MAX_REDIRECTS {
            let url = self.url(&path)?;
            let answer = self.exchange(&method, &url, body, if_match).await?;
            // The service's own name for itself may differ; the credentials go to the configured address only.
            match http_client::redirect_target(&url, &answer) {
                Some(target) => path = target.path_and_query().map_or("/", |path| path.as_str()).to_owned(),
                None => return Ok(answer),
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
            return Err(self.refusal(answer, &value.unwrap_or_default()));
        }
        match value {
            Ok(value) => Ok(value),
            Err(_) if body.is_empty() && *method != Method::GET => Ok(Value::Null),
            Err(_) => Err(self.invalid_reply(not_json(answer))),
        }
    }

    /// Returns the error of a reply that refuses: for ever, for now, or for this user.
    fn refusal(&self, answer: &Response<Bytes>, error: &Value) -> BmcError {
        let (at, code) = (self.at.to_string(), answer.status());
        let message = format!("{code}{}", message_of(error));
        let says = |known: &[&str]| {
            let infos = error.pointer("/error/@Message.ExtendedInfo").and_then(Value::as_array);
            let infos = infos.map(Vec::as_slice).unwrap_or_default().iter().map(|info| &info["MessageId"]);
            let mut ids = infos.chain(error.pointer("/error/code")).filter_map(Value::as_str);
            // "Base.1.8.ActionNotSupported"
            ids.any(|id| id.rsplit('.').next().is_some_and(|id| known.contains(&id)))
        };
        match code {
            StatusCode::UNAUTHORIZED | StatusCode::FORBIDDEN => BmcError::Denied { at, message },
            StatusCode::CONFLICT
            | StatusCode::LOCKED
            | StatusCode::TOO_MANY_REQUESTS
            | StatusCode::SERVICE_UNAVAILABLE => BmcError::Busy { at, message, retry_after: retry_after(answer) },
            _ if says(&BUSY) => BmcError::Busy { at, message, retry_after: retry_after(answer) },
            StatusCode::METHOD_NOT_ALLOWED | StatusCode::NOT_IMPLEMENTED => BmcError::Unsupported { at, what: message },
            _ if says(&UNSUPPORTED) => BmcError::Unsupported { at, what: message },
            _ => BmcError::Refused { at, message },
        }
    }

    /// Sends one request, and returns the whole reply. Only a GET travels over a connection that was used before: the
    /// service may have closed it, and a GET can be sent again.
    async fn exchange(
        &self,
        method: &Method,
        url: &Uri,
        body: Option<&Value>,
        if_match: Option<&str>,
    ) -> Result<Response<Bytes>, BmcError> {
        let idle = self.take_idle().filter(|idle| *method == Method::GET && !idle.is_closed());
        if let Some(idle) = idle
            && let Ok(answer) = self.talk(idle, self.build(method, url, body, if_match)?).await
        {
            return Ok(answer);
        }
        let server = Server { tls: self.anchor.is_some(), host: self.at.host.clone(), port: self.at.port };
        let anchor = self.anchor.clone().unwrap_or(TrustAnchor::System);
        let opened = ServerConnection::open(&server, &anchor.into(), CONNECT_TIMEOUT).await;
        let connection = opened.map_err(|error| self.unreachable(error))?;
        self.talk(connection, self.build(method, url, body, if_match)?).await
    }

    /// Takes the connection of the last request.
    fn take_idle(&self) -> Option<ServerConnection> {
        self.idle.lock().unwrap_or_else(PoisonError::into_inner).take()
    }

    /// Returns a request with the proof of identity.
    fn build(
        &self,
        method: &Method,
        url: &Uri,
        body: Option<&Value>,
        if_match: Option<&str>,
    ) -> Result<Request<RequestBody>, BmcError> {
        let Bmc { username, password, .. } = self.bmc;
        let mut request = Request::builder()
            .method(method)
            .uri(url.path_and_query().map_or("/", |path| path.as_str()))
            .header(HOST, self.at.to_string())
            .header(ACCEPT, "application/json");
        request = match &self.login {
            SessionLogin::Nothing => request,
            SessionLogin::Basic => {
                let credentials = STANDARD.encode(format!("{username}:{}", password.0));
                request.header(AUTHORIZATION, format!("Basic {credentials}"))
            }
            SessionLogin::Session { token, .. } => request.header("X-Auth-Token", token.as_str()),
        };
        if body.is_some() {
            request = request.header(CONTENT_TYPE, "application/json");
        }
        if let Some(tag) = if_match {
            request = request.header(IF_MATCH, tag);
        }
        let content = http_client::full(body.map(Value::to_string).unwrap_or_default());
        request.body(content).map_err(|error| self.unreachable(error))
    }

    /// Sends a request over a connection, and keeps that for the next one.
    async fn talk(
        &self,
        mut connection: ServerConnection,
        request: Request<RequestBody>,
    ) -> Result<Response<Bytes>, BmcError> {
        let answer = async {
            let (head, body) = connection.send(request).await.map_err(|error| self.unreachable(error))?.into_parts();
            let body = Limited::new(body, MAX_REPLY_BYTES).collect().await.map_err(|error| self.unreachable(error))?;
            Ok(Response::from_parts(head, body.to_bytes()))
        };
        let answer = answer.await;
        match answer.is_ok() {
            true => *self.idle.lock().unwrap_or_else(PoisonError::into_inner) = Some(connection),
            false => connection.close(),
        }
        answer
    }

    fn unreachable(&self, cause: impl ToString) -> BmcError {
        BmcError::Unreachable { at: self.at.to_string(), cause: cause.to_string() }
    }

    /// Returns the error of what the service does not support.
    pub fn unsupported(&self, what: impl Into<String>) -> BmcError {
        BmcError::Unsupported { at: self.at.to_string(), what: what.into() }
    }

    fn invalid_reply(&self, message: String) -> BmcError {
        BmcError::InvalidReply { at: self.at.to_string(), message }
    }
}

impl Drop for RedfishService<'_> {
    fn drop(&mut self) {
        if let Some(idle) = self.take_idle() {
            idle.close();
        }
    }
}

/// Returns the time after which a service wants to be asked again (RFC 9110, section 10.2.3); `None` for a date, which
/// BMCs do not send.
fn retry_after(answer: &Response<Bytes>) -> Option<Duration> {
    let seconds = answer.headers().get(RETRY_AFTER)?.to_str().ok()?.trim().parse().ok()?;
    Some(Duration::from_secs(seconds))
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
mod tests;
