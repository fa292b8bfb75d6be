//! The virtual drive of a machine, from which it boots a medium by URL. What services want differs; sushy and ironic know
//! how, and so this does.

use std::time::Duration;

use bytes::Bytes;
use hyper::{Method, Response};
use serde_json::{Value, json};

use super::super::BmcError;
use super::client::RedfishService;

/// Maximum number of drives that are looked at.
const MAX_DRIVES: usize = 8;
/// Number of times that an insertion is sent that fails (5xx) right after another medium was ejected, and the pause.
const TRIES_AFTER_EJECT: u32 = 3;
const PAUSE_AFTER_EJECT: Duration = Duration::from_secs(3);
/// Parameters that a service may want in addition to the URL, with the value for it.
const PARAMETERS: [(&str, &str); 4] =
    [("TransferProtocolType", ""), ("TransferMethod", "Stream"), ("UserName", "none"), ("Password", "none")];
/// Parameters of the action that mean what is the default anyway. Some services want them, and some refuse them.
const FLAGS: [&str; 2] = ["Inserted", "WriteProtected"];

/// The URLs of one medium.
#[derive(Debug, Clone, Copy)]
pub struct MediumUrls<'a> {
    /// Over HTTP.
    pub http: &'a str,
    /// Over HTTPS, if this server has TLS.
    pub https: Option<&'a str>,
    /// The token in both: with it, anybody reads the medium.
    pub token: &'a str,
}

/// A virtual drive for CDs or DVDs.
struct Drive {
    path: String,
    resource: Value,
}

impl RedfishService<'_> {
    /// Inserts a medium into a virtual CD drive: the first that takes it. Another medium in it is ejected.
    pub async fn insert_medium<P: Future<Output = ()>>(
        &self,
        urls: MediumUrls<'_>,
        pause: impl Fn(Duration) -> P,
    ) -> Result<(), BmcError> {
        let drives = self.cd_drives().await?;
        let is_inserted =
            |drive: &Value| [Some(urls.http), urls.https].into_iter().flatten().any(|url| has(drive, url));
        if drives.iter().any(|drive| is_inserted(&drive.resource)) {
            return Ok(());
        }
        let mut refused = None;
        for drive in &drives {
            match self.insert_into(drive, urls, &pause).await {
                Err(error @ (BmcError::Unsupported { .. } | BmcError::Refused { .. })) => {
                    refused.get_or_insert(error);
                }
                other => return other,
            }
        }
        Err(refused.unwrap_or_else(|| self.unsupported("virtual media: no drive for CDs")))
    }

    /// Ejects the media in the virtual CD drives whose URLs begin like one of these: a medium of somebody else stays.
    pub async fn eject_medium(&self, prefixes: &[String]) -> Result<(), BmcError> {
        for drive in self.cd_drives().await? {
            let image = drive.resource["Image"].as_str().unwrap_or_default();
            if prefixes.iter().any(|prefix| image.starts_with(prefix)) {
                self.eject(&drive).await?;
            }
        }
        Ok(())
    }

    /// Inserts a medium into one drive, by the URL of the protocol that the drive has.
    async fn insert_into<P: Future<Output = ()>>(
        &self,
        drive: &Drive,
        urls: MediumUrls<'_>,
        pause: &impl Fn(Duration) -> P,
    ) -> Result<(), BmcError> {
        let is_ejected = is_loaded(&drive.resource);
        if is_ejected {
            self.eject(drive).await?;
        }
        let action = self.insert_action(&drive.resource).await?;
        let has_protocol = |protocol: &str| {
            let values = action["TransferProtocolType"]["AllowableValues"].as_array();
            values.is_none_or(|values| values.is_empty() || values.iter().any(|value| value == protocol))
        };
        let mut refused = None;
        for (url, protocol) in [(Some(urls.http), "HTTP"), (urls.https, "HTTPS")] {
            let Some(url) = url.filter(|_| has_protocol(protocol)) else { continue };
            match self.insert_url(drive, &action, (url, protocol), is_ejected, pause).await {
                Err(error @ (BmcError::Unsupported { .. } | BmcError::Refused { .. })) => {
                    // The service may have done it all the same, or have had it before.
                    let now = self.request(Method::GET, &drive.path, None).await?;
                    if has(&now, url) {
                        return Ok(());
                    }
                    refused.get_or_insert(error);
                }
                other => return other,
            }
        }
        Err(refused.unwrap_or_else(|| {
            let needs =
                if has_protocol("HTTPS") { "over HTTPS: set api.listen and api.tls" } else { "over HTTP or HTTPS" };
            self.unsupported(format!("virtual media {needs}"))
        }))
    }

    /// Sends one URL, and more of what the service asks for. The URL alone is first: some services refuse the rest.
    async fn insert_url<P: Future<Output = ()>>(
        &self,
        drive: &Drive,
        action: &Value,
        (url, protocol): (&str, &str),
        is_ejected: bool,
        pause: &impl Fn(Duration) -> P,
    ) -> Result<(), BmcError> {
        let mut body = json!({"Image": url});
        let add = |body: &mut Value, is_wanted: &dyn Fn(&str) -> bool| {
            let before = body.clone();
            for (name, value) in PARAMETERS.iter().filter(|(name, _)| is_wanted(name)) {
                body[*name] = if value.is_empty() { protocol } else { *value }.into();
            }
            FLAGS.iter().filter(|name| is_wanted(name)).for_each(|name| body[*name] = true.into());
            *body != before
        };
        add(&mut body, &|name| action[name]["Required"] == true);
        let mut tries = 1;
        loop {
            let answer = match action["target"].as_str() {
                Some(target) => self.send(Method::POST, target, Some(&body), None).await?,
                // Services from before the action existed, which want to be told all.
                None => {
                    FLAGS.iter().for_each(|name| body[*name] = true.into());
                    self.patch(&drive.path, |_| Ok(body.clone())).await?
                }
            };
            let error = match self.read_reply(&Method::POST, &answer) {
                Ok(_) => return Ok(()),
                Err(error) => error,
            };
            if answer.status().is_server_error() && is_ejected && tries < TRIES_AFTER_EJECT {
                tries += 1;
                pause(PAUSE_AFTER_EJECT).await;
            } else if !asks_for_more(&answer) || !add(&mut body, &|name| names(&answer, name)) {
                return Err(error);
            }
        }
    }

    /// Returns the action that inserts a medium, with what is known of its parameters; null if there is none.
    async fn insert_action(&self, drive: &Value) -> Result<Value, BmcError> {
        let Some(action) = drive.pointer("/Actions/#VirtualMedia.InsertMedia") else { return Ok(Value::Null) };
        let mut known = json!({"target": action["target"]});
        if let Some(info) = action["@Redfish.ActionInfo"].as_str() {
            // A service whose description of the action cannot be read may still have the action.
            let info = self.request(Method::GET, info, None).await.unwrap_or_default();
            for parameter in info["Parameters"].as_array().map(Vec::as_slice).unwrap_or_default() {
                if let Some(name) = parameter["Name"].as_str() {
                    known[name] = parameter.clone();
                }
            }
        }
        if let Some(values) = action.get("TransferProtocolType@Redfish.AllowableValues") {
            known["TransferProtocolType"]["AllowableValues"] = values.clone();
        }
        Ok(known)
    }

    async fn eject(&self, drive: &Drive) -> Result<(), BmcError> {
        let target = drive.resource.pointer("/Actions/#VirtualMedia.EjectMedia/target").and_then(Value::as_str);
        let Some(target) = target else {
            let answer = self.patch(&drive.path, |_| Ok(json!({"Image": null, "Inserted": false}))).await?;
            return self.read_reply(&Method::PATCH, &answer).map(drop);
        };
        // Some services want an empty object, and some nothing.
        match self.request(Method::POST, target, Some(&json!({}))).await {
            Err(BmcError::Unsupported { .. } | BmcError::Refused { .. }) => {}
            other => return other.map(drop),
        }
        match self.request(Method::POST, target, None).await {
            Err(error @ (BmcError::Unsupported { .. } | BmcError::Refused { .. })) => {
                let now = self.request(Method::GET, &drive.path, None).await?;
                if is_loaded(&now) { Err(error) } else { Ok(()) }
            }
            other => other.map(drop),
        }
    }

    /// Returns the virtual drives for CDs or DVDs: of the system, or of its manager.
    async fn cd_drives(&self) -> Result<Vec<Drive>, BmcError> {
        let (_, system) = self.system().await?;
        let mut drives = self.drives_of(&system).await?;
        let manager = system.pointer("/Links/ManagedBy/0/@odata.id").and_then(Value::as_str);
        if let (true, Some(manager)) = (drives.is_empty(), manager) {
            drives = self.drives_of(&self.request(Method::GET, manager, None).await?).await?;
        }
        if drives.is_empty() { Err(self.unsupported("virtual media: no drive for CDs")) } else { Ok(drives) }
    }

    async fn drives_of(&self, owner: &Value) -> Result<Vec<Drive>, BmcError> {
        let Some(collection) = owner.pointer("/VirtualMedia/@odata.id").and_then(Value::as_str) else {
            return Ok(Vec::new());
        };
        let members = self.request(Method::GET, collection, None).await?;
        let members = members["Members"].as_array().map(Vec::as_slice).unwrap_or_default();
        let mut drives = Vec::new();
        for path in members.iter().filter_map(|drive| drive["@odata.id"].as_str()).take(MAX_DRIVES) {
            let resource = self.request(Method::GET, path, None).await?;
            let kinds = resource["MediaTypes"].as_array().map(Vec::as_slice).unwrap_or_default();
            if kinds.iter().any(|kind| kind == "CD" || kind == "DVD") {
                drives.push(Drive { path: path.to_owned(), resource });
            }
        }
        Ok(drives)
    }
}

/// Returns whether a drive has a medium.
fn is_loaded(drive: &Value) -> bool {
    drive["Inserted"] == true || drive["Image"].as_str().is_some_and(|image| !image.is_empty())
}

/// Returns whether a drive has this medium.
fn has(drive: &Value, url: &str) -> bool {
    drive["Image"] == url && drive["Inserted"] == true
}

/// Returns whether an answer refuses what was sent, and not the service for now.
fn asks_for_more(answer: &Response<Bytes>) -> bool {
    matches!(answer.status().as_u16(), 400 | 404 | 422 | 500)
}

/// Returns whether an error names a parameter: in its text, its arguments or its related properties.
fn names(answer: &Response<Bytes>, parameter: &str) -> bool {
    answer.body().windows(parameter.len()).any(|part| part == parameter.as_bytes())
}
