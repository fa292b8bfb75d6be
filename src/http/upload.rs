use std::path::{Path, PathBuf};
use std::sync::Arc;

use http_body_util::BodyExt;
use hyper::body::Incoming;
use hyper::{Request, StatusCode};
use sha2::{Digest, Sha256};
use tokio::io::AsyncWriteExt;

use crate::fleet::{Image, ImageSpec, ImageStatus, Kind, Meta, Name, Object};
use crate::store::Expect;

use super::reply::{Reply, json};
use super::status::Status;
use super::view::View;
use super::{Shared, objects};

/// Bounds an uploaded ISO: a two-layer Blu-ray disc holds less.
const ISO_BYTES: u64 = 64 * 1024 * 1024 * 1024;
/// Is how long an upload may stand still.
const STALL: std::time::Duration = std::time::Duration::from_secs(60);

/// Is what an upload says of its ISO, in the query.
#[derive(Debug)]
struct Wish {
    name: Name,
    description: String,
    boot_configs: Vec<Name>,
    sha256: Option<String>,
}

/// Takes an ISO and makes an ISCSICdrom of it. Nothing of it stays where that fails.
pub async fn upload(shared: &Shared, request: Request<Incoming>) -> Result<Reply, Status> {
    let wish = wish(request.uri().query())?;
    let key = crate::fleet::Key { kind: Kind::IscsiCdrom, namespace: None, name: wish.name.clone() };
    if objects::find(shared, &key).is_ok() {
        let exists = crate::store::Error::AlreadyExists(key.clone());
        return Err(Status::of_store(&exists, &key));
    }
    let isos = &shared.places.isos;
    let failed = |error: std::io::Error| Status::internal(format!("{}: {error}", isos.display()));
    tokio::fs::create_dir_all(isos).await.map_err(failed)?;
    let mut draft = Draft(Some(isos.join(format!(".{}.{}.part", wish.name, uuid::Uuid::new_v4().simple()))));
    let (digest, length) = receive(request.into_body(), draft.path()).await?;
    if wish.sha256.as_ref().is_some_and(|wanted| !wanted.eq_ignore_ascii_case(&digest)) {
        return Err(Status::unfit(format!("the ISO's SHA-256 is {digest}, not the one given")));
    }
    let file = format!("{}.iso", wish.name);
    let place = isos.join(&file);
    // A link fails where the file exists: another upload, or a file that somebody put there.
    tokio::fs::hard_link(draft.path(), &place).await.map_err(failed)?;
    draft.discard();
    sync_directory(isos).await.map_err(failed)?;
    let mut kept = Draft(Some(place));
    // What was found out while the bytes went by is what is known of the file before it is looked at.
    let image = image(wish, file, digest, length);
    let object = objects::put(shared, image.clone(), Some(&image), Expect::Absent, false).await?;
    kept.0 = None;
    Ok(json(StatusCode::CREATED, &View(&object)))
}

fn wish(query: Option<&str>) -> Result<Wish, Status> {
    let (mut name, mut description, mut boot_configs, mut sha256) = (None, String::new(), Vec::new(), None);
    let bad = |error: crate::fleet::BadName| Status::bad_request(error.to_string());
    for (key, value) in form_urlencoded::parse(query.unwrap_or_default().as_bytes()) {
        match key.as_ref() {
            "name" => name = Some(value.parse().map_err(bad)?),
            "description" => description = value.into_owned(),
            "sha256" => sha256 = Some(value.into_owned()),
            "bootConfig" => boot_configs.push(value.parse().map_err(bad)?),
            _ => {}
        }
    }
    let name = name.ok_or_else(|| Status::bad_request("name the ISO: ?name=NAME"))?;
    Ok(Wish { name, description, boot_configs, sha256 })
}

fn image(wish: Wish, iso_file: String, digest: String, length: u64) -> Object {
    let spec =
        ImageSpec { description: wish.description, boot_configs: wish.boot_configs, ..ImageSpec::of_file(iso_file) };
    let status = ImageStatus { sha256: Some(digest), size_bytes: Some(length), ..ImageStatus::default() };
    Object::Image(Arc::new(Image { metadata: Meta::named(wish.name, None), spec, status }))
}

/// Writes a body to a new file, durably, and gives its SHA-256 and its length in bytes.
async fn receive(mut body: Incoming, path: &Path) -> Result<(String, u64), Status> {
    let failed = |error: std::io::Error| Status::internal(format!("the ISO could not be written: {error}"));
    let mut file = tokio::fs::OpenOptions::new().write(true).create_new(true).open(path).await.map_err(failed)?;
    let (mut digest, mut length) = (Sha256::new(), 0u64);
    loop {
        let frame = tokio::time::timeout(STALL, body.frame()).await;
        let frame = frame.map_err(|_| Status::timeout("the upload stood still"))?;
        let Some(frame) = frame else { break };
        let frame = frame.map_err(|error| Status::bad_request(format!("the upload broke off: {error}")))?;
        let Ok(data) = frame.into_data() else { continue };
        length += data.len() as u64;
        if length > ISO_BYTES {
            return Err(Status::bad_request(format!("the ISO is larger than {ISO_BYTES} bytes")));
        }
        digest.update(&data);
        file.write_all(&data).await.map_err(failed)?;
    }
    file.flush().await.map_err(failed)?;
    file.sync_all().await.map_err(failed)?;
    Ok((digest.finalize().iter().map(|byte| format!("{byte:02x}")).collect(), length))
}

async fn sync_directory(path: &Path) -> std::io::Result<()> {
    tokio::fs::File::open(path).await?.sync_all().await
}

/// Is a file that goes when its upload fails.
struct Draft(Option<PathBuf>);

impl Draft {
    fn path(&self) -> &Path {
        self.0.as_deref().unwrap_or(Path::new(""))
    }

    fn discard(&mut self) {
        if let Some(path) = self.0.take()
            && let Err(error) = std::fs::remove_file(&path)
        {
            tracing::warn!(path = %path.display(), %error, "an upload's file could not be removed");
        }
    }
}

impl Drop for Draft {
    fn drop(&mut self) {
        self.discard();
    }
}
