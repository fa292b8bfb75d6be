//! The state that every request needs.

use std::sync::Arc;

use arc_swap::ArcSwap;
use tokio::sync::{Mutex, Semaphore};

use crate::admission::prepare::Places;
use crate::api::auth::Access;
use crate::api::objects::pages::Pages;
use crate::api::redfish::host_locks::HostLocks;
use crate::api::redfish::sessions::Sessions;
use crate::api::settings::Setting;
use crate::api::ui::places::StreamPlaces;
use crate::gate::Gate;
use crate::gate::rehearsal::ProtocolQueries;
use crate::images::boot_programs::BootPrograms;
use crate::images::served_directory::ServedDirectory;
use crate::store::volumes::Volumes;

/// The state that all requests share.
#[derive(Debug)]
pub struct Shared {
    /// The gate, with the store and the image library.
    pub gate: Arc<Gate>,
    /// The places of objects' files, for admission.
    pub places: Places,
    /// The directories whose files are served.
    pub folders: Folders,
    /// Tokens, proxies and trusted connections.
    pub access: Access,
    /// Lists that clients read page by page.
    pub pages: Pages,
    /// Open Redfish sessions.
    pub sessions: Sessions,
    /// Places of the web page's streams.
    pub streams: StreamPlaces,
    /// Hosts whose boot device a Redfish client is changing.
    pub host_locks: HostLocks,
    /// Queue of writers that retry after a version conflict.
    pub retry_queue: Arc<Mutex<()>>,
    /// Place of the preview of a template, which may hold megabytes: one at a time.
    pub previews: Arc<Semaphore>,
    /// Questions that the protocols answer.
    pub queries: Arc<ProtocolQueries>,
    /// The settings in force. A reload changes them.
    pub settings: Arc<ArcSwap<Vec<Setting>>>,
}

/// The directories whose files are served.
#[derive(Debug)]
pub struct Folders {
    /// Boot programs: `/boot/MAC/NAME`.
    pub firmware: BootPrograms,
    /// The configured directory: `/files/PATH`.
    pub files: Arc<ServedDirectory>,
    /// Volumes of generated configs.
    pub volumes: Arc<Volumes>,
}

impl Shared {
    /// Makes the state of a server that has answered nothing yet.
    pub fn new(
        gate: Arc<Gate>,
        places: Places,
        folders: Folders,
        access: Access,
        queries: ProtocolQueries,
        settings: Arc<ArcSwap<Vec<Setting>>>,
    ) -> Self {
        Self {
            gate,
            places,
            folders,
            access,
            pages: Pages::default(),
            sessions: Sessions::default(),
            streams: StreamPlaces::default(),
            host_locks: HostLocks::default(),
            retry_queue: Arc::default(),
            previews: Arc::new(Semaphore::new(1)),
            queries: Arc::new(queries),
            settings,
        }
    }
}
