//! Changes of a host and its phase in one commit.

use std::sync::Arc;

use crate::admission::prepare;
use crate::fleet::boot_override;
use crate::fleet::lifecycle::Transition;
use crate::fleet::{Host, Key, Name, Object};
use crate::store::{Change, Expect, Observation};

use crate::api::objects::status::Status;
use crate::api::objects::write::commit_with_retry;
use crate::api::redfish::error::RedfishError;
use crate::api::state::Shared;

/// Replaces a host by what `update` returns, makes its transition, and writes the images that it refers to, together or
/// not at all.
///
/// # Errors
/// The error of `update`, a refusal by admission, or the store's reason.
pub async fn update_host(
    shared: &Shared,
    key: &Key,
    images: &[Object],
    update: impl Fn(&Host) -> Result<(Host, Option<Transition>), RedfishError>,
) -> Result<(), RedfishError> {
    commit_with_retry(shared, key, |before| {
        let Object::Host(host) = before else { return Err(RedfishError::not_found("such system")) };
        let (mut after, transition) = update(host)?;
        if !references_exist(shared, &after) {
            tracing::warn!(host = %key.name, "cannot restore boot settings: image or config deleted");
            boot_override::left_to_disk(&mut after);
        }
        let (mac, version) = (after.spec.boot_mac_address, before.meta().resource_version);
        let object = prepare::prepare(Object::Host(Arc::new(after)), Some(before), &shared.places)
            .map_err(|wrong| Status::invalid(key.kind, key.name.as_str(), &wrong))?;
        let put = Change::Put { object, expect: Expect::Present(Some(version)) };
        let advance = transition.map(|change| Change::Advance {
            mac,
            transition: change,
            observation: Observation::default(),
            event: None,
        });
        // Another host may refer to such an image already.
        let images = images.iter().map(|image| {
            let prepared = prepare::prepare(image.clone(), None, &shared.places);
            let wrong = |wrong| Status::invalid(image.kind(), image.meta().name.as_str(), &wrong);
            Ok(Change::Put { object: prepared.map_err(wrong)?, expect: Expect::Any })
        });
        images.chain([Ok(put)]).chain(advance.map(Ok)).collect::<Result<_, RedfishError>>()
    })
    .await
    .map(drop)
}

/// Returns whether the image and the config of a host's spec exist, and the image lists the config.
fn references_exist(shared: &Shared, host: &Host) -> bool {
    let state = shared.gate.store.load();
    let config = host.spec.boot_config_ref.as_ref();
    let is_listed = |image: &Name| {
        let image = state.image(image);
        image.is_some_and(|image| config.is_none_or(|config| image.spec.boot_configs.contains(config)))
    };
    host.spec.image.image().is_none_or(is_listed) && config.is_none_or(|config| state.boot_config(config).is_some())
}
