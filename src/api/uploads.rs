//! Uploads of ISOs: a body that is the ISO, or a form with the ISO as a file in it.

use crate::images::partial_upload;
use std::path::Path;
use std::sync::Arc;

use bytes::Bytes;
use http_body_util::BodyExt;
use hyper::body::{Body as _, Incoming};
use hyper::header::CONTENT_TYPE;
use hyper::{Request, StatusCode};
use serde_json::json;

use crate::admission::prepare;
use crate::fleet::{Image, ImageSpec, ImageStatus, Key, Kind, Meta, Name, Object, is_sha256};
use crate::store::{Change, Expect};

use crate::api::objects::handlers;
use crate::api::objects::redaction::View;
use crate::api::objects::status::Status;
use crate::api::state::Shared;
use crate::http::multipart::{FormEvent, FormParser};
use crate::http::reply::{Reply, json};
use crate::images::partial_upload::{Draft, ISO_BYTES, STALL};

pub use crate::images::partial_upload::sweep;

/// Bounds a field of a form beside the file.
const FIELD_BYTES: usize = 64 * 1024;

/// Is what an upload says of its ISO, in the query or in fields of its form.
#[derive(Debug, Default)]
struct Wish {
    name: Option<Name>,
    description: String,
    boot_configs: Vec<Name>,
    sha256: Option<String>,
    /// Names an upload that may be gone on with, and where it is now.
    resume: Option<String>,
    offset: u64,
    /// Is the whole ISO's length, where it is known before its bytes come.
    length: Option<u64>,
    /// Asks only whether the upload would be taken.
    dry_run: bool,
}

/// Takes an ISO and makes an ISCSICdrom of it. Nothing of it stays where that fails, but what came of an upload
/// that can be gone on with.
pub async fn upload(shared: &Shared, request: Request<Incoming>) -> Result<Reply, Status> {
    let mut wish = Wish::of_query(request.uri().query())?;
    let content_type = request.headers().get(CONTENT_TYPE).and_then(|value| value.to_str().ok()).unwrap_or_default();
    let parser = FormParser::new(content_type);
    if wish.dry_run && request.body().size_hint().exact() != Some(0) {
        let message = "dryRun: bytes are taken or not, and cannot be rehearsed: ask without them whether they would be";
        return Err(Status::bad_request(message));
    }
    if parser.is_none() {
        // Before a long wait for nothing.
        acceptable(shared, &wish)?;
    }
    let isos = shared.places.isos.clone();
    tokio::fs::create_dir_all(&isos).await.map_err(|error| Status::internal(format!("{}: {error}", isos.display())))?;
    let more = match wish.length {
        Some(length) => Some(length.saturating_sub(wish.offset)),
        None => request.body().size_hint().exact(),
    };
    if more.is_some_and(|more| more > ISO_BYTES) {
        return Err(refused(partial_upload::UploadError::TooLarge));
    }
    partial_upload::look(&isos, more.unwrap_or_default()).await.map_err(refused)?;
    if wish.dry_run {
        return Ok(told(wish.offset));
    }
    let made = match &wish.resume {
        Some(key) => Draft::go_on(&isos, key, wish.offset, wish.name.as_ref()).await,
        None => Draft::new(&isos).await,
    };
    let mut draft = made.map_err(refused)?;
    let parts = Parts { body: request.into_body() };
    match parser {
        Some(parser) => form(parts, parser, &mut wish, &mut draft).await?,
        None => whole(parts, &mut draft).await?,
    }
    // All of it came: where it is refused now, nobody goes on with it.
    draft.ends();
    let key = acceptable(shared, &wish)?;
    let (digest, length) = draft.finish().await.map_err(refused)?;
    if wish.sha256.as_ref().is_some_and(|wanted| !wanted.eq_ignore_ascii_case(&digest)) {
        return Err(Status::unfit_field("sha256", &format!("the ISO's SHA-256 is {digest}, not the one given")));
    }
    let file = file_of(&key.name);
    let place = isos.join(&file);
    link(draft.path(), &place).await?;
    drop(draft);
    let mut kept = Placed(Some(&place));
    let failed = |error: std::io::Error| Status::internal(format!("{}: {error}", isos.display()));
    tokio::fs::File::open(&isos).await.map_err(failed)?.sync_all().await.map_err(failed)?;
    // What was found out while the bytes went by is what is known of the file before it is looked at.
    let image = image(&wish, key.name, file, digest, length);
    let object = handlers::put(shared, image.clone(), Some(&image), Expect::Absent, false).await?;
    kept.0 = None;
    Ok(json(StatusCode::CREATED, &View(&object)))
}

/// Says where an upload that broke off goes on.
pub async fn progress(shared: &Shared, key: &str) -> Result<Reply, Status> {
    Ok(told(Draft::length_of(&shared.places.isos, checked(key)?).await))
}

/// Lists the uploads that are under way, or broke off and wait for the rest.
pub async fn list(shared: &Shared) -> Result<Reply, Status> {
    let isos = shared.places.isos.clone();
    let found = tokio::task::spawn_blocking(move || partial_upload::list(&isos)).await;
    let items = found.map_err(|error| Status::internal(error.to_string()))?;
    Ok(json(StatusCode::OK, &json!({"kind": "UploadList", "apiVersion": "v1", "items": items})))
}

/// Takes away what came of an upload that nobody will go on with.
pub async fn give_up(shared: &Shared, key: &str) -> Result<Reply, Status> {
    let gone = Draft::give_up(&shared.places.isos, checked(key)?).await;
    gone.map_err(|error| Status::internal(error.to_string()))?;
    Ok(told(0))
}

fn told(offset: u64) -> Reply {
    json(StatusCode::OK, &json!({"kind": "Upload", "apiVersion": "v1", "offset": offset}))
}

fn checked(key: &str) -> Result<&str, Status> {
    let is_key = (16..=64).contains(&key.len()) && key.bytes().all(|byte| byte.is_ascii_hexdigit());
    is_key.then_some(key).ok_or_else(|| Status::bad_request("an upload is named by 16 to 64 hexadecimal digits"))
}

/// Takes away the file of an image that was uploaded, once nothing names it any more. Who has it open reads on.
pub async fn forget(shared: &Shared, gone: &Object) {
    let Object::Image(image) = gone else { return };
    let (file, name) = (&image.spec.iso_file, &image.metadata.name);
    let path = shared.places.iso(file);
    let Some(mark) = mark(&shared.places.isos, &path) else { return };
    let is_upload = image.status.sha256.is_some() && *file == format!("{name}.iso");
    let named = shared.gate.store.load().images().any(|other| shared.places.iso(&other.spec.iso_file) == path);
    let done = match (is_upload || mark.exists(), named) {
        (false, _) => return,
        // The last who names it may be one that did not bring it.
        (true, true) => tokio::fs::write(&mark, b"").await,
        (true, false) => tokio::fs::remove_file(&path).await,
    };
    if let Err(error) = done {
        tracing::warn!(file, %error, "an uploaded ISO could not be removed");
    } else if !named {
        let _ = tokio::fs::remove_file(&mark).await;
    }
}

/// Gives the file that marks another as an upload's, once the image that it came for is gone; nothing for files
/// that no upload can have brought.
fn mark(isos: &Path, file: &Path) -> Option<std::path::PathBuf> {
    let name = file.strip_prefix(isos).ok()?.to_str().filter(|name| !name.contains('/'))?;
    Some(isos.join(format!(".{name}.uploaded")))
}

impl Wish {
    fn of_query(query: Option<&str>) -> Result<Self, Status> {
        let mut wish = Self::default();
        for (key, value) in form_urlencoded::parse(query.unwrap_or_default().as_bytes()) {
            wish.take(&key, value.into_owned())?;
        }
        Ok(wish)
    }

    fn take(&mut self, field: &str, value: String) -> Result<(), Status> {
        let name = |text: &str| text.trim().parse::<Name>().map_err(|error| Status::bad_request(error.to_string()));
        match field {
            "name" => self.name = Some(name(&value)?),
            "description" => self.description = value,
            "sha256" => self.sha256 = Some(digest(value.trim())?),
            "bootConfig" => self.boot_configs.push(name(&value)?),
            "resume" => self.resume = Some(checked(&value)?.to_owned()),
            "offset" => {
                self.offset = value.parse().map_err(|_| Status::bad_request("offset: a number of bytes"))?;
            }
            "length" => {
                let length = value.parse().map_err(|_| Status::bad_request("length: a number of bytes"))?;
                self.length = Some(length);
            }
            "dryRun" if value == "All" => self.dry_run = true,
            "dryRun" => return Err(Status::bad_request(format!("dryRun: {value:?} is not known: All is"))),
            _ => {}
        }
        Ok(())
    }
}

fn digest(text: &str) -> Result<String, Status> {
    let message = || Status::bad_request(format!("sha256: {text:?} is none: say its 64 hexadecimal digits"));
    is_sha256(text).then(|| text.to_owned()).ok_or_else(message)
}

/// Gives the key of the object to be, once all that is known of it is found to be well.
fn acceptable(shared: &Shared, wish: &Wish) -> Result<Key, Status> {
    let name =
        wish.name.clone().ok_or_else(|| Status::bad_request("name the ISO: ?name=NAME, or a field of the form"))?;
    let key = Key { kind: Kind::IscsiCdrom, namespace: None, name };
    let invalid = |wrong| Status::invalid(key.kind, key.name.as_str(), &wrong);
    prepare::check_image_name(&key.name, &shared.places.site).map_err(invalid)?;
    let object = image(wish, key.name.clone(), file_of(&key.name), String::new(), 0);
    let would = shared.gate.store.dry_run(Change::Put { object, expect: Expect::Absent });
    would.map_err(|error| Status::of_store(&error, &key))?;
    let place = shared.places.isos.join(file_of(&key.name));
    match place.symlink_metadata() {
        Ok(_) => Err(taken(&place)),
        Err(_) => Ok(key),
    }
}

fn file_of(name: &Name) -> String {
    format!("{name}.iso")
}

/// Is a body that comes in parts, and must not stand still.
struct Parts {
    body: Incoming,
}

impl Parts {
    async fn next(&mut self) -> Result<Option<Bytes>, Status> {
        loop {
            let frame = tokio::time::timeout(STALL, self.body.frame()).await;
            let Some(frame) = frame.map_err(|_| Status::timeout("the upload stood still"))? else { return Ok(None) };
            let frame = frame.map_err(|error| Status::bad_request(format!("the upload broke off: {error}")))?;
            if let Ok(data) = frame.into_data() {
                return Ok(Some(data));
            }
        }
    }
}

async fn whole(mut parts: Parts, draft: &mut Draft) -> Result<(), Status> {
    while let Some(data) = parts.next().await? {
        draft.write(&data).await.map_err(refused)?;
    }
    Ok(())
}

/// Is the part of a form that is being read.
enum Reading {
    Nothing,
    File,
    Field(String, Vec<u8>),
}

/// Reads a form: fields that say something of the ISO, in any order, and one file.
async fn form(mut parts: Parts, mut parser: FormParser, wish: &mut Wish, draft: &mut Draft) -> Result<(), Status> {
    let (mut reading, mut files) = (Reading::Nothing, 0);
    loop {
        let Some(event) = parser.next_event().map_err(|error| Status::bad_request(format!("the form: {error}")))?
        else {
            let data = parts.next().await?;
            parser.push(&data.ok_or_else(|| Status::bad_request("the upload broke off: the form does not end"))?);
            continue;
        };
        if let FormEvent::Data(data) = &event {
            match &mut reading {
                Reading::Nothing => {}
                Reading::File => draft.write(data).await.map_err(refused)?,
                Reading::Field(name, value) if value.len() + data.len() > FIELD_BYTES => {
                    return Err(Status::bad_request(format!("the field {name} is longer than {FIELD_BYTES} bytes")));
                }
                Reading::Field(_, value) => value.extend_from_slice(data),
            }
            continue;
        }
        if let Reading::Field(name, value) = std::mem::replace(&mut reading, Reading::Nothing) {
            wish.take(&name, String::from_utf8_lossy(&value).into_owned())?;
        }
        match event {
            FormEvent::Part { is_file: true, .. } => {
                files += 1;
                reading = Reading::File;
            }
            FormEvent::Part { name, .. } => reading = Reading::Field(name, Vec::new()),
            FormEvent::Data(_) => {}
            FormEvent::End if files == 1 => return Ok(()),
            FormEvent::End => {
                return Err(Status::bad_request(format!("the form has {files} files: send the ISO as one")));
            }
        }
        if files > 1 {
            return Err(Status::bad_request("the form has more than one file: send the ISO as one"));
        }
    }
}

async fn link(draft: &Path, place: &Path) -> Result<(), Status> {
    // A link fails where the file exists: another upload, or a file that somebody put there.
    tokio::fs::hard_link(draft, place).await.map_err(|error| match error.kind() {
        std::io::ErrorKind::AlreadyExists => taken(place),
        _ => Status::internal(format!("{}: {error}", place.display())),
    })
}

fn taken(place: &Path) -> Status {
    let words = "is there already, and no upload's: name it in an ISCSICdrom's isoFile";
    Status::unfit_field("name", &format!("{} {words}", place.display()))
}

/// Is a file in its place that goes where its object cannot be made.
struct Placed<'a>(Option<&'a Path>);

impl Drop for Placed<'_> {
    fn drop(&mut self) {
        if let Some(path) = self.0
            && let Err(error) = std::fs::remove_file(path)
        {
            tracing::warn!(path = %path.display(), %error, "an upload's file could not be removed");
        }
    }
}

fn image(wish: &Wish, name: Name, iso_file: String, digest: String, length: u64) -> Object {
    let spec = ImageSpec {
        description: wish.description.clone(),
        boot_configs: wish.boot_configs.clone(),
        ..ImageSpec::of_file(iso_file)
    };
    let status = ImageStatus { sha256: Some(digest), size_bytes: Some(length), ..ImageStatus::default() };
    Object::Image(Arc::new(Image { metadata: Meta::named(name, None), spec, status }))
}

fn refused(error: partial_upload::UploadError) -> Status {
    match error {
        partial_upload::UploadError::File { ref source, .. } if source.kind() == std::io::ErrorKind::StorageFull => {
            Status::no_room(error.to_string())
        }
        partial_upload::UploadError::NoRoom { .. } => Status::no_room(error.to_string()),
        partial_upload::UploadError::File { .. } => Status::internal(format!("the ISO could not be written: {error}")),
        partial_upload::UploadError::UnderWay | partial_upload::UploadError::Offset { .. } => {
            Status::conflict(error.to_string())
        }
        partial_upload::UploadError::TooLarge => Status::bad_request(error.to_string()),
    }
}
