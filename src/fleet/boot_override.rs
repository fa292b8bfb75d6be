//! The boot override of the Redfish service: a boot in place of the declared one. Pure.
//!
//! The override keeps what was declared, and restores it when the override is cleared or replaced.

use jiff::Timestamp;
use serde::{Deserialize, Serialize};

use crate::fleet::lifecycle::Transition;
use crate::fleet::{BootMode, BootTarget, Host, Name, Phase};

/// The annotation of a host with the URL of the medium in its virtual drive.
pub const MEDIUM: &str = "bootlatch.org/virtual-media";

/// The annotation with the image at that URL.
pub const MEDIUM_IMAGE: &str = "bootlatch.org/virtual-media-image";

/// The annotation with the `BootOverride` as JSON.
const OVERRIDE: &str = "bootlatch.org/boot-override";

/// The target of a boot override (Redfish `BootSourceOverrideTarget`).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub enum OverrideTarget {
    /// The network: the declared image.
    Pxe,
    /// The medium in the virtual drive.
    Cd,
    /// The local disk.
    Hdd,
}

impl OverrideTarget {
    /// Returns Redfish's word for the target.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Pxe => "Pxe",
            Self::Cd => "Cd",
            Self::Hdd => "Hdd",
        }
    }

    /// Parses Redfish's word for a target.
    pub fn parse(word: &str) -> Option<Self> {
        [Self::Pxe, Self::Cd, Self::Hdd].into_iter().find(|target| target.as_str() == word)
    }
}

/// A boot override that a client set.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct BootOverride {
    /// The target.
    pub target: OverrideTarget,
    /// Whether the override holds for one boot.
    pub once: bool,
    /// Time of the request.
    #[serde(rename = "set")]
    requested_at: Timestamp,
    /// The image that the override put into the host's spec. A write of another image ends the override.
    image: BootTarget,
    /// The declared boot, if the host's spec has another one for now.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    declared: Option<DeclaredBoot>,
}

/// The declared boot of a host, which an override replaces.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
struct DeclaredBoot {
    image: BootTarget,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    boot_config_ref: Option<Name>,
    boot_mode: BootMode,
    phase: Phase,
}

impl BootOverride {
    /// Returns the override that is in force for a host.
    pub fn of(host: &Host) -> Option<Self> {
        let text = host.metadata.annotations.get(OVERRIDE)?;
        // Clients can write the annotation too: one that cannot be parsed is ignored.
        serde_json::from_str::<Self>(text).ok().filter(|set| set.image == host.spec.image)
    }
}

/// The reason that a boot override cannot be set.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum OverrideError {
    /// The host has no image.
    #[error("no image is assigned to the machine: insert virtual media, or set its spec.image first")]
    NothingAssigned,
    /// The virtual drive has no medium.
    #[error("the virtual drive is empty: insert media first")]
    DriveEmpty,
}

/// Returns Redfish's `BootSourceOverrideEnabled` and `BootSourceOverrideTarget` of a host.
pub fn redfish_state(host: &Host) -> (&'static str, &'static str) {
    let status = &host.status;
    let (waits, leaves) = (
        matches!(status.phase, Phase::Assigned | Phase::Offered | Phase::Installing),
        matches!(status.phase, Phase::LocalBoot | Phase::Held),
    );
    let network = |once: bool, target: &'static str| match once {
        true if waits => ("Once", target),
        false if !leaves && host.spec.image.image().is_some() => ("Continuous", target),
        true | false => ("Disabled", "None"),
    };
    match BootOverride::of(host) {
        Some(set) if set.target != OverrideTarget::Hdd => network(set.once, set.target.as_str()),
        Some(set) if leaves && !set.once => ("Continuous", "Hdd"),
        // A machine that was seen since then has had its one boot.
        Some(set) if leaves && status.last_seen_time.is_none_or(|seen| seen <= set.requested_at) => ("Once", "Hdd"),
        Some(_) | None => network(host.spec.boot_mode == BootMode::Once, "Pxe"),
    }
}

/// Returns the host with a boot override, and the transition that goes with it.
///
/// # Errors
/// There is nothing to boot from the target.
pub fn set_override(
    host: &Host,
    target: OverrideTarget,
    once: bool,
    now: Timestamp,
) -> Result<(Host, Transition), OverrideError> {
    let (mut after, _) = restore_declared(host);
    let declared = || DeclaredBoot::of(host);
    let (kept, change) = match (target, once) {
        (OverrideTarget::Hdd, _) => (None, Transition::Release),
        (OverrideTarget::Pxe, _) if after.spec.image.image().is_none() => {
            return Err(OverrideError::NothingAssigned);
        }
        (OverrideTarget::Pxe, true) => (None, Transition::Assign),
        (OverrideTarget::Pxe, false) => {
            after.spec.boot_mode = BootMode::Forever;
            (Some(declared()), Transition::Assign)
        }
        (OverrideTarget::Cd, once) => {
            let image = BootTarget::Image(inserted(host)?);
            if after.spec.image != image {
                (after.spec.image, after.spec.boot_config_ref) = (image, None);
            }
            after.spec.boot_mode = if once { BootMode::Once } else { BootMode::Forever };
            (Some(declared()), Transition::Assign)
        }
    };
    let set = BootOverride { target, once, requested_at: now, image: after.spec.image.clone(), declared: kept };
    // These types always serialize.
    let text = serde_json::to_string(&set).unwrap_or_default();
    after.metadata.annotations.insert(OVERRIDE.into(), text);
    Ok((after, change))
}

/// Returns the host without an override, and the transition that goes with it: no install stays pending.
pub fn cleared(host: &Host) -> (Host, Option<Transition>) {
    let (after, change) = restore_declared(host);
    let waits = is_pending(host) && after.spec.boot_mode == BootMode::Once;
    (after, change.or(waits.then_some(Transition::Release)))
}

/// Returns the host as it is declared, and the transition that goes with it, if there is one.
fn restore_declared(host: &Host) -> (Host, Option<Transition>) {
    let mut after = host.clone();
    after.metadata.annotations.remove(OVERRIDE);
    let Some(declared) = BootOverride::of(host).and_then(|set| set.declared) else { return (after, None) };
    // An install of the declared image that is in progress or over is kept.
    let stays = declared.image == host.spec.image && !is_pending(host);
    let change = if stays { None } else { declared.transition(host.status.phase) };
    let DeclaredBoot { image, boot_config_ref, boot_mode, phase: _ } = declared;
    (after.spec.image, after.spec.boot_config_ref, after.spec.boot_mode) = (image, boot_config_ref, boot_mode);
    (after, change)
}

fn is_pending(host: &Host) -> bool {
    matches!(host.status.phase, Phase::Assigned | Phase::Offered)
}

/// Returns the host with an empty virtual drive, and the transition that goes with it: an override to boot the medium
/// is cleared.
pub fn ejected(host: &Host) -> (Host, Option<Transition>) {
    let (mut after, change) = match BootOverride::of(host) {
        Some(set) if set.target == OverrideTarget::Cd => restore_declared(host),
        Some(_) | None => (host.clone(), None),
    };
    for name in [MEDIUM, MEDIUM_IMAGE] {
        after.metadata.annotations.remove(name);
    }
    (after, change)
}

/// Returns the image in a machine's virtual drive.
///
/// # Errors
/// The drive is empty.
pub fn inserted(host: &Host) -> Result<Name, OverrideError> {
    let image = host.metadata.annotations.get(MEDIUM_IMAGE).and_then(|name| name.parse().ok());
    image.ok_or(OverrideError::DriveEmpty)
}

/// Makes a host boot its local disk, because the declared image or config no longer exists.
pub fn left_to_disk(host: &mut Host) {
    let spec = &mut host.spec;
    (spec.image, spec.boot_config_ref, spec.boot_mode) = (BootTarget::LocalDisk, None, BootMode::Once);
}

impl DeclaredBoot {
    /// Returns the declared boot of a host, also under an override.
    fn of(host: &Host) -> Self {
        BootOverride::of(host).and_then(|set| set.declared).unwrap_or_else(|| Self {
            image: host.spec.image.clone(),
            boot_config_ref: host.spec.boot_config_ref.clone(),
            boot_mode: host.spec.boot_mode,
            phase: host.status.phase,
        })
    }

    /// Returns the transition that restores the declared boot, without a new install over what the override installed.
    fn transition(&self, now: Phase) -> Option<Transition> {
        match (self.phase, self.boot_mode) {
            (Phase::Held, _) => Some(Transition::Hold),
            (Phase::LocalBoot, _) => Some(Transition::Release),
            // Nothing was booted meanwhile: the install stays pending.
            (Phase::Assigned, BootMode::Once) if now == Phase::Assigned => None,
            (
                Phase::Assigned | Phase::Offered | Phase::Installing | Phase::Installed | Phase::Failed,
                BootMode::Once,
            ) => Some(Transition::Release),
            (
                Phase::Assigned | Phase::Offered | Phase::Installing | Phase::Installed | Phase::Failed,
                BootMode::Forever,
            ) => None,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::fleet::{HostSpec, HostStatus, Mac, Meta};

    fn host(image: &str, mode: BootMode, phase: Phase) -> Host {
        let mut metadata = Meta::named("h".parse().unwrap(), None);
        metadata.annotations.insert(MEDIUM_IMAGE.into(), "medium".into());
        let mut spec = HostSpec::for_mac(Mac([2, 0, 0, 0, 0, 1]));
        spec.image = image.parse().unwrap();
        spec.boot_mode = mode;
        spec.boot_config_ref = (image == "live").then(|| "builder".parse().unwrap());
        Host { metadata, spec, status: HostStatus { phase, ..HostStatus::default() } }
    }

    /// Applies a transition as the store does.
    fn moved((mut host, change): (Host, Option<Transition>), otherwise: Phase) -> Host {
        host.status.phase = match change {
            Some(Transition::Assign) => Phase::Assigned,
            Some(Transition::Release) => Phase::LocalBoot,
            Some(Transition::Hold) => Phase::Held,
            Some(_) => panic!("{change:?}"),
            None => otherwise,
        };
        host
    }

    fn set_to(host: &Host, target: OverrideTarget, once: bool) -> Host {
        let (host, change) = set_override(host, target, once, Timestamp::UNIX_EPOCH).unwrap();
        moved((host, Some(change)), Phase::LocalBoot)
    }

    #[test]
    fn the_declared_boot_is_restored() {
        use BootMode::{Forever, Once};
        for (image, mode, before, while_it_held, after) in [
            ("live", Once, Phase::Installed, Phase::Offered, Phase::LocalBoot),
            ("live", Once, Phase::Installed, Phase::Assigned, Phase::LocalBoot),
            ("live", Once, Phase::Assigned, Phase::Assigned, Phase::Assigned),
            ("live", Once, Phase::Assigned, Phase::Installed, Phase::LocalBoot),
            ("live", Forever, Phase::Offered, Phase::Installed, Phase::Assigned),
            ("live", Forever, Phase::LocalBoot, Phase::Installed, Phase::LocalBoot),
            ("localboot", Once, Phase::Held, Phase::Offered, Phase::Held),
        ] {
            let declared = host(image, mode, before);
            for first in [None, Some(OverrideTarget::Pxe), Some(OverrideTarget::Cd)] {
                let mut over = declared.clone();
                if let Some(first) = first.filter(|_| image == "live") {
                    over = set_to(&over, first, false);
                }
                over = set_to(&over, OverrideTarget::Cd, true);
                assert_eq!((over.spec.image.to_string().as_str(), over.spec.boot_mode), ("medium", Once));
                assert_eq!(over.spec.boot_config_ref, None);
                assert_eq!(redfish_state(&over), ("Once", "Cd"));
                over.status.phase = while_it_held;
                let back = moved(ejected(&over), Phase::Assigned);
                assert_eq!(back.spec, declared.spec, "{image} {mode:?} {first:?}");
                assert_eq!(back.status.phase, after, "{image} {mode:?} {before} {while_it_held} {first:?}");
                assert!(back.metadata.annotations.is_empty());
            }
        }
    }

    #[test]
    fn a_target_reads_back_as_it_was_set_for_as_long_as_it_holds() {
        let declared = host("live", BootMode::Once, Phase::Installed);
        assert_eq!(redfish_state(&declared), ("Disabled", "None"));
        let cd = set_to(&declared, OverrideTarget::Cd, false);
        assert_eq!(redfish_state(&cd), ("Continuous", "Cd"));
        let pxe = set_to(&cd, OverrideTarget::Pxe, false);
        assert_eq!((redfish_state(&pxe), &pxe.spec.image), (("Continuous", "Pxe"), &declared.spec.image));
        let pxe = set_to(&pxe, OverrideTarget::Pxe, true);
        assert_eq!((redfish_state(&pxe), &pxe.spec), (("Once", "Pxe"), &declared.spec));
        let mut disk = set_to(&pxe, OverrideTarget::Hdd, true);
        assert_eq!((redfish_state(&disk), &disk.spec), (("Once", "Hdd"), &declared.spec));
        disk.status.last_seen_time = Some(Timestamp::from_second(1).unwrap());
        assert_eq!(redfish_state(&disk), ("Disabled", "None"));
        assert_eq!(redfish_state(&set_to(&disk, OverrideTarget::Hdd, false)), ("Continuous", "Hdd"));
        let mut over = cd;
        over.spec.image = BootTarget::LocalDisk;
        over.status.phase = Phase::LocalBoot;
        assert_eq!(redfish_state(&over), ("Disabled", "None"), "somebody declared something else");
        assert_eq!(ejected(&over).0.spec, over.spec, "which holds");
    }

    #[test]
    fn an_override_needs_something_to_boot() {
        let declared = host("localboot", BootMode::Once, Phase::LocalBoot);
        assert!(set_override(&declared, OverrideTarget::Pxe, true, Timestamp::UNIX_EPOCH).is_err());
        let (empty, _) = ejected(&declared);
        assert!(set_override(&empty, OverrideTarget::Cd, true, Timestamp::UNIX_EPOCH).is_err());
        // A medium that was to be booted is not the declared image.
        let over = set_to(&declared, OverrideTarget::Cd, true);
        assert!(set_override(&over, OverrideTarget::Pxe, true, Timestamp::UNIX_EPOCH).is_err());
    }
}
