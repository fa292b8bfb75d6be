//! The live sessions, so that a login can reinstate one (RFC 7143 6.3.5).

use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError};

use tokio::sync::{Notify, watch};

use crate::iscsi::connection::SessionKey;

/// The table of live sessions of a server.
#[derive(Debug, Default)]
pub struct Registry {
    live: Mutex<LiveSessions>,
}

#[derive(Debug, Default)]
struct LiveSessions {
    sessions: HashMap<SessionKey, SessionEntry>,
    last: u16,
}

#[derive(Debug)]
struct SessionEntry {
    tsih: u16,
    replaced: Arc<Notify>,
    ended: watch::Receiver<()>,
}

/// The entry of a session in the table, for as long as it lives.
#[derive(Debug)]
pub struct SessionHandle {
    registry: Arc<Registry>,
    key: SessionKey,
    tsih: u16,
    /// Dropped when the session has ended, which ends the wait of the session that replaces it.
    _ending: watch::Sender<()>,
}

impl Registry {
    /// Registers a session. A session that it replaces is notified, and must end before the login is answered: the
    /// caller waits until the receiver closes.
    pub fn attach(
        self: &Arc<Self>,
        key: SessionKey,
        replaced: Arc<Notify>,
    ) -> (SessionHandle, Option<watch::Receiver<()>>) {
        let (ending, ended) = watch::channel(());
        let mut live = self.live.lock().unwrap_or_else(PoisonError::into_inner);
        let tsih = live.free_handle();
        let former = live.sessions.insert(key.clone(), SessionEntry { tsih, replaced, ended });
        drop(live);
        let former = former.map(|former| {
            former.replaced.notify_one();
            former.ended
        });
        (SessionHandle { registry: Arc::clone(self), key, tsih, _ending: ending }, former)
    }

    /// Returns the number of live sessions.
    #[cfg(test)]
    pub fn count(&self) -> usize {
        self.live.lock().unwrap_or_else(PoisonError::into_inner).sessions.len()
    }
}

impl LiveSessions {
    /// Returns a handle that no live session has. 0 is reserved (RFC 7143 11.12.6). There are fewer sessions than
    /// handles.
    fn free_handle(&mut self) -> u16 {
        loop {
            self.last = self.last.wrapping_add(1);
            if self.last != 0 && self.sessions.values().all(|entry| entry.tsih != self.last) {
                return self.last;
            }
        }
    }
}

impl SessionHandle {
    /// Returns the session handle (TSIH).
    pub fn tsih(&self) -> u16 {
        self.tsih
    }
}

impl Drop for SessionHandle {
    fn drop(&mut self) {
        let mut live = self.registry.live.lock().unwrap_or_else(PoisonError::into_inner);
        if live.sessions.get(&self.key).is_some_and(|entry| entry.tsih == self.tsih) {
            live.sessions.remove(&self.key);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn key(isid: u8) -> SessionKey {
        SessionKey { initiator: "iqn.2026-11.org.bootlatch:host".to_owned(), isid: [isid; 6], target: None }
    }

    #[test]
    fn the_same_name_and_isid_replace_and_another_isid_does_not() {
        let registry = Arc::new(Registry::default());
        let attach = |isid| registry.attach(key(isid), Arc::new(Notify::new()));
        let (first, none) = attach(1);
        assert!(none.is_none());
        let (other, none) = attach(2);
        assert!(none.is_none());
        let (second, former) = attach(1);
        let former = former.unwrap();
        assert_eq!(registry.count(), 2);
        assert!(former.has_changed().is_ok());
        drop(first);
        assert!(former.has_changed().is_err(), "the former session has ended");
        assert_eq!(registry.count(), 2, "its end does not take its successor's place");
        assert!(second.tsih() != other.tsih() && second.tsih() != 0);
        drop((second, other));
        assert_eq!(registry.count(), 0);
    }
}
