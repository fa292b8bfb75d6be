use std::collections::HashMap;
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

use crate::fleet::Mac;

/// The machines whose iPXE was recently answered over DHCP.
#[derive(Debug, Default)]
pub struct RecentIpxeClients(Mutex<HashMap<Mac, Instant>>);

impl RecentIpxeClients {
    /// Time after the DHCP reply during which the machine counts as booting.
    const BOOT_TIMEOUT: Duration = Duration::from_secs(60);
    /// Maximum number of machines.
    const MAX_MACHINES: usize = 8192;

    /// Records that a machine's iPXE was answered.
    pub fn record(&self, mac: Mac) {
        let now = Instant::now();
        let mut machines = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if machines.len() >= Self::MAX_MACHINES {
            machines.retain(|_, at| now - *at < Self::BOOT_TIMEOUT);
        }
        if machines.len() < Self::MAX_MACHINES {
            machines.insert(mac, now);
        }
    }

    /// Returns whether a machine's iPXE was answered within the window. Each answer counts once.
    pub fn take(&self, mac: Mac) -> bool {
        let mut machines = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        machines.remove(&mac).is_some_and(|at| at.elapsed() < Self::BOOT_TIMEOUT)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_answer_counts_once_and_the_map_is_bounded() {
        let clients = RecentIpxeClients::default();
        let mac = |number: u32| {
            let [a, b, c, d] = number.to_be_bytes();
            Mac([2, 0, a, b, c, d])
        };
        for number in 0..2 * RecentIpxeClients::MAX_MACHINES as u32 {
            clients.record(mac(number));
        }
        assert_eq!(clients.0.lock().unwrap().len(), RecentIpxeClients::MAX_MACHINES);
        assert!(clients.take(mac(0)) && !clients.take(mac(0)));
    }
}
