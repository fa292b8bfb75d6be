//! The versions of templates: which are kept at a change, and which configs and hosts have. Pure.

use jiff::Timestamp;

use crate::fleet::rules::{self, Invalid};
use crate::fleet::{BootConfig, ConfigTemplate, Object};

use super::error::StoreError;
use super::snapshot::Snapshot;

/// Adds a changed spec of a template to its versions, and drops those that are neither new nor pinned.
///
/// # Errors
/// The format changes, or too many versions are pinned.
pub(super) fn keep_versions(
    state: &Snapshot,
    template: &mut ConfigTemplate,
    before: Option<&Object>,
    at: Timestamp,
) -> Result<(), StoreError> {
    let known = match before {
        Some(Object::ConfigTemplate(known)) => Some(known.as_ref()),
        _ => None,
    };
    if let Some(known) = known {
        rules::check_template_change(&known.spec, &template.spec)?;
        if known.spec == template.spec {
            template.status = known.status.clone();
            return Ok(());
        }
    }
    let name = template.metadata.name.clone();
    let references = state.configs_of_template(&name).filter_map(|config| config.spec.template.as_ref());
    let pinned: Vec<u64> = references.flat_map(|reference| reference.pinned()).collect();
    match template.add_version(known, |version| pinned.contains(&version), at) {
        false => Ok(()),
        true => {
            let most = ConfigTemplate::MAX_VERSIONS;
            let message = format!("more than {most} versions would be kept: BootConfigs pin too many of them");
            Err(Invalid { field: "spec".into(), message }.into())
        }
    }
}

/// Checks that the template of a config exists, with its format, and with the versions that it pins.
///
/// # Errors
/// The first of these that is not so.
pub(super) fn check_template_reference(state: &Snapshot, config: &BootConfig) -> Result<(), StoreError> {
    let Some(reference) = &config.spec.template else { return Ok(()) };
    let wrong = |field: &'static str, message: String| Err(Invalid { field: field.into(), message }.into());
    let name = &reference.name;
    let Some(template) = state.template(name) else {
        return wrong("spec.template.name", format!("ConfigTemplate {name} does not exist: add it first"));
    };
    if template.spec.format != config.spec.format {
        let (found, expected) = (config.spec.format, template.spec.format);
        return wrong("spec.format", format!("{found}, but ConfigTemplate {name} renders {expected}"));
    }
    match reference.pinned().find(|version| template.version(Some(*version)).is_none()) {
        None => Ok(()),
        Some(version) => wrong(
            "spec.template.version",
            format!("ConfigTemplate {name} has no version {version}; it has {}", template.version_list()),
        ),
    }
}
