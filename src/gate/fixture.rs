//! A gate over a store in a temporary directory, for the unit tests of the protocol adapters.

use std::sync::Arc;

use crate::boot::Site;
use crate::boot::site::tests::site;
use crate::event::Entry;
use crate::fleet::{FirstSeenLimits, Host, Kind, Mac, Object};
use crate::gate::tokens::BootTokens;
use crate::gate::{EnrolmentBounds, Gate};
use crate::images::library::ImageLibrary;
use crate::store::{Change, Expect, OpenOptions, Store};

/// The MAC address of the host that most tests declare.
pub const VM: Mac = Mac([0x52, 0x54, 0, 0x12, 0x34, 0x56]);

/// A gate and the directory of its state.
#[derive(Debug)]
pub struct Fixture {
    /// The gate under test.
    pub gate: Arc<Gate>,
    /// The directory of the state; its ISO files are in `isos`.
    pub directory: tempfile::TempDir,
}

impl Fixture {
    /// Creates a gate whose configuration has this rule for unknown hosts (`hold`, `ignore` ...).
    pub fn new(rule: &str) -> Self {
        Self::with_site(site(rule))
    }

    /// Creates a gate with limits of enrolments.
    pub fn with_enrolment(rule: &str, limits: FirstSeenLimits) -> Self {
        Self::create(site(rule), EnrolmentBounds::new(limits))
    }

    /// Creates a gate with this configuration.
    pub fn with_site(site: Site) -> Self {
        Self::create(site, EnrolmentBounds::default())
    }

    fn create(site: Site, enrolment: EnrolmentBounds) -> Self {
        let directory = tempfile::tempdir().unwrap();
        let (store, _writer) = Store::open(directory.path(), site.install.clone(), OpenOptions::default()).unwrap();
        let isos = directory.path().join("isos");
        std::fs::create_dir(&isos).unwrap();
        let tokens = BootTokens::open(directory.path()).unwrap();
        let gate = Gate::new(Arc::new(site), store, ImageLibrary::new(isos), tokens);
        let gate = Arc::new(Gate { enrolment, ..gate });
        Self { gate, directory }
    }

    /// Creates or replaces an object from its JSON.
    pub async fn put_object(&self, kind: Kind, object: serde_json::Value) -> Object {
        let object = Object::from_json(kind, object).unwrap();
        self.gate.store.commit(Change::Put { object, expect: Expect::Any }).await.unwrap()
    }

    /// Creates or replaces an object with a spec.
    pub async fn put(&self, kind: Kind, name: &str, spec: serde_json::Value) {
        self.put_object(kind, serde_json::json!({"metadata": {"name": name}, "spec": spec})).await;
    }

    /// Declares the image `live`, with a file of 1 MiB, and the host `vm` that installs it. `spec` adds fields to the
    /// host.
    pub async fn put_vm(&self, spec: serde_json::Value) {
        self.put_image(serde_json::json!({})).await;
        self.put_host(spec).await;
    }

    /// Declares the image `live`, with a file of 1 MiB. `spec` adds fields to it.
    pub async fn put_image(&self, spec: serde_json::Value) {
        std::fs::write(self.directory.path().join("isos/live.iso"), vec![7; 1 << 20]).unwrap();
        let mut image = serde_json::json!({"isoFile": "live.iso"});
        image.as_object_mut().unwrap().extend(spec.as_object().unwrap().clone());
        self.put(Kind::IscsiCdrom, "live", image).await;
    }

    /// Declares the host `vm` that installs the image `live`. `spec` adds fields to it.
    pub async fn put_host(&self, spec: serde_json::Value) {
        let mut host = serde_json::json!({"bootMACAddress": VM.to_string(), "image": "live"});
        host.as_object_mut().unwrap().extend(spec.as_object().unwrap().clone());
        self.put(Kind::BareMetalHost, "vm", host).await;
    }

    /// Returns the host `vm` as it is stored.
    pub fn vm(&self) -> Arc<Host> {
        self.gate.store.load().host_by_mac(VM).unwrap()
    }

    /// Makes every later write of the store fail.
    pub fn break_store(&self) {
        let database = rusqlite::Connection::open(self.directory.path().join("bootlatch.db")).unwrap();
        database.execute_batch("DROP TABLE objects; DROP TABLE leases").unwrap();
    }

    /// Returns the timeline of the host `vm`, once it has at least `count` entries.
    pub async fn timeline(&self, count: usize) -> Vec<Entry> {
        loop {
            let entries = self.gate.store.timeline(Some(VM), 100).unwrap();
            if entries.len() >= count {
                return entries;
            }
            tokio::task::yield_now().await;
        }
    }
}
