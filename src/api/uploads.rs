//! Uploads of ISOs: a body that is the ISO, or a form with the ISO as a file.

use std::path::Path;
use std::sync::Arc;

use bytes::Bytes;
use http_body_util::BodyExt;
use hyper::body::{Body as _, Incoming};
use hyper::header::CONTENT_TYPE;
use hyper::{Request, StatusCode};
use schemars::JsonSchema;
use serde::Serialize;

use crate::admission::prepare;
use crate::fleet::{Image, ImageSpec, ImageStatus, Key, Kind, Meta, Name, Object, is_sha256};
use crate::images::partial_upload::{self, MAX_ISO_BYTES, PartialUpload, STALL_TIMEOUT, UploadError};
use crate::images::uploads::{self, PendingUpload, file_name};
use crate::store::{Change, Expect};

use crate::api::objects::field_validation::with_warnings_of;
use crate::api::objects::redaction::View;
use crate::api::objects::status::Status;
use crate::api::objects::write::{self, WriteMode};
use crate::api::state::Shared;
use crate::http::multipart::{FormEvent, FormParser};
use crate::http::reply::{Reply, json};

/// Maximum size in bytes of a form field other than the file.
const MAX_FIELD_BYTES: usize = 64 * 1024;

/// The progress of an upload.
#[derive(Debug, Serialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct Upload {
    kind: &'static str,
    api_version: &'static str,
    /// Number of bytes that arrived.
    offset: u64,
}

/// The uploads that are in progress or can be resumed.
#[derive(Debug, Serialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct UploadList {
    kind: &'static str,
    api_version: &'static str,
    /// The uploads, ordered by key.
    items: Vec<PendingUpload>,
}

/// Parameters of an upload, from the query or from the fields of its form.
#[derive(Debug, Default)]
struct UploadParameters {
    name: Option<Name>,
    description: String,
    boot_configs: Vec<Name>,
    sha256: Option<String>,
    /// Key of a resumable upload.
    resume: Option<String>,
    /// Number of bytes that arrived before, with `resume`.
    offset: u64,
    /// Length of the whole ISO in bytes, if the client sends it.
    length: Option<u64>,
    /// Whether the upload is only checked.
    dry_run: bool,
}

/// Answers POST .../upload: stores an ISO and creates an ISCSICdrom of it. A failed upload leaves nothing, except the
/// bytes of a resumable one.
///
/// # Errors
/// 400 and 422 for wrong parameters, 408 for a stalled body, 409 for a name that is taken, 507 for a full disk.
pub async fn upload(shared: &Shared, request: Request<Incoming>) -> Result<Reply, Status> {
    let mut parameters = UploadParameters::from_query(request.uri().query())?;
    let content_type = request.headers().get(CONTENT_TYPE).and_then(|value| value.to_str().ok()).unwrap_or_default();
    let parser = FormParser::new(content_type);
    let size = request.body().size_hint();
    if parameters.dry_run && size.exact() != Some(0) {
        return Err(Status::bad_request("dryRun: an upload with a dry run must not have a body"));
    }
    if parser.is_none() {
        // Checked before the client sends gigabytes in vain.
        admissible(shared, &parameters)?;
    }
    let isos = shared.places.isos.clone();
    tokio::fs::create_dir_all(&isos).await.map_err(|error| Status::internal(format!("{}: {error}", isos.display())))?;
    let more = match parameters.length {
        Some(length) => Some(length.saturating_sub(parameters.offset)),
        None => size.exact(),
    };
    if more.is_some_and(|more| more > MAX_ISO_BYTES) {
        return Err(refused(UploadError::TooLarge));
    }
    partial_upload::check_space(&isos, more.unwrap_or_default()).await.map_err(refused)?;
    if parameters.dry_run {
        return Ok(progress_reply(parameters.offset));
    }
    let opened = match &parameters.resume {
        Some(key) => PartialUpload::resume(&isos, key, parameters.offset, parameters.name.as_ref()).await,
        None => PartialUpload::new(&isos).await,
    };
    let mut partial = opened.map_err(refused)?;
    let chunks = Chunks { body: request.into_body() };
    match parser {
        Some(parser) => read_form(chunks, parser, &mut parameters, &mut partial).await?,
        None => read_whole(chunks, &mut partial).await?,
    }
    let object = finish(shared, &parameters, partial).await?;
    Ok(with_warnings_of(&object, json(StatusCode::CREATED, &View(&object))))
}

/// Moves a complete upload to its place and creates the ISCSICdrom.
async fn finish(shared: &Shared, parameters: &UploadParameters, mut partial: PartialUpload) -> Result<Object, Status> {
    let isos = &shared.places.isos;
    partial.complete();
    let key = admissible(shared, parameters)?;
    let (digest, length) = partial.finish().await.map_err(refused)?;
    if parameters.sha256.as_ref().is_some_and(|wanted| !wanted.eq_ignore_ascii_case(&digest)) {
        return Err(Status::unprocessable_field("sha256", &format!("the SHA-256 of the ISO is {digest}")));
    }
    let file = file_name(&key.name);
    let path = isos.join(&file);
    let failed = |error: std::io::Error| Status::internal(format!("{}: {error}", isos.display()));
    link(partial.path(), &path).await?;
    let mut guard = UnlinkOnDrop(Some(&path));
    tokio::fs::File::open(isos).await.map_err(failed)?.sync_all().await.map_err(failed)?;
    // Size and digest of the upload are passed as the earlier status, so that the file is not hashed again.
    let image = image(parameters, key.name, file, digest, length);
    let object = write::put(shared, image.clone(), Some(&image), Expect::Absent, WriteMode::default()).await?;
    guard.0 = None;
    // Only now: after a crash before the object existed, the second name shows where the file comes from.
    drop(partial);
    Ok(object)
}

/// Answers GET /api/v1/uploads/KEY: the offset at which an upload resumes.
///
/// # Errors
/// 400 for a wrong key.
pub async fn progress(shared: &Shared, key: &str) -> Result<Reply, Status> {
    Ok(progress_reply(PartialUpload::length_of(&shared.places.isos, checked(key)?).await))
}

/// Answers GET /api/v1/uploads: the uploads that are in progress or can be resumed.
///
/// # Errors
/// 500 if the directory cannot be read.
pub async fn list(shared: &Shared) -> Result<Reply, Status> {
    let isos = shared.places.isos.clone();
    let found = tokio::task::spawn_blocking(move || uploads::list(&isos)).await;
    let items = found.map_err(|error| Status::internal(error.to_string()))?;
    Ok(json(StatusCode::OK, &UploadList { kind: "UploadList", api_version: "v1", items }))
}

/// Answers DELETE /api/v1/uploads/KEY: cancels an upload and removes its bytes.
///
/// # Errors
/// 400 for a wrong key, 500 if the file cannot be removed.
pub async fn cancel(shared: &Shared, key: &str) -> Result<Reply, Status> {
    let cancelled = PartialUpload::cancel(&shared.places.isos, checked(key)?).await;
    cancelled.map_err(|error| Status::internal(error.to_string()))?;
    Ok(progress_reply(0))
}

fn progress_reply(offset: u64) -> Reply {
    json(StatusCode::OK, &Upload { kind: "Upload", api_version: "v1", offset })
}

fn checked(key: &str) -> Result<&str, Status> {
    let is_key = (16..=64).contains(&key.len()) && key.bytes().all(|byte| byte.is_ascii_hexdigit());
    is_key.then_some(key).ok_or_else(|| Status::bad_request("the key of an upload has 16 to 64 hexadecimal digits"))
}

/// The fields of the query, and of a form.
const FIELDS: [&str; 8] = ["name", "description", "sha256", "bootConfig", "resume", "offset", "length", "dryRun"];

impl UploadParameters {
    fn from_query(query: Option<&str>) -> Result<Self, Status> {
        let mut parameters = Self::default();
        for (key, value) in form_urlencoded::parse(query.unwrap_or_default().as_bytes()) {
            parameters.set(&key, value.into_owned())?;
        }
        Ok(parameters)
    }

    fn set(&mut self, field: &str, value: String) -> Result<(), Status> {
        let name =
            |text: &str| text.trim().parse::<Name>().map_err(|error| Status::bad_request(format!("{field}: {error}")));
        let bytes = |text: &str| {
            text.parse().map_err(|_| Status::bad_request(format!("{field}: {text:?} is not a number of bytes")))
        };
        match field {
            "name" => self.name = Some(name(&value)?),
            "description" => self.description = value,
            "sha256" => self.sha256 = Some(digest(value.trim())?),
            "bootConfig" => self.boot_configs.push(name(&value)?),
            "resume" => self.resume = Some(checked(&value)?.to_owned()),
            "offset" => self.offset = bytes(&value)?,
            "length" => self.length = Some(bytes(&value)?),
            "dryRun" if value == "All" => self.dry_run = true,
            "dryRun" => return Err(Status::bad_request(format!("dryRun: {value:?} is not one of All"))),
            // A misspelled `sha256` would leave the upload unchecked.
            _ => {
                let message = format!("{field}: unknown; expected one of {}, or file", FIELDS.join(", "));
                return Err(Status::bad_request(message));
            }
        }
        Ok(())
    }
}

fn digest(text: &str) -> Result<String, Status> {
    let message = || Status::bad_request(format!("sha256: {text:?} is not a SHA-256: expected 64 hexadecimal digits"));
    is_sha256(text).then(|| text.to_owned()).ok_or_else(message)
}

/// Returns the key of the ISCSICdrom that an upload creates, after a check of everything known before the bytes arrive.
fn admissible(shared: &Shared, parameters: &UploadParameters) -> Result<Key, Status> {
    let name = parameters.name.clone();
    let name = name.ok_or_else(|| Status::bad_request("name: missing; give ?name=NAME or a field of the form"))?;
    let key = Key { kind: Kind::IscsiCdrom, namespace: None, name };
    let invalid = |wrong| Status::invalid(key.kind, key.name.as_str(), &wrong);
    prepare::check_image_name(&key.name, &shared.places.site.load()).map_err(invalid)?;
    let object = image(parameters, key.name.clone(), file_name(&key.name), String::new(), 0);
    let result = shared.gate.store.dry_run(Change::Put { object, expect: Expect::Absent });
    result.map_err(|error| Status::of_store(&error, &key))?;
    let path = shared.places.isos.join(file_name(&key.name));
    match path.symlink_metadata() {
        Ok(_) => Err(file_exists(&path)),
        Err(_) => Ok(key),
    }
}

/// The chunks of a body that must not stall.
struct Chunks {
    body: Incoming,
}

impl Chunks {
    async fn next(&mut self) -> Result<Option<Bytes>, Status> {
        loop {
            let frame = tokio::time::timeout(STALL_TIMEOUT, self.body.frame()).await;
            let stalled = |_| Status::timeout(format!("the upload stalled for {} s", STALL_TIMEOUT.as_secs()));
            let Some(frame) = frame.map_err(stalled)? else { return Ok(None) };
            let frame = frame.map_err(|error| Status::bad_request(format!("the upload broke off: {error}")))?;
            if let Ok(data) = frame.into_data() {
                return Ok(Some(data));
            }
        }
    }
}

async fn read_whole(mut chunks: Chunks, partial: &mut PartialUpload) -> Result<(), Status> {
    while let Some(data) = chunks.next().await? {
        partial.write(&data).await.map_err(refused)?;
    }
    Ok(())
}

/// The part of a form that is being read.
enum FormPart {
    None,
    File,
    Field(String, Vec<u8>),
}

/// Reads a form: parameters in any order, and one file.
async fn read_form(
    mut chunks: Chunks,
    mut parser: FormParser,
    parameters: &mut UploadParameters,
    partial: &mut PartialUpload,
) -> Result<(), Status> {
    let (mut part, mut files) = (FormPart::None, 0);
    loop {
        let Some(event) = parser.next_event().map_err(|error| Status::bad_request(format!("the form: {error}")))?
        else {
            let data = chunks.next().await?;
            parser.push(&data.ok_or_else(|| Status::bad_request("the upload broke off: the form has no end"))?);
            continue;
        };
        if let FormEvent::Data(data) = &event {
            match &mut part {
                FormPart::None => {}
                FormPart::File => partial.write(data).await.map_err(refused)?,
                FormPart::Field(name, value) if value.len() + data.len() > MAX_FIELD_BYTES => {
                    return Err(Status::bad_request(format!("{name}: longer than {MAX_FIELD_BYTES} bytes")));
                }
                FormPart::Field(_, value) => value.extend_from_slice(data),
            }
            continue;
        }
        if let FormPart::Field(name, value) = std::mem::replace(&mut part, FormPart::None) {
            parameters.set(&name, String::from_utf8_lossy(&value).into_owned())?;
        }
        match event {
            FormEvent::Part { is_file: true, .. } => {
                files += 1;
                part = FormPart::File;
            }
            FormEvent::Part { name, .. } => part = FormPart::Field(name, Vec::new()),
            FormEvent::Data(_) => {}
            FormEvent::End if files == 1 => return Ok(()),
            FormEvent::End => return Err(Status::bad_request(format!("the form has {files} files: send one ISO"))),
        }
        if files > 1 {
            return Err(Status::bad_request("the form has more than one file: send one ISO"));
        }
    }
}

async fn link(partial: &Path, path: &Path) -> Result<(), Status> {
    // A link fails if the file exists: another upload, or a file that somebody put there.
    tokio::fs::hard_link(partial, path).await.map_err(|error| match error.kind() {
        std::io::ErrorKind::AlreadyExists => file_exists(path),
        _ => Status::internal(format!("{}: {error}", path.display())),
    })
}

fn file_exists(path: &Path) -> Status {
    let message = "exists already, and was not uploaded: name it in spec.isoFile of an ISCSICdrom";
    Status::unprocessable_field("name", &format!("{} {message}", path.display()))
}

/// Removes a file unless its object was created.
struct UnlinkOnDrop<'a>(Option<&'a Path>);

impl Drop for UnlinkOnDrop<'_> {
    fn drop(&mut self) {
        if let Some(path) = self.0
            && let Err(error) = std::fs::remove_file(path)
        {
            tracing::warn!(path = %path.display(), %error, "failed to remove an upload's file");
        }
    }
}

fn image(parameters: &UploadParameters, name: Name, iso_file: String, digest: String, length: u64) -> Object {
    let spec = ImageSpec {
        description: parameters.description.clone(),
        boot_configs: parameters.boot_configs.clone(),
        ..ImageSpec::of_file(iso_file)
    };
    let status = ImageStatus { sha256: Some(digest), size_bytes: Some(length), ..ImageStatus::default() };
    Object::Image(Arc::new(Image { metadata: Meta::named(name, None), spec, status }))
}

fn refused(error: UploadError) -> Status {
    match error {
        UploadError::File { ref source, .. } if source.kind() == std::io::ErrorKind::StorageFull => {
            Status::insufficient_storage(error.to_string())
        }
        UploadError::NoSpace { .. } => Status::insufficient_storage(error.to_string()),
        UploadError::File { .. } => Status::internal(format!("failed to write the ISO: {error}")),
        UploadError::InProgress => Status::conflict(error.to_string()),
        UploadError::Offset { .. } => Status::conflict_field("offset", &error.to_string()),
        UploadError::TooLarge => Status::bad_request(error.to_string()),
    }
}

#[cfg(test)]
pub(super) mod tests {
    use std::collections::BTreeMap;

    use serde_json::Value;

    use super::*;
    use crate::api::fixture::ApiFixture;
    use sha2::Digest;

    const KEY: &str = "0123456789abcdef";
    const UPLOAD: &str = "/api/v1/iscsi-cdroms/upload";

    fn iso() -> Bytes {
        crate::iso::build_seed("h", "i", &BTreeMap::<String, String>::new()).unwrap()
    }

    /// Stores an upload's bytes and creates its image.
    async fn finished(server: &ApiFixture, name: &str, sha256: Option<String>, bytes: &[u8]) -> Result<Object, Status> {
        let parameters = UploadParameters { name: Some(name.parse().unwrap()), sha256, ..UploadParameters::default() };
        let mut partial = PartialUpload::new(&server.shared.places.isos).await.unwrap();
        partial.write(bytes).await.unwrap();
        finish(&server.shared, &parameters, partial).await
    }

    /// Uploads an ISO.
    pub async fn uploaded(server: &ApiFixture, name: &str) -> Object {
        finished(server, name, None, &iso()).await.unwrap()
    }

    fn files(server: &ApiFixture) -> Vec<String> {
        let entries = std::fs::read_dir(&server.shared.places.isos).unwrap();
        entries.map(|entry| entry.unwrap().file_name().into_string().unwrap()).collect()
    }

    #[tokio::test]
    async fn a_complete_upload_becomes_an_image_with_its_digest() {
        let server = ApiFixture::new();
        let Object::Image(image) = uploaded(&server, "live").await else { panic!("an image") };
        assert_eq!(image.status.sha256, Some(hex::encode(sha2::Sha256::digest(iso()))));
        assert_eq!((image.status.size_bytes, image.spec.iso_file.as_str()), (Some(iso().len() as u64), "live.iso"));
        assert_eq!(files(&server), ["live.iso"]);
        let taken = finished(&server, "live", None, &iso()).await.unwrap_err();
        assert_eq!((taken.code, files(&server).len()), (409, 1));
    }

    #[tokio::test]
    async fn a_crash_before_the_image_exists_leaves_an_upload_that_can_be_resumed() {
        let server = ApiFixture::new();
        let isos = &server.shared.places.isos;
        std::fs::write(isos.join(format!(".{KEY}.part")), iso()).unwrap();
        std::fs::hard_link(isos.join(format!(".{KEY}.part")), isos.join("live.iso")).unwrap();
        std::fs::write(isos.join("mine.iso"), iso()).unwrap();
        uploads::recover(&server.shared.gate.store, isos);
        let mut left = files(&server);
        left.sort();
        assert_eq!(left, [format!(".{KEY}.part"), "mine.iso".to_owned()]);
        uploaded(&server, "live").await;
    }

    #[tokio::test]
    async fn a_crash_after_the_image_exists_leaves_the_file_alone() {
        let server = ApiFixture::new();
        uploaded(&server, "live").await;
        let isos = &server.shared.places.isos;
        std::fs::hard_link(isos.join("live.iso"), isos.join(format!(".{KEY}.part"))).unwrap();
        std::fs::write(isos.join(format!(".{KEY}.name")), "live").unwrap();
        uploads::recover(&server.shared.gate.store, isos);
        assert_eq!(files(&server), ["live.iso"]);
    }

    #[tokio::test]
    async fn a_crash_within_a_deletion_removes_the_file_only_if_the_image_is_gone() {
        let server = ApiFixture::new();
        let Object::Image(image) = uploaded(&server, "live").await else { panic!("an image") };
        let (store, isos) = (&server.shared.gate.store, &server.shared.places.isos);
        uploads::mark(isos, &image).await.unwrap();
        uploads::recover(store, isos);
        assert_eq!(files(&server), ["live.iso"], "the image was not deleted");
        uploads::mark(isos, &image).await.unwrap();
        let key = Object::Image(image.clone()).key();
        store.commit(Change::Delete { key, version: None }).await.unwrap();
        uploads::recover(store, isos);
        assert_eq!(files(&server).len(), 0, "the image was deleted");
    }

    #[tokio::test]
    async fn an_upload_with_another_digest_or_no_iso_leaves_nothing() {
        let server = ApiFixture::new();
        let rows = [(Some("0".repeat(64)), iso(), "SHA-256"), (None, Bytes::from_static(b"not an ISO"), "not an ISO")];
        for (sha256, bytes, message) in rows {
            let refused = finished(&server, "live", sha256, &bytes).await.unwrap_err();
            assert!(refused.code == 422 && refused.message().contains(message), "{refused:?}");
            assert_eq!(files(&server), Vec::<String>::new());
        }
    }

    #[tokio::test]
    async fn a_file_that_was_not_uploaded_is_not_replaced() {
        let server = ApiFixture::new();
        server.write("isos/live.iso", b"mine");
        assert_eq!(finished(&server, "live", None, &iso()).await.unwrap_err().code, 422);
        assert_eq!(std::fs::read(server.shared.places.isos.join("live.iso")).unwrap(), b"mine");
    }

    #[tokio::test]
    async fn an_interrupted_upload_is_listed_resumed_and_cancelled() {
        let server = ApiFixture::new();
        let name = "live".parse().unwrap();
        let mut partial = PartialUpload::resume(&server.shared.places.isos, KEY, 0, Some(&name)).await.unwrap();
        partial.write(b"part").await.unwrap();
        // Dropping a resumable upload keeps its bytes, as a broken connection does; the write must reach the file
        // first.
        let _ = partial.finish().await.unwrap();
        drop(partial);
        let get =
            async |path: &str| -> Value { serde_json::from_slice(server.admin("GET", path, "").await.body()).unwrap() };
        let one = format!("/api/v1/uploads/{KEY}");
        assert_eq!(get(&one).await["offset"], 4);
        let listed = get("/api/v1/uploads").await["items"][0].clone();
        assert_eq!((&listed["key"], &listed["name"], &listed["offset"]), (&KEY.into(), &"live".into(), &4.into()));
        let resume = format!("{UPLOAD}?name=live&resume={KEY}&offset=3");
        let refused = server.admin("POST", &resume, "rest").await;
        let cause = serde_json::from_slice::<Value>(refused.body()).unwrap()["details"]["causes"][0]["field"].clone();
        assert_eq!((refused.status().as_u16(), cause), (409, "offset".into()), "clients tell a race by the field");
        assert_eq!(get(&one).await["offset"], 4, "a wrong offset changes nothing");
        assert_eq!(server.admin("DELETE", &one, "").await.status(), 200);
        assert_eq!((get(&one).await["offset"].clone(), files(&server).len()), (0.into(), 0));
    }

    #[tokio::test]
    async fn wrong_parameters_are_refused_before_the_bytes() {
        let server = ApiFixture::new();
        let rows = [
            ("", "x", 400),
            ("name=Wrong_Name", "x", 400),
            ("name=upload", "x", 422),
            ("name=live&sha256=abc", "x", 400),
            ("name=live&offset=x", "x", 400),
            ("name=live&resume=short", "x", 400),
            ("name=live&bootConfig=nothing", "x", 422),
            ("name=live&dryRun=Some", "", 400),
            ("name=live&dryRun=All", "x", 400),
            ("name=live&dryRun=All", "", 200),
        ];
        for (query, body, expected) in rows {
            let reply = server.admin("POST", &format!("{UPLOAD}?{query}"), body).await;
            assert_eq!(reply.status().as_u16(), expected, "{query}");
        }
        assert_eq!(files(&server), Vec::<String>::new());
    }
}
