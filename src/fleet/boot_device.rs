//! The boot device that a host's BMC is told, so that the machine boots what was decided. Pure.

use super::{Bmc, BootDevice, BootMode, Host, Phase};

/// The mode that a machine's firmware boots in.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum FirmwareMode {
    /// UEFI.
    Uefi,
    /// BIOS, or UEFI with a compatibility support module.
    Legacy,
}

impl FirmwareMode {
    /// Returns the mode in which a machine was last seen; `None` for a machine that was never seen.
    pub fn of(host: &Host) -> Option<Self> {
        let architecture = host.status.firmware?;
        Some(if architecture.is_uefi() { Self::Uefi } else { Self::Legacy })
    }
}

/// Returns the device that the machine must boot from next; `None` if that is left to its firmware.
pub fn decided(host: &Host) -> Option<BootDevice> {
    host.spec.image.image()?;
    let has_drive = host.spec.bmc.as_ref().is_some_and(Bmc::boots_virtual_media);
    let image = if has_drive { BootDevice::Cd } else { BootDevice::Network };
    match (host.status.phase, host.spec.boot_mode) {
        (Phase::LocalBoot | Phase::Held, _) | (Phase::Failed, BootMode::Once) => None,
        (Phase::Installed, BootMode::Once) => Some(BootDevice::Disk),
        (Phase::Assigned | Phase::Offered | Phase::Installing, BootMode::Once)
        | (
            Phase::Assigned | Phase::Offered | Phase::Installing | Phase::Installed | Phase::Failed,
            BootMode::Forever,
        ) => Some(image),
    }
}

/// Returns the device that the BMC must be told now: that of a decision that it was not told since.
///
/// A machine that boots its image meanwhile has used what was set for one boot, and its installer may restart it: the
/// boot order of its firmware then decides.
pub fn pending(host: &Host) -> Option<BootDevice> {
    let status = &host.status;
    let is_decision = matches!(status.phase, Phase::Assigned | Phase::Installed);
    let device = decided(host).filter(|_| is_decision && host.spec.bmc.is_some())?;
    let is_told = status.boot_device.as_deref().is_some_and(|told| {
        (told.device == device || told.requested)
            && status.phase_transition_time.is_none_or(|decided_at| decided_at <= told.time)
    });
    (!is_told).then_some(device)
}

/// Returns the device that the machine must boot from when it is switched on or restarted now. What an operator set for
/// this boot stands.
pub fn for_next_boot(host: &Host) -> Option<BootDevice> {
    let status = &host.status;
    let changes = [&status.power_transition, &status.last_power_transition];
    let boots =
        changes.into_iter().flatten().filter_map(|change| change.accepted).filter(|done| done.reset.begins_boot());
    let since = boots.map(|done| done.time).chain(status.phase_transition_time).max();
    let is_set = status
        .boot_device
        .as_deref()
        .is_some_and(|told| told.requested && told.error.is_empty() && since.is_none_or(|since| since <= told.time));
    decided(host).filter(|_| !is_set)
}

#[cfg(test)]
mod tests {
    use jiff::Timestamp;

    use super::*;
    use crate::fleet::{
        AcceptedReset, BootDeviceRecord, HostSpec, HostStatus, Mac, Meta, PowerOperation, PowerTransition, Reset,
        Secret,
    };

    fn host(phase: Phase, mode: BootMode, image: &str) -> Host {
        let mut spec = HostSpec::for_mac(Mac([2, 0, 0, 0, 0, 1]));
        (spec.image, spec.boot_mode) = (image.parse().unwrap(), mode);
        spec.bmc = Some(Bmc::new("b", "", Secret::default()));
        let status = HostStatus { phase, phase_transition_time: Some(at(10)), ..HostStatus::default() };
        Host { metadata: Meta::named("h".parse().unwrap(), None), spec, status }
    }

    fn at(second: i64) -> Timestamp {
        Timestamp::from_second(second).unwrap()
    }

    #[test]
    fn the_device_follows_the_decision() {
        use BootDevice::{Disk, Network};
        use BootMode::{Forever, Once};
        for (phase, mode, image, wanted, told_now) in [
            (Phase::Assigned, Once, "live", Some(Network), true),
            (Phase::Offered, Once, "live", Some(Network), false),
            (Phase::Installing, Once, "live", Some(Network), false),
            (Phase::Installed, Once, "live", Some(Disk), true),
            (Phase::Failed, Once, "live", None, false),
            (Phase::LocalBoot, Once, "live", None, false),
            (Phase::Held, Forever, "live", None, false),
            (Phase::Assigned, Forever, "live", Some(Network), true),
            (Phase::Failed, Forever, "live", Some(Network), false),
            (Phase::LocalBoot, Once, "localboot", None, false),
        ] {
            let host = host(phase, mode, image);
            assert_eq!(decided(&host), wanted, "{phase} {mode:?} {image}");
            assert_eq!(pending(&host).is_some(), told_now, "{phase} {mode:?} {image}");
        }
    }

    #[test]
    fn a_machine_with_virtual_media_boots_its_drive() {
        for (address, device) in [
            ("redfish-virtualmedia://b", BootDevice::Cd),
            ("redfish-virtualmedia+http://b", BootDevice::Cd),
            ("redfish://b", BootDevice::Network),
        ] {
            let mut host = host(Phase::Assigned, BootMode::Once, "live");
            host.spec.bmc.as_mut().unwrap().address = address.into();
            assert_eq!(pending(&host), Some(device), "{address}");
        }
    }

    #[test]
    fn a_bmc_is_told_each_decision_once() {
        let mut host = host(Phase::Assigned, BootMode::Once, "live");
        let told = |device, second| {
            Some(Box::new(BootDeviceRecord { device, time: at(second), requested: false, error: String::new() }))
        };
        for (record, is_pending) in [
            (None, true),
            (told(BootDevice::Network, 9), true),
            (told(BootDevice::Network, 10), false),
            (told(BootDevice::Network, 11), false),
            (told(BootDevice::Disk, 11), true),
        ] {
            host.status.boot_device = record.clone();
            assert_eq!(pending(&host).is_some(), is_pending, "{record:?}");
        }
        let asked = BootDeviceRecord { device: BootDevice::Disk, time: at(11), requested: true, error: String::new() };
        host.status.boot_device = Some(Box::new(asked));
        assert_eq!((pending(&host), for_next_boot(&host)), (None, None), "an operator set something else");
        let mut change = PowerTransition::new(PowerOperation::On, at(12));
        change.accepted = Some(AcceptedReset { reset: Reset::On, time: at(12) });
        host.status.last_power_transition = Some(Box::new(change));
        assert_eq!(for_next_boot(&host), Some(BootDevice::Network), "for one boot");
        host.status.boot_device = None;
        host.spec.bmc = None;
        assert_eq!(pending(&host), None, "nobody to tell");
    }
}
