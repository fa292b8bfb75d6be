//! `bootlatch iso`: ISOs and their upload.

use std::sync::PoisonError;

use clap::Subcommand;
use clap_complete::engine::ArgValueCandidates;
use futures_util::TryStreamExt;
use http_body_util::{BodyExt, StreamBody};
use hyper::Method;
use hyper::body::Frame;
use serde_json::{Value, json};

use super::client::{ApiClient, ClientError, is_not_found};
use super::completion;
use super::connection::ConnectionArgs;
use super::get::{SelectionArgs, ViewArgs, show_object, show_objects};
use super::lookup::items;
use super::progress;
use super::reference::Wanted;
use super::show::{ObjectFormat, TextTable};
use super::source::{IsoSource, SharedReadError, SourceChanged};
use crate::fleet::text::binary_size;
use crate::fleet::{Kind, Name, is_sha256};

/// Subcommands of `bootlatch iso`.
#[derive(Debug, Subcommand)]
pub enum IsoCommand {
    /// Upload an ISO. Repeat the command to resume an interrupted upload
    #[command(
        after_help = "Examples:\n  bootlatch iso add fedora Fedora-Server-dvd-x86_64-43-1.6.iso --config fedora-ks\n  \
                            bootlatch iso add debian https://192.0.2.1/debian.iso --sha256 HEX"
    )]
    Add {
        /// Name of the ISO
        name: Name,
        /// File, or URL with http or https
        #[arg(value_name = "FILE|URL")]
        source: IsoSource,
        /// Description for people
        #[arg(long, default_value = "")]
        description: String,
        /// Boot config that hosts may combine with the ISO; can be repeated
        #[arg(long = "config")]
        configs: Vec<Name>,
        /// Expected SHA-256 of the file: 64 hexadecimal digits
        #[arg(long, value_parser = parse_sha256)]
        sha256: Option<String>,
        #[command(flatten)]
        view: ViewArgs,
    },
    /// List the ISOs, as `get isos` does, and the interrupted uploads
    List {
        #[command(flatten)]
        view: ViewArgs,
    },
    /// Show ISOs, as `get iso` does
    Show {
        /// Names of the ISOs
        #[arg(value_name = "ISO", required = true, add = ArgValueCandidates::new(completion::isos))]
        names: Vec<String>,
        #[command(flatten)]
        view: ViewArgs,
    },
    /// Remove an ISO that no object refers to, or an interrupted upload
    Remove {
        /// Name of the ISO
        #[arg(add = ArgValueCandidates::new(completion::isos))]
        name: Name,
    },
}

const PATH: &str = "/api/v1/iscsi-cdroms";
/// Maximum number of attempts if the source changes while it is read, or another client continues the upload.
const MAX_RESTARTS: usize = 3;

/// Runs a `bootlatch iso` command.
///
/// # Errors
/// The server refuses the request, or the source cannot be read.
pub async fn run(verb: IsoCommand, connection_args: &ConnectionArgs) -> anyhow::Result<()> {
    let mut client = ApiClient::connect(connection_args).await?;
    match verb {
        IsoCommand::Add { name, source, description, configs, sha256, view } => {
            let mut query = form_urlencoded::Serializer::new(String::new());
            query.append_pair("name", name.as_str()).append_pair("description", &description);
            query.extend_pairs(configs.iter().map(|config| ("bootConfig", config.as_str())));
            query.extend_pairs(sha256.iter().map(|digest| ("sha256", digest)));
            if client.find(&format!("{PATH}/{name}")).await?.is_some() {
                let message = format!("ISO {name} already exists: remove it first, or use another name");
                return Err(ClientError::Refused { code: 409, message, field: None }.into());
            }
            let iso = add(connection_args, source, &query.finish()).await?;
            // The connection may have been idle for the time of the upload.
            show_object(&mut ApiClient::connect(connection_args).await?, Kind::IscsiCdrom, iso, view).await
        }
        IsoCommand::List { view } => list(&mut client, view).await,
        IsoCommand::Show { names, view } => {
            let selection = SelectionArgs::of_namespace("");
            show_objects(&mut client, &[Wanted { kind: Kind::IscsiCdrom, names }], &selection, view).await
        }
        IsoCommand::Remove { name } => {
            let deleted = client.ask(Method::DELETE, &format!("{PATH}/{name}"), None).await;
            let is_upload = |upload: &Value| upload["name"] == name.as_str();
            let uploads_of_name: Vec<_> = uploads(&mut client).await?.into_iter().filter(is_upload).collect();
            for key in uploads_of_name.iter().filter_map(|upload| upload["key"].as_str()) {
                client.ask(Method::DELETE, &format!("/api/v1/uploads/{key}"), None).await?;
            }
            match deleted {
                Err(error) if uploads_of_name.is_empty() || !is_not_found(&error) => Err(error),
                Err(_) => super::show::print(&format!("removed the interrupted upload of {name}\n")),
                Ok(_) => super::show::print(&format!("removed {name}\n")),
            }
        }
    }
}

/// Parses a SHA-256 digest.
fn parse_sha256(text: &str) -> Result<String, String> {
    is_sha256(text).then(|| text.to_owned()).ok_or_else(|| "expected 64 hexadecimal digits".to_owned())
}

/// Shows the ISOs; tables also have the interrupted uploads.
async fn list(client: &mut ApiClient, view: ViewArgs) -> anyhow::Result<()> {
    let uploads = match view.output {
        ObjectFormat::Table | ObjectFormat::Wide => uploads(client).await?,
        ObjectFormat::Name | ObjectFormat::Yaml | ObjectFormat::Json => Vec::new(),
    };
    if uploads.is_empty() {
        let all = Wanted { kind: Kind::IscsiCdrom, names: Vec::new() };
        return show_objects(client, &[all], &SelectionArgs::of_namespace(""), view).await;
    }
    let mut table = client.table(PATH).await?;
    let columns = table["columnDefinitions"].as_array().cloned().unwrap_or_default();
    if let Some(rows) = table["rows"].as_array_mut() {
        rows.extend(uploads.iter().map(|upload| as_row(upload, &columns)));
    }
    TextTable::of_server(&table, view.output == ObjectFormat::Wide).print()
}

/// Returns the interrupted uploads.
async fn uploads(client: &mut ApiClient) -> anyhow::Result<Vec<Value>> {
    Ok(items(client.ask(Method::GET, "/api/v1/uploads", None).await?))
}

/// Returns an interrupted upload as a row of the server's table of ISOs.
fn as_row(upload: &Value, columns: &[Value]) -> Value {
    let cell = |column: &Value| match column["name"].as_str().unwrap_or_default() {
        "Name" => upload["name"].clone(),
        "Phase" => "Uploading".into(),
        "Size" => binary_size(upload["offset"].as_u64().unwrap_or_default()).into(),
        _ => "<none>".into(),
    };
    json!({"cells": columns.iter().map(cell).collect::<Vec<_>>()})
}

/// Uploads an ISO, and starts again if its source changed.
async fn add(connection_args: &ConnectionArgs, source: IsoSource, query: &str) -> anyhow::Result<Value> {
    let mut attempts = 0;
    loop {
        attempts += 1;
        match send(connection_args, source.clone(), query).await {
            Err(error) if attempts < MAX_RESTARTS && is_race(&error) => {}
            Err(error) if attempts < MAX_RESTARTS && error.is::<SourceChanged>() => {
                eprintln!("{error}; starting again")
            }
            other => return other,
        }
    }
}

/// Returns whether another client continued the upload meanwhile.
fn is_race(error: &anyhow::Error) -> bool {
    matches!(error.downcast_ref(), Some(ClientError::Refused { code: 409, field: Some(field), .. }) if field == "offset")
}

async fn send(connection_args: &ConnectionArgs, source: IsoSource, query: &str) -> anyhow::Result<Value> {
    let mut client = ApiClient::connect(connection_args).await?;
    let file = source.find().await?;
    let mut path = format!("{PATH}/upload?{query}");
    if let Some(total) = file.total {
        path = format!("{path}&length={total}");
    }
    let mut offset = 0;
    if let Some(key) = &file.key {
        let upload = client.ask(Method::GET, &format!("/api/v1/uploads/{key}"), None).await?;
        offset =
            upload["offset"].as_u64().filter(|offset| file.total.is_none_or(|total| *offset <= total)).unwrap_or(0);
        path = format!("{path}&resume={key}&offset={offset}");
    }
    // The server checks everything but the content before the upload.
    client.ask(Method::POST, &format!("{path}&dryRun=All"), None).await?;
    if offset > 0 {
        eprintln!("resuming at byte {offset}");
    }
    let read_error = SharedReadError::default();
    let progress = progress::transfer(offset, file.total);
    let sent_until = progress.clone();
    let parts = file.read(offset, read_error.clone()).await?.map_ok(move |data| {
        progress.inc(data.len() as u64);
        Frame::data(data)
    });
    let body = StreamBody::new(parts).boxed_unsync();
    let sent = client.upload(&path, body, || sent_until.position(), connection_args.timeout).await;
    let read_error = read_error.lock().unwrap_or_else(PoisonError::into_inner).take();
    if let (Some(key), Some(true)) = (&file.key, read_error.as_ref().map(anyhow::Error::is::<SourceChanged>)) {
        let mut client = ApiClient::connect(connection_args).await?;
        client.ask(Method::DELETE, &format!("/api/v1/uploads/{key}"), None).await?;
    }
    sent.map_err(|error| read_error.unwrap_or(error))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_a_wrong_offset_is_a_race() {
        let refused = |code, field: Option<&str>| {
            is_race(&ClientError::Refused { code, message: String::new(), field: field.map(str::to_owned) }.into())
        };
        assert!(refused(409, Some("offset")));
        assert!(!refused(409, None), "another upload is in progress, or the name is taken");
        assert!(!refused(400, Some("offset")));
        assert!(!is_race(&anyhow::anyhow!("offset")));
    }
}
