//! The last image that a connection requested: a client reads an image in thousands of ranges.

use std::net::IpAddr;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use crate::fleet::Image;
use crate::images::library::ImageView;
use crate::store::Snapshot;

/// Time for which a connection's view of an image is not looked up again.
const CACHE_TTL: Duration = Duration::from_secs(1);

/// The request of a client. A proxy sends the requests of many clients over one connection, and a view is its host's.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RecentKey {
    /// Address of the client behind any proxy; `None` if a proxy hides it.
    pub client: Option<IpAddr>,
    /// Path below `/iso/`.
    pub path: String,
    /// Query, with the host whose view is meant and its token.
    pub query: Option<String>,
}

/// The bytes that a request names, if requests for them may be repeated.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum RepeatedKey {
    /// An image or a file in it.
    Image(RecentKey),
    /// The view of an image under a token.
    Leased {
        /// Token of the lease.
        token: String,
        /// Name of the image's file.
        file: String,
    },
    /// Path of a file of the configured directory.
    File(String),
}

/// A connection's last view of an image.
#[derive(Debug, Default)]
pub struct RecentView(Mutex<Option<RecentEntry>>);

#[derive(Debug)]
struct RecentEntry {
    key: RecentKey,
    /// Version of the state in which the view was decided.
    version: u64,
    image: Option<Arc<Image>>,
    at: Instant,
    view: ImageView,
}

impl RecentView {
    /// Returns the view that the same client got for the same request shortly before `now`; `None` if another view may
    /// be due.
    pub fn recall(&self, state: &Snapshot, key: &RecentKey, now: Instant) -> Option<ImageView> {
        let entry = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let entry = entry.as_ref().filter(|entry| entry.key == *key);
        let entry = entry.filter(|entry| now.duration_since(entry.at) < CACHE_TTL)?;
        // Without a query it is the image alone, whatever happens to hosts and configs.
        let is_unchanged =
            || entry.image.as_ref().zip(image(state, &key.path)).is_some_and(|(was, is)| Arc::ptr_eq(was, is));
        let holds = entry.version == state.version || key.query.is_none() && is_unchanged();
        holds.then(|| entry.view.clone())
    }

    /// Remembers the view that a request got.
    pub fn remember(&self, state: &Snapshot, key: RecentKey, view: ImageView) {
        let (version, image) = (state.version, image(state, &key.path).cloned());
        let entry = RecentEntry { key, version, image, at: Instant::now(), view };
        *self.0.lock().unwrap_or_else(PoisonError::into_inner) = Some(entry);
    }
}

/// Returns the image whose name a path begins with.
fn image<'a>(state: &'a Snapshot, path: &str) -> Option<&'a Arc<Image>> {
    let name = path.split('/').next().unwrap_or_default();
    state.image(&name.parse().ok()?)
}
