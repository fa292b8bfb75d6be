//! Admission of objects: the checks that need files or a parser. Every write passes them: the API's, an upload's and a
//! manifest's.

use std::fs::Metadata;
use std::io::{self, Read};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use arc_swap::ArcSwap;
use jiff::Timestamp;
use sha2::{Digest, Sha256};

use crate::admission::secrets;
use crate::boot::Site;
use crate::fleet::rules::{self, Invalid};
use crate::fleet::text::printable;
use crate::fleet::{
    BootConfig, Image, ImageSpec, ImageStatus, KernelFiles, KernelSize, Meta, Method, Name, Object, Secret,
};
use crate::iso::{self, Examined, ImageFile, Iso, file};
use crate::provision::{self, FieldError};

/// The places of the files of objects.
#[derive(Debug, Clone)]
pub struct Places {
    /// Directory of relative `isoFile` paths: `isos/` of the state directory.
    pub isos: PathBuf,
    /// The configuration as it is now.
    pub site: Arc<ArcSwap<Site>>,
}

impl Places {
    /// Returns the path of an image's file.
    pub fn iso(&self, iso_file: &str) -> PathBuf {
        self.isos.join(iso_file)
    }
}

/// Checks an object, and fills its status with what its files say. `before` is the object that it replaces.
///
/// Reads files of images and configs: call it off the runtime's threads.
///
/// # Errors
/// The field that is wrong, and what is expected.
pub fn prepare(object: Object, before: Option<&Object>, places: &Places) -> Result<Object, Invalid> {
    secrets::check(&object, before)?;
    match object {
        Object::Host(mut host) => {
            if let Some(ip) = host.spec.ip.filter(|ip| places.site.load().ours.contains(ip)) {
                let message = format!("{ip} is an address of this server");
                return Err(Invalid { field: "spec.ip".into(), message });
            }
            if let Some(message) = host.spec.ip.and_then(|ip| places.site.load().rejection_reason(ip)) {
                return Err(Invalid { field: "spec.ip".into(), message });
            }
            if host.metadata.annotations.get(LAST_APPLIED).is_some() {
                redact_last_applied(&mut Arc::make_mut(&mut host).metadata);
            }
            Ok(Object::Host(host))
        }
        Object::Image(mut image) => {
            let known = match before {
                Some(Object::Image(before)) => Some(before.as_ref()),
                _ => None,
            };
            check_image_name(&image.metadata.name, &places.site.load())?;
            let status = examine(&image, known, places)?;
            let image_now = Arc::make_mut(&mut image);
            redact_last_applied(&mut image_now.metadata);
            image_now.status = status;
            Ok(Object::Image(image))
        }
        Object::BootConfig(mut config) => {
            check_confidential(&config, before)?;
            if config.spec.confidential {
                redact_last_applied_files(&mut config);
            }
            if config.spec.template.is_some() {
                rules::check_template_reference(&config.spec)?;
                Arc::make_mut(&mut config).status.clear();
                return Ok(Object::BootConfig(config));
            }
            let notes = check_config(&config)?;
            let status = &mut Arc::make_mut(&mut config).status;
            status.clear();
            if !notes.is_empty() {
                status.insert("warnings".into(), notes.into());
            }
            let reports = provision::reports_completion(&config.spec);
            let status = &mut Arc::make_mut(&mut config).status;
            status.extend(reports.map(|reports| (BootConfig::REPORTS_COMPLETION.to_owned(), reports.into())));
            Ok(Object::BootConfig(config))
        }
        Object::ConfigTemplate(mut template) => {
            rules::check_template(&template.spec)?;
            provision::check_template(&template.spec).map_err(|wrong| refuse_files(&wrong, false))?;
            Arc::make_mut(&mut template).status = provision::template_status(&template.spec);
            Ok(Object::ConfigTemplate(template))
        }
    }
}

/// Names that no ISO can have: `upload` is a route, and the others have a meaning in a host's `spec.image`.
const RESERVED: [(&str, &str); 3] = [
    ("upload", "is the route of uploads"),
    ("localboot", "means the host's own disk"),
    ("menu", "means the boot menu"),
];

/// Checks the name of an image; the name of its iSCSI target contains it.
///
/// # Errors
/// A reserved name, or one that makes the target's name too long.
pub fn check_image_name(name: &Name, site: &Site) -> Result<(), Invalid> {
    let wrong = |message| Err(Invalid { field: "metadata.name".into(), message });
    if let Some((name, why)) = RESERVED.iter().find(|(reserved, _)| *reserved == name.as_str()) {
        return wrong(format!("{name} is reserved: it {why}"));
    }
    let target = site.target_iqn(name).len();
    if target > rules::MAX_ISCSI_NAME_LENGTH {
        let most = rules::MAX_ISCSI_NAME_LENGTH.saturating_sub(target - name.as_str().len());
        return wrong(format!(
            "too long: the name of its iSCSI target would have {target} octets instead of at most {}; use {most} at most",
            rules::MAX_ISCSI_NAME_LENGTH
        ));
    }
    Ok(())
}

/// Annotation in which kubectl keeps the manifest that it applied last, secrets included.
const LAST_APPLIED: &str = "kubectl.kubernetes.io/last-applied-configuration";

/// Redacts the secrets in the copy of the manifest that kubectl keeps in an annotation, which every viewer can read.
fn redact_last_applied(meta: &mut Meta) {
    let Some(text) = meta.annotations.get(LAST_APPLIED) else { return };
    let Ok(mut manifest) = serde_json::from_str::<serde_json::Value>(text) else { return };
    let before = manifest.clone();
    for place in Secret::PLACES {
        if let Some(secret) = manifest.pointer_mut(place) {
            *secret = Secret::REDACTED.into();
        }
    }
    if manifest == before {
        return;
    }
    meta.annotations.insert(LAST_APPLIED.into(), format!("{manifest}\n"));
}

/// Redacts the files of a confidential config in kubectl's copy of the manifest.
fn redact_last_applied_files(config: &mut Arc<BootConfig>) {
    let Some(text) = config.metadata.annotations.get(LAST_APPLIED) else { return };
    let Ok(mut manifest) = serde_json::from_str::<serde_json::Value>(text) else { return };
    for place in ["/spec/data", "/spec/binaryData"] {
        let files = manifest.pointer_mut(place).and_then(serde_json::Value::as_object_mut);
        for text in files.into_iter().flat_map(|files| files.values_mut()) {
            *text = Secret::REDACTED.into();
        }
    }
    Arc::make_mut(config).metadata.annotations.insert(LAST_APPLIED.into(), format!("{manifest}\n"));
}

/// Checks that a confidential config stays confidential. Otherwise a writer could read files that no reader may see.
fn check_confidential(config: &BootConfig, before: Option<&Object>) -> Result<(), Invalid> {
    let was = matches!(before, Some(Object::BootConfig(before)) if before.spec.confidential);
    if was && !config.spec.confidential {
        let message =
            "a confidential config must stay confidential: set it to true, or delete the config and create it again";
        return Err(Invalid { field: "spec.confidential".into(), message: message.into() });
    }
    let text = config.spec.data.iter().find(|(_, text)| *text == Secret::REDACTED);
    let binary = config.spec.binary_data.iter().find(|(_, file)| file.is_redacted());
    let found = text.map(|(name, _)| format!("spec.data.{name}"));
    match found.or_else(|| binary.map(|(name, _)| format!("spec.binaryData.{name}"))) {
        Some(field) => {
            let message = "REDACTED is shown in place of a confidential file: write the file's content";
            Err(Invalid { field: field.into(), message: message.into() })
        }
        None => Ok(()),
    }
}

fn check_config(config: &BootConfig) -> Result<Vec<String>, Invalid> {
    provision::check(&config.spec).map_err(|faults| refuse_files(&faults, config.spec.confidential))
}

/// Returns the refusal of an object for what is wrong in its files.
fn refuse_files(faults: &[FieldError], is_confidential: bool) -> Invalid {
    let first = faults.first().map_or("spec.data", |fault| &fault.field);
    let is_one_file = faults.iter().all(|fault| fault.field == first);
    let field = if is_one_file { first.to_owned() } else { "spec.data".to_owned() };
    let line = |fault: &FieldError| match fault.file() {
        Some(file) if !is_one_file => format!("{file}: {}", fault.message),
        _ => fault.message.clone(),
    };
    let message = match is_confidential {
        true => "invalid file for this format (details withheld: the config is confidential)".to_owned(),
        false => faults.iter().map(line).collect::<Vec<_>>().join("\n"),
    };
    Invalid { field: field.into(), message }
}

/// Time without a write after which a file counts as complete.
const SETTLE_INTERVAL: Duration = Duration::from_secs(3);

/// Returns an image's new status if its file has changed; `None` if the status still holds.
///
/// Reads a file that changed: call it off the runtime's threads.
pub fn reexamine(image: &Image, places: &Places, now: SystemTime) -> Option<ImageStatus> {
    if !image.spec.is_local() {
        return None;
    }
    let was = &image.status;
    let broken = |message: String| ImageStatus { phase: ImageStatus::BROKEN.into(), message, ..was.clone() };
    let path = places.iso(&image.spec.iso_file);
    let found = stamp(&path);
    // A version that did not count kernel lines read menus in another way.
    if was.phase == ImageStatus::READY
        && was.kernel_lines.is_some()
        && (was.kernel.is_none() || was.kernel_size.is_some())
        && found.is_some()
        && found == was.size_bytes.map(|size| (size, was.file_modification_time))
    {
        return None;
    }
    let written = found.and_then(|(_, modified)| modified).map(SystemTime::from);
    let is_written = written.and_then(|at| now.duration_since(at).ok()).is_some_and(|age| age < SETTLE_INTERVAL);
    let status = match is_written {
        true => broken(format!("{}: the file is being written", path.display())),
        false => examine(image, Some(image), places).unwrap_or_else(|wrong| broken(wrong.message)),
    };
    (status != *was).then_some(status)
}

fn examine(image: &Image, before: Option<&Image>, places: &Places) -> Result<ImageStatus, Invalid> {
    let spec = &image.spec;
    if let Some(portal) = &spec.portal {
        return Ok(ImageStatus {
            phase: ImageStatus::READY.into(),
            target_iqn: portal.target_iqn.clone(),
            portal_ip: Some(portal.address),
            portal_port: Some(portal.port),
            ..ImageStatus::default()
        });
    }
    if spec.method == Method::Chain || spec.is_at_url() {
        return Ok(ImageStatus { phase: ImageStatus::READY.into(), ..ImageStatus::default() });
    }
    rules::check_place(spec)?;
    let path = places.iso(&spec.iso_file);
    let (iso, kernel_size, modified) = open_and_examine(&path)?;
    let known = before.filter(|before| before.spec.iso_file == spec.iso_file).map(|before| &before.status);
    let same = |known: &ImageStatus| known.size_bytes.is_some() && known.matches_file(iso.length, modified);
    // The digest of an upload is kept; a file that replaced it is hashed again.
    let sha256 = match known.and_then(|known| Some((known, known.sha256.as_ref()?))) {
        Some((known, digest)) if same(known) => Some(digest.clone()),
        Some(_) => Some(digest(&path).map_err(|error| wrong_file(&path, error))?),
        None => None,
    };
    if stamp(&path) != Some((iso.length, modified)) {
        return Err(wrong_file(&path, "the file is being written: try again when it is complete"));
    }
    let warnings = iso.warnings().into_iter().chain(method_warning(spec, &iso));
    let site = places.site.load();
    Ok(ImageStatus {
        phase: ImageStatus::READY.into(),
        message: String::new(),
        warnings: warnings.map(|warning| printable(&warning).into_owned()).collect(),
        target_iqn: site.target_iqn(&image.metadata.name),
        portal_ip: Some(site.iscsi.ip()),
        portal_port: Some(site.iscsi.port()),
        size_bytes: Some(iso.length),
        sha256,
        file_modification_time: modified,
        boots: Some(iso.firmwares()),
        uefi_programs: iso.uefi_programs.clone(),
        distribution: iso.distribution.name.clone(),
        family: iso.distribution.family.to_string(),
        kernel: iso.kernel().map(|entry| KernelFiles {
            kernel: entry.kernel.clone(),
            initrds: entry.initrds.clone(),
            arguments: entry.arguments.clone(),
        }),
        kernel_size,
        kernel_lines: Some(iso.kernel_lines()),
        volume_id: Some(iso.volume_id),
    })
}

/// Returns a warning about a boot method that needs the kernel of an ISO in which none was found.
fn method_warning(spec: &ImageSpec, iso: &Examined) -> Option<String> {
    let effect = match spec.method {
        Method::Sanhook => "machines boot the ISO's own loader, as with method sanboot",
        Method::Kernel => "machines have nothing to boot; use method sanboot",
        Method::Sanboot | Method::Http | Method::Chain => return None,
    };
    iso.kernel().is_none().then(|| format!("spec.method: no kernel of the ISO can be loaded: {effect}"))
}

/// Checks that the file system of a path answers in `file::ANSWER_TIMEOUT`. Whether the file exists is no matter.
///
/// # Errors
/// `TimedOut` where it does not.
pub async fn answers(path: PathBuf) -> io::Result<()> {
    match tokio::time::timeout(file::ANSWER_TIMEOUT, tokio::task::spawn_blocking(move || file::stat(&path))).await {
        Err(_) => Err(file::no_answer()),
        Ok(Ok(Err(error))) if error.kind() == io::ErrorKind::TimedOut => Err(error),
        Ok(_) => Ok(()),
    }
}

/// Returns a file's size in bytes and modification time; `None` if it does not exist.
pub fn stamp(path: &Path) -> Option<(u64, Option<Timestamp>)> {
    let metadata = file::stat(path).ok()?;
    Some((metadata.len(), modified(&metadata)))
}

fn modified(metadata: &Metadata) -> Option<Timestamp> {
    metadata.modified().ok().and_then(|at| Timestamp::try_from(at).ok())
}

fn digest(path: &Path) -> io::Result<String> {
    let (mut file, mut digest, mut part) = (file::open(path)?, Sha256::new(), vec![0; 1 << 20]);
    loop {
        match file.read(&mut part)? {
            0 => return Ok(hex::encode(digest.finalize())),
            count => digest.update(&part[..count]),
        }
    }
}

fn wrong_file(path: &Path, message: impl std::fmt::Display) -> Invalid {
    Invalid { field: "spec.isoFile".into(), message: printable(&format!("{}: {message}", path.display())).into_owned() }
}

/// Opens and examines an ISO file; returns the result with the file's modification time.
fn open_and_examine(path: &Path) -> Result<(Examined, Option<KernelSize>, Option<Timestamp>), Invalid> {
    let wrong = |message: String| wrong_file(path, message);
    let file = file::open(path).map_err(|error| match error.kind() {
        io::ErrorKind::NotFound => {
            wrong("no such file: add it with `bootlatch iso add`, or copy it there first".into())
        }
        _ => wrong(error.to_string()),
    })?;
    let modified = file.metadata().map(|metadata| modified(&metadata)).map_err(|error| wrong(error.to_string()))?;
    let image = ImageFile::new(file).map_err(|error| wrong(error.to_string()))?;
    let examined = iso::examine(&image);
    let examined = examined.map_err(|fault| wrong(format!("not an ISO 9660 image that can be served: {fault}")))?;
    let size = kernel_size(&image, &examined);
    Ok((examined, size, modified))
}

/// Returns the size of the kernel of an ISO and of its initrds; `None` if one of the files is not found.
fn kernel_size(image: &ImageFile, examined: &Examined) -> Option<KernelSize> {
    let (entry, iso) = (examined.kernel()?, Iso::open(image).ok()?);
    let size = |path: &String| -> Option<u64> {
        let extents = iso.find(path).ok()??.extents;
        Some(extents.iter().map(|extent| extent.length).sum())
    };
    let initrds: Option<u64> = entry.initrds.iter().map(size).sum();
    Some(KernelSize { kernel_bytes: size(&entry.kernel)?, initrd_bytes: initrds? })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_file_that_is_not_an_iso_is_refused() {
        let place = tempfile::tempdir().unwrap();
        let check = |name: &str, bytes: Option<Vec<u8>>| {
            let path = place.path().join(name);
            if let Some(bytes) = bytes {
                std::fs::write(&path, bytes).unwrap();
            }
            open_and_examine(&path).map(drop).map_err(|wrong| wrong.message)
        };
        assert!(check("short.iso", Some(vec![0; 100])).unwrap_err().contains("not an ISO 9660 image"));
        assert!(check("zero.iso", Some(vec![0; 40_000])).unwrap_err().contains("not an ISO 9660 image"));
        assert!(check("gone.iso", None).unwrap_err().contains("no such file"));
        std::fs::create_dir(place.path().join("dir.iso")).unwrap();
        assert!(check("dir.iso", None).unwrap_err().contains("regular file"));
    }

    #[test]
    fn a_name_too_long_for_the_iscsi_target_is_refused() {
        let site = crate::boot::site::tests::site("hold");
        let room = rules::MAX_ISCSI_NAME_LENGTH - site.target_iqn(&"a".parse().unwrap()).len() + 1;
        let label = |length: usize| ["a"; 300].concat()[..length].parse::<Name>().unwrap();
        assert_eq!(site.target_iqn(&label(room)).len(), rules::MAX_ISCSI_NAME_LENGTH);
        check_image_name(&label(room), &site).unwrap();
        let wrong = check_image_name(&label(room + 1), &site).unwrap_err();
        assert!(wrong.field == "metadata.name" && wrong.message.contains(&format!("{room} at most")), "{wrong}");
        assert!(check_image_name(&"upload".parse().unwrap(), &site).is_err());
    }

    #[test]
    fn kubectls_copy_of_a_manifest_has_no_secrets() {
        let mut metadata = Meta::named("h".parse().unwrap(), None);
        let copy = r#"{"spec":{"bmc":{"address":"b","password":"hunter2"},"chap":{"secret":"s"},"portal":{"chap":{"targetSecret":"s"}}}}"#;
        metadata.annotations.insert(LAST_APPLIED.into(), copy.into());
        redact_last_applied(&mut metadata);
        let kept: serde_json::Value = serde_json::from_str(&metadata.annotations[LAST_APPLIED]).unwrap();
        let (bmc, secret) = (serde_json::json!({"address": "b", "password": "REDACTED"}), "REDACTED");
        let portal = serde_json::json!({"chap": {"targetSecret": secret}});
        assert_eq!(kept, serde_json::json!({"spec": {"bmc": bmc, "chap": {"secret": secret}, "portal": portal}}));
    }
}
