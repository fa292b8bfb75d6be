//! The places of the web page's streams: a share for each source.

use std::net::{IpAddr, Ipv4Addr};
use std::sync::{Arc, Mutex, PoisonError};

use crate::bounds::{Excess, ShareLimits, Shares, Source};

/// Maximum number of open streams.
const MAX_STREAMS: usize = 512;
/// Maximum number of open streams of one source. A page that nobody looks at has none.
const MAX_STREAMS_PER_SOURCE: usize = 32;

/// The places of all streams.
#[derive(Debug, Clone)]
pub struct StreamPlaces(Arc<Mutex<Shares<Source>>>);

/// The place of one stream; dropping it gives the place back.
#[derive(Debug)]
pub struct StreamPlace {
    places: StreamPlaces,
    source: Source,
}

impl Default for StreamPlaces {
    fn default() -> Self {
        let limits = ShareLimits { total: MAX_STREAMS, per_source: MAX_STREAMS_PER_SOURCE, reserve: 0 };
        Self(Arc::new(Mutex::new(Shares::new(limits))))
    }
}

impl StreamPlaces {
    /// Takes a place for a client; `None` as the address stands for the clients whose address is not known.
    ///
    /// # Errors
    /// The limit that is reached.
    pub fn take(&self, from: Option<IpAddr>) -> Result<StreamPlace, Excess> {
        let source = Source::of(from.unwrap_or(Ipv4Addr::UNSPECIFIED.into()));
        self.0.lock().unwrap_or_else(PoisonError::into_inner).take(source, || true)?;
        Ok(StreamPlace { places: self.clone(), source })
    }
}

impl Drop for StreamPlace {
    fn drop(&mut self) {
        self.places.0.lock().unwrap_or_else(PoisonError::into_inner).give_back(&self.source);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_source_has_a_bounded_number_of_streams() {
        let places = StreamPlaces::default();
        let one: Option<IpAddr> = Some([10, 0, 0, 1].into());
        let mut held: Vec<_> = (0..MAX_STREAMS_PER_SOURCE).map(|_| places.take(one).unwrap()).collect();
        assert_eq!(places.take(one).unwrap_err(), Excess::Source);
        assert!(places.take(None).is_ok());
        held.pop();
        assert!(places.take(one).is_ok(), "the place came back");
    }
}
