use std::collections::BTreeMap;
use std::io::Write;
use std::path::{Path, PathBuf};

use anyhow::Context;
use clap::Subcommand;

use crate::fleet::{BootConfigSpec, Format};
use crate::{iso, provision};

use super::{Client, Reach};

#[derive(Debug, Subcommand)]
pub enum Verb {
    /// Write a NoCloud seed (an ISO with the volume id cidata) of a host's config, or of files
    Build {
        /// The file to write
        output: PathBuf,
        /// The host whose config is taken, as the server would attach it
        #[arg(long, conflicts_with_all = ["files", "hostname", "instance_id"])]
        host: Option<String>,
        /// The namespace of the host
        #[arg(short, long, default_value = "default")]
        namespace: String,
        /// The user-data; more as meta-data=FILE, vendor-data=FILE, network-config=FILE
        #[arg(required_unless_present = "host")]
        files: Vec<PathBuf>,
        /// What meta-data says of the host's name, where no file does
        #[arg(long, default_value = "localhost")]
        hostname: String,
        /// What meta-data says of the instance, where no file does; another one makes cloud-init begin anew
        #[arg(long, default_value = "nocloud")]
        instance_id: String,
    },
}

/// Runs a command on NoCloud seeds.
pub async fn run(verb: Verb, reach: &Reach) -> anyhow::Result<()> {
    let Verb::Build { output, host, namespace, files, hostname, instance_id } = verb;
    let seed = match host {
        Some(host) => {
            let mut client = Client::connect(reach).await?;
            client.bytes(&format!("/api/v1/namespaces/{namespace}/baremetalhosts/{host}/seed")).await?
        }
        None => iso::build_seed(&hostname, &instance_id, &checked(read(&files)?)?)?,
    };
    write(&output, &seed).with_context(|| output.display().to_string())?;
    super::show::print(&format!("{} is a seed of {} bytes\n", output.display(), seed.len()))
}

fn read(files: &[PathBuf]) -> anyhow::Result<BTreeMap<String, String>> {
    let mut data = BTreeMap::new();
    for file in files {
        let spelled = file.to_string_lossy();
        let (name, path) = match spelled.split_once('=') {
            Some((name, path)) => (name.to_owned(), Path::new(path)),
            None => ("user-data".to_owned(), file.as_path()),
        };
        let text = std::fs::read_to_string(path).with_context(|| path.display().to_string())?;
        if data.insert(name.clone(), text).is_some() {
            anyhow::bail!("two files are both {name}: name the others as NAME=FILE");
        }
    }
    Ok(data)
}

/// Refuses what the server would refuse as a config.
fn checked(data: BTreeMap<String, String>) -> anyhow::Result<BTreeMap<String, String>> {
    let spec = BootConfigSpec { format: Format::CloudInit, data, confidential: false };
    match provision::check(&spec) {
        Ok(warnings) => {
            warnings.iter().for_each(|warning| eprintln!("bootlatch: {warning}"));
            Ok(spec.data)
        }
        Err(fault) => match fault.field.strip_prefix("spec.data.") {
            Some(file) => anyhow::bail!("{file}: {}", fault.message),
            None => anyhow::bail!("{}", fault.message),
        },
    }
}

/// Puts a file in its place whole, or not at all.
fn write(output: &Path, bytes: &[u8]) -> std::io::Result<()> {
    let name = output.file_name().ok_or(std::io::ErrorKind::InvalidInput)?;
    let mut draft = name.to_owned();
    draft.push(".part");
    let draft = output.with_file_name(draft);
    let mut file = std::fs::File::create(&draft)?;
    let written = file.write_all(bytes).and_then(|()| file.sync_all()).and_then(|()| std::fs::rename(&draft, output));
    if written.is_err() {
        let _ = std::fs::remove_file(&draft);
    }
    written
}
