//! The places of connections: a share for each source, and a reserve for known machines.

use std::net::IpAddr;
use std::sync::{Arc, Mutex, PoisonError};

use super::{Excess, ShareLimits, Shares, Source};

/// The places of the connections of a listener.
#[derive(Debug)]
pub struct ListenerPlaces(Mutex<Shares<Source>>);

/// The place of one connection; dropping it gives the place back.
#[derive(Debug)]
pub struct ListenerPlace {
    places: Arc<ListenerPlaces>,
    source: Source,
}

impl ListenerPlaces {
    /// Creates places of which none is taken.
    pub fn new(limits: ShareLimits) -> Arc<Self> {
        Arc::new(Self(Mutex::new(Shares::new(limits))))
    }

    /// Takes a place. `is_known` is called only where the reserve is needed.
    ///
    /// # Errors
    /// The limit that is reached.
    pub fn take(self: &Arc<Self>, from: IpAddr, is_known: impl FnOnce() -> bool) -> Result<ListenerPlace, Excess> {
        let source = Source::of(from);
        self.0.lock().unwrap_or_else(PoisonError::into_inner).take(source, is_known)?;
        Ok(ListenerPlace { places: self.clone(), source })
    }
}

impl Drop for ListenerPlace {
    fn drop(&mut self) {
        self.places.0.lock().unwrap_or_else(PoisonError::into_inner).give_back(&self.source);
    }
}
