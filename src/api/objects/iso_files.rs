//! `/api/v1/iscsi-cdroms/NAME/files`: directories and files of an ISO, in mkube's format.

use std::path::PathBuf;

use hyper::StatusCode;
use hyper::header::{CONTENT_TYPE, HeaderMap};
use schemars::JsonSchema;
use serde::Serialize;

use crate::fleet::{Image, Key, Object};
use crate::iso::{self, ImageFile, Iso};

use crate::api::machine::images;
use crate::api::machine::query::Query;
use crate::api::objects::options::boolean;
use crate::api::objects::status::Status;
use crate::api::objects::write::find;
use crate::api::state::Shared;
use crate::http::peer::Peer;
use crate::http::reply::{Reply, TEXT, json};

/// An entry of a directory.
#[derive(Debug, Serialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct ListedFile {
    /// Name of the file or directory.
    name: String,
    /// Size in bytes.
    size: u64,
    /// Whether it is a directory.
    is_dir: bool,
}

/// Answers GET .../files: the entries of the directory `?path=` (the root by default), or the bytes of that file.
///
/// # Errors
/// 404 if the ISO has no such path, 422 if it cannot be read or is stored elsewhere.
pub async fn files(
    shared: &Shared,
    peer: &Peer,
    key: &Key,
    query: Option<&str>,
    headers: &HeaderMap,
    is_head: bool,
) -> Result<Reply, Status> {
    let Object::Image(image) = find(shared, key)? else { return Err(Status::no_route()) };
    let mut path = String::from("/");
    let mut list = false;
    for (name, value) in form_urlencoded::parse(query.unwrap_or_default().as_bytes()) {
        match name.as_ref() {
            "path" if !value.is_empty() => path = value.into_owned(),
            "list" => list = boolean("list", &value)?,
            _ => {}
        }
    }
    if let Some(place) = image.spec.remote_location() {
        return Err(Status::unprocessable(format!("the ISO is not stored here but {place}")));
    }
    let (file, inner) = (shared.places.iso(&image.spec.iso_file), path.clone());
    let found = tokio::task::spawn_blocking(move || directory(file, &inner)).await;
    let found = found.map_err(|error| Status::internal(error.to_string()))?;
    match found.map_err(|message| Status::unprocessable(format!("{}: {message}", image.spec.iso_file)))? {
        Some(entries) => Ok(json(StatusCode::OK, &entries)),
        None if list => Err(not_found(&path)),
        None => content(shared, peer, &image, &path, headers, is_head).await,
    }
}

async fn content(
    shared: &Shared,
    peer: &Peer,
    image: &Image,
    path: &str,
    headers: &HeaderMap,
    is_head: bool,
) -> Result<Reply, Status> {
    let place = format!("{}/{}", image.metadata.name, path.trim_start_matches('/'));
    let mut reply = images::image(shared, peer, &place, &Query::default(), headers, is_head).await;
    if reply.status() == StatusCode::NOT_FOUND {
        return Err(not_found(path));
    }
    reply.headers_mut().insert(CONTENT_TYPE, TEXT);
    Ok(reply)
}

fn not_found(path: &str) -> Status {
    Status::not_found_message(format!("{path:?}: not found in the ISO"))
}

/// Lists a directory of the ISO in a file; `None` if the path is not a directory.
fn directory(file: PathBuf, path: &str) -> Result<Option<Vec<ListedFile>>, String> {
    let file = iso::file::open(&file).and_then(ImageFile::new).map_err(|error| error.to_string())?;
    let iso = Iso::open(&file).map_err(|error| error.to_string())?;
    let entries = iso.list(path).map_err(|error| error.to_string())?;
    let listed = |entry: iso::DirectoryEntry| ListedFile {
        size: entry.length(),
        is_dir: entry.kind == iso::EntryKind::Directory,
        name: entry.name,
    };
    Ok(entries.map(|entries| entries.into_iter().map(listed).collect()))
}
