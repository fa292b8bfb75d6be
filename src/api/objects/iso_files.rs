//! `/api/v1/iscsi-cdroms/NAME/files`: what is in an ISO, in mkube's words.

use std::path::PathBuf;

use hyper::StatusCode;
use hyper::header::{CONTENT_TYPE, HeaderMap};
use serde::Serialize;

use crate::fleet::{Image, Key, Object};
use crate::iso::{self, ImageFile, Iso};

use crate::api::machine::images;
use crate::api::machine::query::Query;
use crate::api::objects::handlers;
use crate::api::objects::status::Status;
use crate::api::state::Shared;
use crate::http::peer::Peer;
use crate::http::reply::{Reply, TEXT, json};

/// Is an entry of a directory.
#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
struct Listed {
    name: String,
    size: u64,
    is_dir: bool,
}

/// Lists the directory that `?path=` names, the root where none is named; gives a file's bytes, where it names one.
pub async fn files(
    shared: &Shared,
    peer: &Peer,
    key: &Key,
    query: Option<&str>,
    headers: &HeaderMap,
    peek: bool,
) -> Result<Reply, Status> {
    let Object::Image(image) = handlers::find(shared, key)? else { return Err(Status::no_route()) };
    let mut path = String::from("/");
    let mut list = false;
    for (name, value) in form_urlencoded::parse(query.unwrap_or_default().as_bytes()) {
        match name.as_ref() {
            "path" if !value.is_empty() => path = value.into_owned(),
            "list" => list = crate::api::objects::options::boolean("list", &value)?,
            _ => {}
        }
    }
    if let Some(place) = image.spec.remote_location() {
        return Err(Status::unfit(format!("the ISO is not here but {place}")));
    }
    let (file, inner) = (shared.places.iso(&image.spec.iso_file), path.clone());
    let found = tokio::task::spawn_blocking(move || directory(file, &inner)).await;
    let found = found.map_err(|error| Status::internal(error.to_string()))?;
    match found.map_err(|message| Status::unfit(format!("{}: {message}", image.spec.iso_file)))? {
        Some(entries) => Ok(json(StatusCode::OK, &entries)),
        None if list => Err(nothing(&path)),
        None => content(shared, peer, &image, &path, headers, peek).await,
    }
}

async fn content(
    shared: &Shared,
    peer: &Peer,
    image: &Image,
    path: &str,
    headers: &HeaderMap,
    peek: bool,
) -> Result<Reply, Status> {
    let place = format!("{}/{}", image.metadata.name, path.trim_start_matches('/'));
    let mut reply = images::image(shared, peer, &place, &Query::default(), headers, peek).await;
    if reply.status() == StatusCode::NOT_FOUND {
        return Err(nothing(path));
    }
    reply.headers_mut().insert(CONTENT_TYPE, TEXT);
    Ok(reply)
}

fn nothing(path: &str) -> Status {
    Status::missing(format!("there is no {path:?} in the ISO"))
}

/// Lists a directory of the ISO in a file; nothing where the path names none.
fn directory(file: PathBuf, path: &str) -> Result<Option<Vec<Listed>>, String> {
    let file = std::fs::File::open(file).and_then(ImageFile::new).map_err(|error| error.to_string())?;
    let iso = Iso::open(&file).map_err(|error| error.to_string())?;
    let entries = iso.list(path).map_err(|error| error.to_string())?;
    let listed = |entry: iso::DirectoryEntry| Listed {
        size: entry.length(),
        is_dir: entry.kind == iso::EntryKind::Directory,
        name: entry.name,
    };
    Ok(entries.map(|entries| entries.into_iter().map(listed).collect()))
}
