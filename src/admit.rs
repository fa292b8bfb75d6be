//! What must be found out before an object may be written: the part of rule 5 that needs files or
//! parsing. The API, the command line's uploads and the manifests at start all come through here.

use std::fs::File;
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use crate::boot::Site;
use crate::fleet::rules::Invalid;
use crate::fleet::{BootConfig, Image, ImageStatus, Object};
use crate::provision;

/// Says where the files of objects are.
#[derive(Debug, Clone)]
pub struct Places {
    /// Is the directory that a relative `isoFile` is looked up in: `isos/` of the state directory.
    pub isos: PathBuf,
    pub site: Arc<Site>,
}

impl Places {
    /// Gives the path of an image's file.
    pub fn iso(&self, iso_file: &str) -> PathBuf {
        self.isos.join(iso_file)
    }
}

/// Checks what an object claims about files and formats, and fills in what was found.
///
/// `before` is the object that it replaces, where there is one. Reads files: not for a runtime's thread.
///
/// # Errors
/// The field that is wrong, and what to do about it.
pub fn prepare(object: Object, before: Option<&Object>, places: &Places) -> Result<Object, Invalid> {
    match object {
        Object::Host(_) => Ok(object),
        Object::Image(mut image) => {
            let known = match before {
                Some(Object::Image(before)) => Some(before.as_ref()),
                _ => None,
            };
            let status = examine(&image, known, places)?;
            Arc::make_mut(&mut image).status = status;
            Ok(Object::Image(image))
        }
        Object::BootConfig(mut config) => {
            check_config(&config)?;
            Arc::make_mut(&mut config).status.clear();
            Ok(Object::BootConfig(config))
        }
    }
}

fn check_config(config: &BootConfig) -> Result<(), Invalid> {
    provision::check(&config.spec).map_err(|fault| Invalid { field: fault.field.into(), message: fault.message })
}

fn examine(image: &Image, before: Option<&Image>, places: &Places) -> Result<ImageStatus, Invalid> {
    let spec = &image.spec;
    if let Some(portal) = &spec.portal {
        return Ok(ImageStatus {
            phase: "Ready".into(),
            target_iqn: portal.target_iqn.clone(),
            portal_ip: Some(portal.address),
            portal_port: Some(portal.port),
            ..ImageStatus::default()
        });
    }
    let iso = look_at(&places.iso(&spec.iso_file))?;
    let same =
        before.filter(|before| before.spec.iso_file == spec.iso_file && before.status.size_bytes == Some(iso.size));
    Ok(ImageStatus {
        phase: "Ready".into(),
        message: String::new(),
        target_iqn: places.site.target_iqn(&image.metadata.name),
        portal_ip: Some(places.site.iscsi.ip()),
        portal_port: Some(places.site.iscsi.port()),
        size_bytes: Some(iso.size),
        sha256: same.and_then(|before| before.status.sha256.clone()),
        volume_id: Some(iso.volume_id),
        boots: None,
    })
}

/// Is what was read of an ISO.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Iso {
    size: u64,
    volume_id: String,
}

/// Reads enough of a file to know that it is an ISO 9660 image (ECMA-119, 8.4).
fn look_at(path: &Path) -> Result<Iso, Invalid> {
    let wrong =
        |message: String| Invalid { field: "spec.isoFile".into(), message: format!("{}: {message}", path.display()) };
    let metadata = path.metadata().map_err(|error| match error.kind() {
        std::io::ErrorKind::NotFound => {
            wrong("there is no such file: add it with `bootlatch iso add`, or copy it there first".into())
        }
        _ => wrong(error.to_string()),
    })?;
    if !metadata.is_file() {
        return Err(wrong("it is not a regular file".into()));
    }
    let file = File::open(path).map_err(|error| wrong(error.to_string()))?;
    let mut descriptor = [0; 2048];
    let read = file.read_exact_at(&mut descriptor, 16 * 2048);
    if read.is_err() || descriptor[..6] != *b"\x01CD001" {
        return Err(wrong("it is not an ISO 9660 image: there is no primary volume descriptor at 32 KiB".into()));
    }
    let volume_id = String::from_utf8_lossy(&descriptor[40..72]);
    Ok(Iso { size: metadata.len(), volume_id: volume_id.trim_end_matches([' ', '\0']).to_owned() })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_iso_is_known_by_its_volume_descriptor() {
        let place = tempfile::tempdir().unwrap();
        let check = |name: &str, bytes: Option<Vec<u8>>| {
            let path = place.path().join(name);
            if let Some(bytes) = bytes {
                std::fs::write(&path, bytes).unwrap();
            }
            look_at(&path).map_err(|wrong| wrong.message)
        };
        let mut iso = vec![0; 40_000];
        iso[32_768..32_774].copy_from_slice(b"\x01CD001");
        iso[32_808..32_840].copy_from_slice(b"LIVE                            ");
        assert_eq!(check("good.iso", Some(iso)), Ok(Iso { size: 40_000, volume_id: "LIVE".into() }));
        assert!(check("short.iso", Some(vec![0; 100])).unwrap_err().contains("not an ISO 9660 image"));
        assert!(check("zero.iso", Some(vec![0; 40_000])).unwrap_err().contains("not an ISO 9660 image"));
        assert!(check("gone.iso", None).unwrap_err().contains("no such file"));
        std::fs::create_dir(place.path().join("dir.iso")).unwrap();
        assert!(check("dir.iso", None).unwrap_err().contains("regular file"));
    }
}
