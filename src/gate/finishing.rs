//! Installers that said that they are done, and may come back for their medium.

use std::collections::HashMap;
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

use crate::boot::{Facts, Stage};
use crate::fleet::lifecycle::Transition;
use crate::fleet::{BootMode, BootTarget, Host, Image, Mac, Name, Phase};
use crate::gate::Gate;

/// The installs whose installer may still read from its medium after the install was reported complete: an installer
/// reports in one of its last steps, and goes on reading.
///
/// The record ends with the machine's next boot, after `RETURN_TIMEOUT`, and with a restart of the server. So it leads
/// to no second install: no boot script is served by it.
#[derive(Debug, Default)]
pub struct FinishingInstalls(Mutex<HashMap<Mac, Finishing>>);

#[derive(Debug)]
struct Finishing {
    /// The image that the machine attached.
    image: Name,
    /// Time at which the install was complete; `None` before.
    completed: Option<Instant>,
}

impl Finishing {
    fn is_over(&self, now: Instant) -> bool {
        self.completed.is_some_and(|at| now.saturating_duration_since(at) >= FinishingInstalls::RETURN_TIMEOUT)
    }
}

impl FinishingInstalls {
    /// Time after the completion of an install during which its machine may attach the image again.
    pub const RETURN_TIMEOUT: Duration = Duration::from_secs(15 * 60);
    /// Maximum number of machines. Of others, no login is accepted after the completion.
    const MAX_MACHINES: usize = 8192;

    /// Records that a machine attached an image for an install that is not complete. Of a machine whose address nothing
    /// ties, the install stays `Assigned`.
    pub fn record_attached(&self, host: &Host, image: &Name, now: Instant) {
        let is_installing = matches!(host.status.phase, Phase::Assigned | Phase::Offered | Phase::Installing);
        if is_installing && host.spec.boot_mode == BootMode::Once {
            self.insert(host.spec.boot_mac_address, Finishing { image: image.clone(), completed: None }, now);
        }
    }

    /// Records that an install is complete. `was_reported` is whether its machine said so. Another policy of
    /// `install.completion` ends it before its installer runs, and then the machine need not have attached the image.
    pub fn record_completed(&self, host: &Host, was_reported: bool, now: Instant) {
        let (BootTarget::Image(image), Phase::Installed) = (&host.spec.image, host.status.phase) else { return };
        let mac = host.spec.boot_mac_address;
        match was_reported {
            true => {
                if let Some(finishing) = self.machines().get_mut(&mac) {
                    finishing.completed.get_or_insert(now);
                }
            }
            false => self.insert(mac, Finishing { image: image.clone(), completed: Some(now) }, now),
        }
    }

    /// Forgets a machine that boots.
    pub fn forget(&self, mac: Mac) {
        self.machines().remove(&mac);
    }

    /// Returns whether a machine may attach an image after its install was complete.
    pub fn may_return(&self, mac: Mac, image: &Name, now: Instant) -> bool {
        let machines = self.machines();
        let finishing = machines.get(&mac).filter(|finishing| finishing.image == *image && !finishing.is_over(now));
        finishing.is_some_and(|finishing| finishing.completed.is_some())
    }

    fn insert(&self, mac: Mac, finishing: Finishing, now: Instant) {
        let mut machines = self.machines();
        if machines.len() >= Self::MAX_MACHINES {
            machines.retain(|_, finishing| !finishing.is_over(now));
        }
        if machines.len() < Self::MAX_MACHINES || machines.contains_key(&mac) {
            machines.insert(mac, finishing);
        }
    }

    fn machines(&self) -> std::sync::MutexGuard<'_, HashMap<Mac, Finishing>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Gate {
    /// Takes a request of firmware or a boot program as the machine's next boot: its installer no longer runs. It is a
    /// claim, which may end the time for another login and never begins an install.
    pub fn note_boot(&self, facts: &Facts) {
        match facts.stage {
            Stage::Rom | Stage::Ipxe | Stage::LimitedIpxe => self.finishing.forget(facts.mac),
            Stage::IscsiLogin | Stage::IscsiReturn | Stage::Installer => {}
        }
    }

    /// Notes that a machine attached an image.
    pub(super) fn note_attached(&self, host: &Host, image: &Image) {
        self.finishing.record_attached(host, &image.metadata.name, Instant::now());
    }

    /// Notes that a transition may have completed a host's install.
    pub(super) fn note_completed(&self, host: &Host, transition: Transition) {
        self.finishing.record_completed(host, transition == Transition::Complete, Instant::now());
    }

    /// Returns whether a machine's install is complete.
    pub(super) fn is_installed(&self, mac: Mac) -> bool {
        self.store.load().host_by_mac(mac).is_some_and(|host| host.status.phase == Phase::Installed)
    }

    /// Returns whether a machine logs in again after its install was complete. A view that contains or points to a
    /// confidential config is not attached again: the config ended with the install.
    pub(super) fn is_returning(&self, mac: Mac, image: &Name) -> bool {
        let state = self.store.load();
        let (Some(host), Some(image)) = (state.host_by_mac(mac), state.image(image)) else { return false };
        self.finishing.may_return(mac, &image.metadata.name, Instant::now())
            && !self.config_in_view(&host, image).is_some_and(|config| self.is_over(&host, &config))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::fleet::{HostSpec, HostStatus, Meta};

    const VM: Mac = Mac([0x52, 0x54, 0, 0, 0, 1]);

    fn host(mac: Mac, phase: Phase, mode: BootMode) -> Host {
        let mut spec = HostSpec::for_mac(mac);
        spec.image = BootTarget::Image(live());
        spec.boot_mode = mode;
        let status = HostStatus { phase, ..HostStatus::default() };
        Host { metadata: Meta::named("vm".parse().unwrap(), None), spec, status }
    }

    fn live() -> Name {
        "live".parse().unwrap()
    }

    #[test]
    fn a_machine_that_was_logged_in_may_return_until_it_boots() {
        let (installs, now) = (FinishingInstalls::default(), Instant::now());
        let done = host(VM, Phase::Installed, BootMode::Once);
        installs.record_completed(&done, true, now);
        assert!(!installs.may_return(VM, &live(), now), "it was never logged in");
        installs.record_attached(&host(VM, Phase::Installing, BootMode::Once), &live(), now);
        assert!(!installs.may_return(VM, &live(), now), "its install is under way");
        installs.record_completed(&done, true, now);
        assert!(installs.may_return(VM, &live(), now));
        assert!(!installs.may_return(VM, &"other".parse().unwrap(), now));
        assert!(!installs.may_return(Mac([2; 6]), &live(), now));
        let end = now + FinishingInstalls::RETURN_TIMEOUT;
        installs.record_completed(&done, true, end);
        assert!(!installs.may_return(VM, &live(), end), "a second report does not prolong it");
        installs.forget(VM);
        assert!(!installs.may_return(VM, &live(), now));
        installs.record_completed(&done, true, now);
        assert!(!installs.may_return(VM, &live(), now), "the installed system reports too");
    }

    #[test]
    fn an_install_that_ends_before_its_installer_runs_needs_no_login() {
        let (installs, now) = (FinishingInstalls::default(), Instant::now());
        installs.record_completed(&host(VM, Phase::Offered, BootMode::Once), false, now);
        assert!(!installs.may_return(VM, &live(), now));
        installs.record_completed(&host(VM, Phase::Installed, BootMode::Once), false, now);
        assert!(installs.may_return(VM, &live(), now));
        installs.record_attached(&host(VM, Phase::Installed, BootMode::Once), &live(), now);
        assert!(installs.may_return(VM, &live(), now), "a return is no login of an install that is under way");
    }

    #[test]
    fn machines_are_bounded() {
        let (installs, now) = (FinishingInstalls::default(), Instant::now());
        let mac = |number: u32| {
            let [a, b, c, d] = number.to_be_bytes();
            Mac([2, 0, a, b, c, d])
        };
        for number in 0..FinishingInstalls::MAX_MACHINES as u32 + 100 {
            installs.record_completed(&host(mac(number), Phase::Installed, BootMode::Once), false, now);
        }
        assert_eq!(installs.machines().len(), FinishingInstalls::MAX_MACHINES);
        let later = now + FinishingInstalls::RETURN_TIMEOUT;
        installs.record_attached(&host(VM, Phase::Offered, BootMode::Once), &live(), later);
        assert_eq!(installs.machines().len(), 1, "those whose time is over make room");
    }
}
