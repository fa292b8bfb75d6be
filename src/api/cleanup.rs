//! Removal of the files that belonged to a deleted object alone, before the DELETE is answered.

use crate::fleet::Object;
use crate::images::uploads;

use crate::api::generate;
use crate::api::objects::status::Status;
use crate::api::redfish::virtual_media;
use crate::api::state::Shared;

/// Prepares a deletion, so that a crash right after it leaves no uploaded file behind.
///
/// # Errors
/// 500 if the directory of the ISOs cannot be written.
pub async fn before_delete(shared: &Shared, object: &Object) -> Result<(), Status> {
    match object {
        Object::Image(image) => {
            uploads::mark(&shared.places.isos, image).await.map_err(|error| Status::internal(error.to_string()))
        }
        Object::BootConfig(_) | Object::ConfigTemplate(_) | Object::Host(_) => Ok(()),
    }
}

/// Takes `before_delete` back, since the store refused the deletion.
pub async fn not_deleted(shared: &Shared, object: &Object) {
    match object {
        Object::Image(image) => uploads::unmark(&shared.places.isos, image).await,
        Object::BootConfig(_) | Object::ConfigTemplate(_) | Object::Host(_) => {}
    }
}

/// Removes the uploaded file of a deleted image, the generated files of a deleted config, and the media that only a
/// deleted host had in its virtual drive. A client may create an object of the same name right afterwards.
pub async fn after_delete(shared: &Shared, deleted: &Object) {
    match deleted {
        Object::Image(image) => uploads::remove_file(&shared.gate.store, &shared.places.isos, image).await,
        Object::BootConfig(_) => generate::remove_files(shared, deleted).await,
        Object::ConfigTemplate(_) => {}
        Object::Host(host) => virtual_media::release(shared, virtual_media::images_of(host)).await,
    }
}
