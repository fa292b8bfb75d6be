use std::sync::PoisonError;

use clap::Subcommand;
use futures_util::TryStreamExt;
use http_body_util::{BodyExt, StreamBody};
use hyper::Method;
use hyper::body::Frame;
use serde_json::{Value, json};

use super::client::Error;
use super::host::items;
use super::progress::Progress;
use super::show::{Column, show};
use super::source::{Changed, Source, Trouble};
use super::{Client, Output, Reach};
use crate::fleet::{Name, is_sha256};

#[derive(Debug, Subcommand)]
pub enum Verb {
    /// Upload an ISO, and make it known by a name. What broke off goes on when it is asked for again
    Add {
        name: Name,
        /// A file, or a URL of http or https
        #[arg(value_name = "FILE|URL")]
        source: Source,
        #[arg(long, default_value = "")]
        description: String,
        /// A boot config that hosts may combine with it; may be given several times
        #[arg(long = "config")]
        configs: Vec<Name>,
        /// What the file's SHA-256 must be, in hexadecimal digits
        #[arg(long, value_parser = digest)]
        sha256: Option<String>,
        #[arg(short, long, value_enum, default_value_t)]
        output: Output,
    },
    /// List the ISOs, and the uploads that wait for their rest
    List {
        #[arg(short, long, value_enum, default_value_t)]
        output: Output,
    },
    /// Show one ISO in full
    Show {
        name: Name,
        #[arg(short, long, value_enum, default_value_t)]
        output: Output,
    },
    /// Remove an ISO that no host boots, or what came of an upload that nobody will go on with
    Remove { name: Name },
}

const PATH: &str = "/api/v1/iscsi-cdroms";
const COLUMNS: &[Column] = &[
    ("NAME", "/metadata/name"),
    ("PHASE", "/status/phase"),
    ("SIZE", "/status/sizeBytes"),
    ("VOLUME", "/status/volumeID"),
    ("CONFIGS", "/spec/bootConfigs"),
    ("TARGET", "/status/targetIQN"),
    ("MESSAGE", "/status/message"),
];
/// Is how often an ISO is begun anew that changes while it is fetched, or whose upload somebody else moved.
const BEGINNINGS: usize = 3;

/// Runs a command on ISOs.
pub async fn run(verb: Verb, reach: &Reach) -> anyhow::Result<()> {
    let mut client = Client::connect(reach).await?;
    match verb {
        Verb::Add { name, source, description, configs, sha256, output } => {
            let mut query = form_urlencoded::Serializer::new(String::new());
            query.append_pair("name", name.as_str()).append_pair("description", &description);
            query.extend_pairs(configs.iter().map(|config| ("bootConfig", config.as_str())));
            query.extend_pairs(sha256.iter().map(|digest| ("sha256", digest)));
            if client.find(&format!("{PATH}/{name}")).await?.is_some() {
                let message = format!("there is an ISO {name} already: remove it first, or give another name");
                return Err(Error::Refused { code: 409, message }.into());
            }
            show(output, &add(reach, source, &query.finish()).await?, COLUMNS)
        }
        Verb::List { output } => {
            let mut isos = items(client.ask(Method::GET, PATH, None).await?);
            if let (Output::Table, Some(rows)) = (output, isos.as_array_mut()) {
                rows.extend(uploads(&mut client).await?.iter().map(waiting));
            }
            show(output, &isos, COLUMNS)
        }
        Verb::Show { name, output } => {
            show(output, &client.ask(Method::GET, &format!("{PATH}/{name}"), None).await?, COLUMNS)
        }
        Verb::Remove { name } => {
            let gone = client.ask(Method::DELETE, &format!("{PATH}/{name}"), None).await;
            let is_upload = |upload: &Value| upload["name"] == name.as_str();
            let kept: Vec<_> = uploads(&mut client).await?.into_iter().filter(is_upload).collect();
            for key in kept.iter().filter_map(|upload| upload["key"].as_str()) {
                client.ask(Method::DELETE, &format!("/api/v1/uploads/{key}"), None).await?;
            }
            match gone {
                Err(error) if kept.is_empty() || !is_missing(&error) => Err(error),
                Err(_) => super::show::print(&format!("removed what there was of {name}\n")),
                Ok(_) => super::show::print(&format!("removed {name}\n")),
            }
        }
    }
}

fn digest(text: &str) -> Result<String, String> {
    is_sha256(text).then(|| text.to_owned()).ok_or_else(|| "a SHA-256 has 64 hexadecimal digits".to_owned())
}

fn is_missing(error: &anyhow::Error) -> bool {
    matches!(error.downcast_ref(), Some(Error::Refused { code: 404, .. }))
}

/// Lists what came of uploads that are not done.
async fn uploads(client: &mut Client) -> anyhow::Result<Vec<Value>> {
    match items(client.ask(Method::GET, "/api/v1/uploads", None).await?) {
        Value::Array(uploads) => Ok(uploads),
        _ => Ok(Vec::new()),
    }
}

/// Shows an upload that is not done beside the ISOs.
fn waiting(upload: &Value) -> Value {
    json!({"metadata": {"name": upload["name"]}, "status": {"phase": "Uploading", "sizeBytes": upload["offset"]}})
}

/// Sends an ISO from where the server has it already.
async fn add(reach: &Reach, source: Source, query: &str) -> anyhow::Result<Value> {
    let mut tries = 0;
    loop {
        tries += 1;
        match once(reach, source.clone(), query).await {
            Err(error) if tries < BEGINNINGS && is_race(&error) => {}
            Err(error) if tries < BEGINNINGS && error.is::<Changed>() => eprintln!("{error}: beginning again"),
            other => return other,
        }
    }
}

/// Says whether the server has another part of the upload than it said a moment ago.
fn is_race(error: &anyhow::Error) -> bool {
    matches!(error.downcast_ref(), Some(Error::Refused { code: 409, message }) if message.contains("ask again"))
}

async fn once(reach: &Reach, source: Source, query: &str) -> anyhow::Result<Value> {
    let mut client = Client::connect(reach).await?;
    let found = source.find().await?;
    let mut path = format!("{PATH}/upload?{query}");
    if let Some(total) = found.total {
        path = format!("{path}&length={total}");
    }
    let mut offset = 0;
    if let Some(key) = &found.key {
        let told = client.ask(Method::GET, &format!("/api/v1/uploads/{key}"), None).await?;
        offset = told["offset"].as_u64().filter(|offset| found.total.is_none_or(|total| *offset <= total)).unwrap_or(0);
        path = format!("{path}&resume={key}&offset={offset}");
    }
    // Before a long way for nothing.
    client.ask(Method::POST, &format!("{path}&dryRun=All"), None).await?;
    if offset > 0 {
        eprintln!("going on at byte {offset}, where it broke off");
    }
    let trouble = Trouble::default();
    let mut progress = Progress::new(offset, found.total);
    let parts = found.read(offset, trouble.clone()).await?.map_ok(move |data| {
        progress.add(data.len() as u64);
        Frame::data(data)
    });
    let sent = client.upload(&path, StreamBody::new(parts).boxed_unsync()).await;
    let trouble = trouble.lock().unwrap_or_else(PoisonError::into_inner).take();
    if let (Some(key), Some(true)) = (&found.key, trouble.as_ref().map(anyhow::Error::is::<Changed>)) {
        let mut client = Client::connect(reach).await?;
        client.ask(Method::DELETE, &format!("/api/v1/uploads/{key}"), None).await?;
    }
    sent.map_err(|error| trouble.unwrap_or(error))
}
