//! What will not work at a host's boot: checked at each change of what it depends on. Pure.

use std::sync::Arc;

use crate::fleet::lifecycle::Completion;
use crate::fleet::machine_uuid;
use crate::fleet::rules::{self, BootReferences, BootWarning};
use crate::fleet::{Host, Key, Kind, Mac, Name};

use super::snapshot::Snapshot;

/// Checks the boot of a host, and writes the result in its status.
pub fn check_boot(state: &Snapshot, host: &mut Host, completion: Completion) {
    let image = host.spec.image.image().and_then(|name| state.image(name));
    let found = image.map(|image| {
        let found = BootReferences {
            image,
            config: host.spec.boot_config_ref.as_ref().and_then(|name| state.boot_config(name)).map(Arc::as_ref),
            reports_completion: reports_completion(state, host),
            same_machine: same_machine(state, host),
            completion,
        };
        rules::boot_warnings(host, &found)
    });
    let (risks, warnings): (Vec<_>, Vec<_>) =
        found.iter().flatten().map(|BootWarning { risk, message }| (*risk, message.clone())).unzip();
    host.status.boot_risks = found.is_some().then_some(risks);
    host.status.warnings = warnings;
}

/// Returns whether the machine reports its completed install by the host's config.
fn reports_completion(state: &Snapshot, host: &Host) -> Option<bool> {
    let config = state.boot_config(host.spec.boot_config_ref.as_ref()?)?;
    match config.spec.template {
        Some(_) => state.template_version(config, host)?.reports_completion,
        None => config.reports_completion(),
    }
}

/// Checks the boots of hosts again after a change of an image, a config or a template. Returns those that change, before and after.
pub(super) fn check_referring(state: &Snapshot, changed: &Key, completion: Completion) -> Vec<(Arc<Host>, Host)> {
    let refers = |host: &Host| match changed.kind {
        Kind::IscsiCdrom => host.spec.image.image() == Some(&changed.name),
        Kind::BootConfig => host.spec.boot_config_ref.as_ref() == Some(&changed.name),
        Kind::ConfigTemplate => {
            let config = host.spec.boot_config_ref.as_ref().and_then(|name| state.boot_config(name));
            config.and_then(|config| config.spec.template.as_ref()).is_some_and(|found| found.name == changed.name)
        }
        Kind::BareMetalHost => false,
    };
    let checked = state.whole_hosts().filter(|host| refers(host)).map(|before| {
        let mut after = Host::clone(before);
        check_boot(state, &mut after, completion);
        (before.clone(), after)
    });
    checked.filter(|(before, after)| after != before.as_ref()).collect()
}

/// Returns the one other host that boots an image and whose firmware claims the same UUID. Several are several machines,
/// whose boards share it.
fn same_machine(state: &Snapshot, host: &Host) -> Option<(Name, Mac)> {
    let (uuid, mac) = (host.status.uuid?, host.spec.boot_mac_address);
    let mut others = state.hosts_by_uuid(uuid).filter(|(other, boots_image)| *boots_image && *other != mac);
    let (other, None) = (others.next().filter(|_| machine_uuid::identifies_machine(uuid))?.0, others.next()) else {
        return None;
    };
    Some((state.host_name(other)?, other))
}
