//! One change of a machine's boot device at a time: the BMC and the host's record are changed together.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError};

use tokio::sync::OwnedMutexGuard;

use crate::fleet::Key;

/// The locks of hosts whose boot device is being changed. Memory: one for each such request.
#[derive(Debug, Default)]
pub struct HostLocks(Mutex<HashMap<Key, Arc<tokio::sync::Mutex<()>>>>);

impl HostLocks {
    /// Waits until nobody else changes the host, and returns its lock.
    pub async fn lock(&self, key: &Key) -> OwnedMutexGuard<()> {
        let lock = {
            let mut locks = self.0.lock().unwrap_or_else(PoisonError::into_inner);
            locks.retain(|_, lock| Arc::strong_count(lock) > 1);
            locks.entry(key.clone()).or_default().clone()
        };
        lock.lock_owned().await
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::fleet::Kind;

    #[tokio::test]
    async fn changes_of_one_host_take_turns() {
        let locks = HostLocks::default();
        let key = |name: &str| Key { kind: Kind::BareMetalHost, namespace: None, name: name.parse().unwrap() };
        let held = locks.lock(&key("a")).await;
        let other = locks.lock(&key("b")).await;
        let key = key("a");
        let mut second = Box::pin(locks.lock(&key));
        assert!(is_pending(second.as_mut()).await);
        drop((held, other));
        drop(second.await);
        drop(locks.lock(&key).await);
        assert_eq!(locks.0.lock().unwrap().len(), 1, "locks that nobody holds are forgotten");
    }

    async fn is_pending<F: Future>(mut future: std::pin::Pin<&mut F>) -> bool {
        std::future::poll_fn(|context| std::task::Poll::Ready(future.as_mut().poll(context).is_pending())).await
    }
}
