use std::path::{Path, PathBuf};

use anyhow::Context;
use bytes::{Bytes, BytesMut};
use clap::Subcommand;
use http_body_util::{BodyExt, StreamBody};
use hyper::Method;
use hyper::body::Frame;
use tokio::io::AsyncReadExt;

use super::host::items;
use super::show::{Column, show};
use super::{Client, Output, Reach};

#[derive(Debug, Subcommand)]
pub enum Verb {
    /// Upload an ISO, and make it known by a name
    Add {
        name: String,
        file: PathBuf,
        #[arg(long, default_value = "")]
        description: String,
        /// A boot config that hosts may combine with it; may be given several times
        #[arg(long = "config")]
        configs: Vec<String>,
        /// What the file's SHA-256 must be
        #[arg(long)]
        sha256: Option<String>,
        #[arg(short, long, value_enum, default_value_t)]
        output: Output,
    },
    /// List the ISOs
    List {
        #[arg(short, long, value_enum, default_value_t)]
        output: Output,
    },
    /// Show one ISO in full
    Show {
        name: String,
        #[arg(short, long, value_enum, default_value_t)]
        output: Output,
    },
    /// Remove an ISO that no host boots
    Remove { name: String },
}

const PATH: &str = "/api/v1/iscsi-cdroms";
const COLUMNS: &[Column] = &[
    ("NAME", "/metadata/name"),
    ("PHASE", "/status/phase"),
    ("SIZE", "/status/sizeBytes"),
    ("VOLUME", "/status/volumeID"),
    ("CONFIGS", "/spec/bootConfigs"),
    ("TARGET", "/status/targetIQN"),
];
/// Is how much of an ISO is read and sent at once.
const PART: usize = 256 * 1024;

/// Runs a command on ISOs.
pub async fn run(verb: Verb, reach: &Reach) -> anyhow::Result<()> {
    let mut client = Client::connect(reach).await?;
    match verb {
        Verb::Add { name, file, description, configs, sha256, output } => {
            let mut query = form_urlencoded::Serializer::new(String::new());
            query.append_pair("name", &name).append_pair("description", &description);
            query.extend_pairs(configs.iter().map(|config| ("bootConfig", config)));
            query.extend_pairs(sha256.iter().map(|digest| ("sha256", digest)));
            let path = format!("{PATH}/upload?{}", query.finish());
            let content = http_body_util::combinators::UnsyncBoxBody::new(open(&file).await?);
            show(output, &client.upload(&path, content).await?, COLUMNS)
        }
        Verb::List { output } => show(output, &items(client.ask(Method::GET, PATH, None).await?), COLUMNS),
        Verb::Show { name, output } => {
            show(output, &client.ask(Method::GET, &format!("{PATH}/{name}"), None).await?, COLUMNS)
        }
        Verb::Remove { name } => {
            client.ask(Method::DELETE, &format!("{PATH}/{name}"), None).await?;
            super::show::print(&format!("removed {name}\n"))
        }
    }
}

async fn open(
    path: &Path,
) -> anyhow::Result<impl hyper::body::Body<Data = Bytes, Error = std::io::Error> + Send + use<>> {
    let file = tokio::fs::File::open(path).await.with_context(|| path.display().to_string())?;
    let parts = futures_util::stream::try_unfold(file, |mut file| async move {
        let mut part = BytesMut::with_capacity(PART);
        while part.len() < PART && file.read_buf(&mut part).await? > 0 {}
        Ok((!part.is_empty()).then(|| (Frame::data(part.freeze()), file)))
    });
    Ok(StreamBody::new(parts).boxed_unsync())
}
