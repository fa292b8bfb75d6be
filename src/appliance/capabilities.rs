//! The capabilities (capabilities(7)) that the process keeps after the start: those to bind a socket again when an address
//! or an interface comes back. They are permitted, and in effect only in the thread that binds, while it binds.

use anyhow::Context;
use rustix::thread::{CapabilitySet, CapabilitySets, capabilities, set_capabilities};

/// The capabilities to bind: ports below 1024, and packet and raw sockets.
const TO_BIND: CapabilitySet = CapabilitySet::NET_BIND_SERVICE.union(CapabilitySet::NET_RAW);

/// Drops all capabilities but those to bind, which are no longer in effect either. A child gets none: the inheritable
/// set and with it the ambient set become empty. Call it while the process has one thread.
///
/// # Errors
/// The kernel refuses.
pub fn give_up() -> anyhow::Result<()> {
    let of_process = capabilities(None).context("capabilities")?;
    let kept = CapabilitySets {
        effective: CapabilitySet::empty(),
        permitted: of_process.permitted & TO_BIND,
        inheritable: CapabilitySet::empty(),
    };
    set_capabilities(None, kept).context("capabilities")
}

/// Runs a function that binds sockets, with the capabilities to bind in effect in this thread as far as they are permitted.
pub fn while_binding<T>(bind: impl FnOnce() -> T) -> T {
    let before = capabilities(None);
    let raised = before.and_then(|sets| {
        let effective = sets.effective | (sets.permitted & TO_BIND);
        set_capabilities(None, CapabilitySets { effective, ..sets })
    });
    if let Err(error) = raised {
        tracing::warn!(%error, "capabilities to bind sockets not raised");
    }
    let result = bind();
    // The kernel lowers a set without a condition.
    if let Ok(sets) = before
        && let Err(error) = set_capabilities(None, sets)
    {
        tracing::error!(%error, "capabilities to bind sockets not lowered");
    }
    result
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn capabilities_are_in_effect_only_while_sockets_are_bound() {
        // Of this thread only, as of every other thread the kernel knows its own sets.
        let tested = std::thread::spawn(|| {
            let had = capabilities(None).unwrap();
            give_up().unwrap();
            let kept = capabilities(None).unwrap();
            assert_eq!(kept.permitted, had.permitted & TO_BIND);
            assert!(kept.effective.is_empty() && kept.inheritable.is_empty());
            assert_eq!(while_binding(|| capabilities(None).unwrap().effective), kept.permitted);
            assert_eq!(capabilities(None).unwrap(), kept);
        });
        tested.join().unwrap();
    }
}
