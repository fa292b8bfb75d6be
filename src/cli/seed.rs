//! `bootlatch seed`: NoCloud seeds for cloud-init.

use std::collections::BTreeMap;
use std::io::Write;
use std::path::{Path, PathBuf};

use anyhow::Context;
use clap::Subcommand;

use crate::fleet::{BootConfigSpec, Format};
use crate::{iso, provision};

use super::client::ApiClient;
use super::connection::ConnectionArgs;

/// Subcommands of `bootlatch seed`.
#[derive(Debug, Subcommand)]
pub enum SeedCommand {
    /// Build a NoCloud seed (an ISO with the volume ID cidata) from the boot config of a host, or from files
    Build {
        /// File to write
        output: PathBuf,
        /// Host whose boot config is used, as the server attaches it
        #[arg(long, conflicts_with_all = ["files", "hostname", "instance_id"])]
        host: Option<String>,
        /// Namespace of the host
        #[arg(short, long, default_value = "default")]
        namespace: String,
        /// User-data; further files as meta-data=FILE, vendor-data=FILE, network-config=FILE
        #[arg(required_unless_present = "host")]
        files: Vec<PathBuf>,
        /// local-hostname in the generated meta-data
        #[arg(long, default_value = "localhost")]
        hostname: String,
        /// instance-id in the generated meta-data; a new one makes cloud-init run again
        #[arg(long, default_value = "nocloud")]
        instance_id: String,
    },
}

/// Runs a `bootlatch seed` command.
///
/// # Errors
/// A file is invalid, the server refuses the request, or the seed cannot be written.
pub async fn run(verb: SeedCommand, connection_args: &ConnectionArgs) -> anyhow::Result<()> {
    let SeedCommand::Build { output, host, namespace, files, hostname, instance_id } = verb;
    let seed = match host {
        Some(host) => {
            let mut client = ApiClient::connect(connection_args).await?;
            client.bytes(&format!("/api/v1/namespaces/{namespace}/baremetalhosts/{host}/seed")).await?
        }
        None => iso::build_seed(&hostname, &instance_id, &check(read(&files)?)?)?,
    };
    write(&output, &seed).with_context(|| output.display().to_string())?;
    super::show::print(&format!("{}: seed of {} bytes written\n", output.display(), seed.len()))
}

/// Reads the files of a seed, by name.
fn read(files: &[PathBuf]) -> anyhow::Result<BTreeMap<String, String>> {
    let mut data = BTreeMap::new();
    for file in files {
        let argument = file.to_string_lossy();
        let (name, path) = match argument.split_once('=') {
            Some((name, path)) => (name.to_owned(), Path::new(path)),
            None => ("user-data".to_owned(), file.as_path()),
        };
        let text = std::fs::read_to_string(path).with_context(|| path.display().to_string())?;
        if data.insert(name.clone(), text).is_some() {
            anyhow::bail!("{name}: given twice; name further files as NAME=FILE");
        }
    }
    Ok(data)
}

/// Checks the files as the server checks a boot config. Prints the warnings.
fn check(data: BTreeMap<String, String>) -> anyhow::Result<BTreeMap<String, String>> {
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

/// Writes a file atomically.
fn write(output: &Path, bytes: &[u8]) -> std::io::Result<()> {
    let name = output.file_name().ok_or(std::io::ErrorKind::InvalidInput)?;
    let mut temporary = name.to_owned();
    temporary.push(".part");
    let temporary = output.with_file_name(temporary);
    let mut file = std::fs::File::create(&temporary)?;
    let written =
        file.write_all(bytes).and_then(|()| file.sync_all()).and_then(|()| std::fs::rename(&temporary, output));
    if written.is_err() {
        let _ = std::fs::remove_file(&temporary);
    }
    written
}
