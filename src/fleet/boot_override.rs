//! The boot override: what a machine boots in place of what is declared of it. Pure.
//!
//! What was declared is kept beside it, and is given back once the override is taken back or another takes its place.

use jiff::Timestamp;
use serde::{Deserialize, Serialize};

use crate::fleet::lifecycle::Transition;
use crate::fleet::{BootMode, BootTarget, Host, Name, Phase};

use crate::api::redfish::error::Fault;

/// Is an annotation of a host: the URL of the medium in its virtual drive.
pub const MEDIUM: &str = "bootlatch.org/virtual-media";

/// Is another: the image that the URL means.
pub const MEDIUM_IMAGE: &str = "bootlatch.org/virtual-media-image";

/// Is another: what the machine's boot was set to, as an `Override`.
const OVERRIDE: &str = "bootlatch.org/boot-override";

/// Is what a machine's boot can be set to.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub enum Target {
    Pxe,
    Cd,
    Hdd,
}

impl Target {
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Pxe => "Pxe",
            Self::Cd => "Cd",
            Self::Hdd => "Hdd",
        }
    }

    pub fn read(word: &str) -> Option<Self> {
        [Self::Pxe, Self::Cd, Self::Hdd].into_iter().find(|target| target.as_str() == word)
    }
}

/// Is what a client set a machine's boot to.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct Override {
    pub target: Target,
    pub once: bool,
    set: Timestamp,
    /// Is what the host's spec was made to boot: who declares another image meanwhile has ended the override.
    image: BootTarget,
    /// Is what is declared of the host, where its spec says something else for now.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    declared: Option<Declared>,
}

/// Is what of a host an override stands in place of.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
struct Declared {
    image: BootTarget,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    boot_config_ref: Option<Name>,
    boot_mode: BootMode,
    phase: Phase,
}

impl Override {
    /// Finds the override that a host is under.
    pub fn of(host: &Host) -> Option<Self> {
        let text = host.metadata.annotations.get(OVERRIDE)?;
        // Whoever may write may have written there: what cannot be read is none.
        serde_json::from_str::<Self>(text).ok().filter(|set| set.image == host.spec.image)
    }
}

/// Says what a machine's boot is set to, in Redfish's words: whether it is, and to what.
pub fn told(host: &Host) -> (&'static str, &'static str) {
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
    match Override::of(host) {
        Some(set) if set.target != Target::Hdd => network(set.once, set.target.as_str()),
        Some(set) if leaves && !set.once => ("Continuous", "Hdd"),
        // A machine that asked since has had its one boot.
        Some(set) if leaves && status.last_seen_time.is_none_or(|seen| seen <= set.set) => ("Once", "Hdd"),
        Some(_) | None => network(host.spec.boot_mode == BootMode::Once, "Pxe"),
    }
}

/// Gives the host with its boot set, and what it is to be moved on by.
///
/// # Errors
/// There is nothing of the kind to boot.
pub fn set(host: &Host, target: Target, once: bool, now: Timestamp) -> Result<(Host, Transition), Fault> {
    let (mut after, _) = taken_back(host);
    let declared = || Declared::of(host);
    let (kept, change) = match (target, once) {
        (Target::Hdd, _) => (None, Transition::Release),
        (Target::Pxe, _) if after.spec.image.image().is_none() => {
            let message = "nothing is assigned to the machine: insert virtual media, or name its spec.image first";
            return Err(Fault::conflict(message));
        }
        (Target::Pxe, true) => (None, Transition::Assign),
        (Target::Pxe, false) => {
            after.spec.boot_mode = BootMode::Forever;
            (Some(declared()), Transition::Assign)
        }
        (Target::Cd, once) => {
            let image = BootTarget::Image(inserted(host)?);
            if after.spec.image != image {
                (after.spec.image, after.spec.boot_config_ref) = (image, None);
            }
            after.spec.boot_mode = if once { BootMode::Once } else { BootMode::Forever };
            (Some(declared()), Transition::Assign)
        }
    };
    let set = Override { target, once, set: now, image: after.spec.image.clone(), declared: kept };
    // What is of our own making can be written.
    let text = serde_json::to_string(&set).unwrap_or_default();
    after.metadata.annotations.insert(OVERRIDE.into(), text);
    Ok((after, change))
}

/// Gives the host without an override, and what it is to be moved on by: no install of it waits.
pub fn cleared(host: &Host) -> (Host, Option<Transition>) {
    let (after, change) = taken_back(host);
    let waits = is_pending(host) && after.spec.boot_mode == BootMode::Once;
    (after, change.or(waits.then_some(Transition::Release)))
}

/// Gives the host as it is declared, and what it is to be moved on by, where no more than its spec says.
fn taken_back(host: &Host) -> (Host, Option<Transition>) {
    let mut after = host.clone();
    after.metadata.annotations.remove(OVERRIDE);
    let Some(declared) = Override::of(host).and_then(|set| set.declared) else { return (after, None) };
    // An install that is under way or over is the declared one, where that is what was booted.
    let stays = declared.image == host.spec.image && !is_pending(host);
    let change = if stays { None } else { declared.again(host.status.phase) };
    let Declared { image, boot_config_ref, boot_mode, phase: _ } = declared;
    (after.spec.image, after.spec.boot_config_ref, after.spec.boot_mode) = (image, boot_config_ref, boot_mode);
    (after, change)
}

fn is_pending(host: &Host) -> bool {
    matches!(host.status.phase, Phase::Assigned | Phase::Offered)
}

/// Gives the host with an empty drive, and what it is to be moved on by: one that was to boot what was in it is as it
/// is declared again.
pub fn ejected(host: &Host) -> (Host, Option<Transition>) {
    let (mut after, change) = match Override::of(host) {
        Some(set) if set.target == Target::Cd => taken_back(host),
        Some(_) | None => (host.clone(), None),
    };
    for name in [MEDIUM, MEDIUM_IMAGE] {
        after.metadata.annotations.remove(name);
    }
    (after, change)
}

/// Finds the image that is in a machine's virtual drive.
///
/// # Errors
/// The drive is empty.
pub fn inserted(host: &Host) -> Result<Name, Fault> {
    let image = host.metadata.annotations.get(MEDIUM_IMAGE).and_then(|name| name.parse().ok());
    image.ok_or_else(|| Fault::conflict("the virtual drive is empty: insert media first"))
}

/// Leaves a host to its disk: what was declared of it is no more.
pub fn left_to_disk(host: &mut Host) {
    let spec = &mut host.spec;
    (spec.image, spec.boot_config_ref, spec.boot_mode) = (BootTarget::LocalDisk, None, BootMode::Once);
}

impl Declared {
    /// Gives what is declared of a host, whatever override it is under.
    fn of(host: &Host) -> Self {
        Override::of(host).and_then(|set| set.declared).unwrap_or_else(|| Self {
            image: host.spec.image.clone(),
            boot_config_ref: host.spec.boot_config_ref.clone(),
            boot_mode: host.spec.boot_mode,
            phase: host.status.phase,
        })
    }

    /// Says what a host is moved on by once this holds again: what an override did to its disk is not installed over.
    fn again(&self, now: Phase) -> Option<Transition> {
        match (self.phase, self.boot_mode) {
            (Phase::Held, _) => Some(Transition::Hold),
            (Phase::LocalBoot, _) => Some(Transition::Release),
            // Nothing was booted meanwhile: what waited still does.
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

    /// Carries a change out as the store does, for what is asked here.
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

    fn set_to(host: &Host, target: Target, once: bool) -> Host {
        let (host, change) = set(host, target, once, Timestamp::UNIX_EPOCH).unwrap();
        moved((host, Some(change)), Phase::LocalBoot)
    }

    #[test]
    fn what_was_declared_is_given_back() {
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
            for first in [None, Some(Target::Pxe), Some(Target::Cd)] {
                let mut over = declared.clone();
                if let Some(first) = first.filter(|_| image == "live") {
                    over = set_to(&over, first, false);
                }
                over = set_to(&over, Target::Cd, true);
                assert_eq!((over.spec.image.to_string().as_str(), over.spec.boot_mode), ("medium", Once));
                assert_eq!(over.spec.boot_config_ref, None);
                assert_eq!(told(&over), ("Once", "Cd"));
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
        assert_eq!(told(&declared), ("Disabled", "None"));
        let cd = set_to(&declared, Target::Cd, false);
        assert_eq!(told(&cd), ("Continuous", "Cd"));
        let pxe = set_to(&cd, Target::Pxe, false);
        assert_eq!((told(&pxe), &pxe.spec.image), (("Continuous", "Pxe"), &declared.spec.image));
        let pxe = set_to(&pxe, Target::Pxe, true);
        assert_eq!((told(&pxe), &pxe.spec), (("Once", "Pxe"), &declared.spec));
        let mut disk = set_to(&pxe, Target::Hdd, true);
        assert_eq!((told(&disk), &disk.spec), (("Once", "Hdd"), &declared.spec));
        disk.status.last_seen_time = Some(Timestamp::from_second(1).unwrap());
        assert_eq!(told(&disk), ("Disabled", "None"));
        assert_eq!(told(&set_to(&disk, Target::Hdd, false)), ("Continuous", "Hdd"));
        let mut over = cd;
        over.spec.image = BootTarget::LocalDisk;
        over.status.phase = Phase::LocalBoot;
        assert_eq!(told(&over), ("Disabled", "None"), "somebody declared something else");
        assert_eq!(ejected(&over).0.spec, over.spec, "which holds");
    }

    #[test]
    fn what_is_not_there_is_not_booted() {
        let declared = host("localboot", BootMode::Once, Phase::LocalBoot);
        assert!(set(&declared, Target::Pxe, true, Timestamp::UNIX_EPOCH).is_err());
        let (empty, _) = ejected(&declared);
        assert!(set(&empty, Target::Cd, true, Timestamp::UNIX_EPOCH).is_err());
        // Nor is a medium what Pxe means, once it was to be booted.
        let over = set_to(&declared, Target::Cd, true);
        assert!(set(&over, Target::Pxe, true, Timestamp::UNIX_EPOCH).is_err());
    }
}
