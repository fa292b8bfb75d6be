//! The virtual drive of a machine, from which it boots a medium by URL.

use hyper::Method;
use serde_json::{Value, json};

use super::super::BmcError;
use super::client::RedfishService;

/// Maximum number of drives that are looked at.
const MAX_DRIVES: usize = 8;

impl RedfishService<'_> {
    /// Inserts a medium into the virtual CD drive. Another medium in it is ejected.
    pub async fn insert_medium(&self, url: &str) -> Result<(), BmcError> {
        let (path, drive) = self.cd_drive().await?;
        if drive["Image"] == url && drive["Inserted"] == true {
            return Ok(());
        }
        if is_loaded(&drive) {
            self.eject(&path, &drive).await?;
        }
        let whole = json!({"Image": url, "Inserted": true, "WriteProtected": true});
        let Some(target) = drive.pointer("/Actions/#VirtualMedia.InsertMedia/target").and_then(Value::as_str) else {
            // Services from before the action existed.
            return self.request(Method::PATCH, &path, Some(&json!({"Image": url, "Inserted": true}))).await.map(drop);
        };
        match self.request(Method::POST, target, Some(&whole)).await {
            // Some services know the URL alone.
            Err(BmcError::Unsupported { .. } | BmcError::Refused { .. }) => {
                self.request(Method::POST, target, Some(&json!({"Image": url}))).await.map(drop)
            }
            other => other.map(drop),
        }
    }

    /// Ejects the medium in the virtual CD drive, if its URL begins like this: a medium of somebody else stays.
    pub async fn eject_medium(&self, prefix: &str) -> Result<(), BmcError> {
        let (path, drive) = self.cd_drive().await?;
        let is_ours = drive["Image"].as_str().is_some_and(|image| image.starts_with(prefix));
        if is_ours { self.eject(&path, &drive).await } else { Ok(()) }
    }

    async fn eject(&self, path: &str, drive: &Value) -> Result<(), BmcError> {
        let target = drive.pointer("/Actions/#VirtualMedia.EjectMedia/target").and_then(Value::as_str);
        let ejected = match target {
            Some(target) => self.request(Method::POST, target, Some(&json!({}))).await,
            None => self.request(Method::PATCH, path, Some(&json!({"Image": null, "Inserted": false}))).await,
        };
        ejected.map(drop)
    }

    /// Returns the path and the resource of the first virtual drive for CDs or DVDs: of the system, or of its manager.
    async fn cd_drive(&self) -> Result<(String, Value), BmcError> {
        let (_, system) = self.system().await?;
        let mut collection = system.pointer("/VirtualMedia/@odata.id").and_then(Value::as_str).map(str::to_owned);
        let manager = system.pointer("/Links/ManagedBy/0/@odata.id").and_then(Value::as_str);
        if let (None, Some(manager)) = (&collection, manager) {
            let manager = self.request(Method::GET, manager, None).await?;
            collection = manager.pointer("/VirtualMedia/@odata.id").and_then(Value::as_str).map(str::to_owned);
        }
        let collection = collection.ok_or_else(|| self.unsupported("virtual media: no drive"))?;
        let drives = self.request(Method::GET, &collection, None).await?;
        let drives = drives["Members"].as_array().map(Vec::as_slice).unwrap_or_default();
        for path in drives.iter().filter_map(|drive| drive["@odata.id"].as_str()).take(MAX_DRIVES) {
            let drive = self.request(Method::GET, path, None).await?;
            let kinds = drive["MediaTypes"].as_array().map(Vec::as_slice).unwrap_or_default();
            if kinds.iter().any(|kind| kind == "CD" || kind == "DVD") {
                return Ok((path.to_owned(), drive));
            }
        }
        Err(self.unsupported("virtual media: no drive for CDs"))
    }
}

/// Returns whether a drive has a medium.
fn is_loaded(drive: &Value) -> bool {
    drive["Inserted"] == true || drive["Image"].as_str().is_some_and(|image| !image.is_empty())
}
