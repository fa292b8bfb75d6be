//! `bootlatch seed`: NoCloud seeds for cloud-init.

use std::collections::BTreeMap;
use std::path::PathBuf;

use anyhow::Context;
use clap::Subcommand;

use crate::fleet::{BootConfigSpec, Format, Kind};
use crate::iso;
use crate::provision::{self, FieldError};

use super::client::ApiClient;
use super::connection::ConnectionArgs;
use super::local_files;
use super::lookup;
use super::reference::object_path;

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
            let name = lookup::resolve(&mut client, Kind::BareMetalHost, &namespace, &host).await?;
            client.bytes(&format!("{}/seed", object_path(Kind::BareMetalHost, &namespace, &name))).await?
        }
        None => {
            let read = local_files::read_named(&files, "user-data")?;
            let names = read.iter().map(|(name, _)| name.clone());
            let paths = names.zip(files.iter().map(|file| local_files::path_of(file))).collect();
            let spec = BootConfigSpec::of_files(Format::CloudInit, read);
            check(&spec, &paths)?;
            let files = spec.files().map(|(name, content)| (name.to_owned(), content));
            iso::build_seed(&hostname, &instance_id, &files.collect::<BTreeMap<String, &[u8]>>())?
        }
    };
    local_files::replace(&output, &seed).with_context(|| output.display().to_string())?;
    super::show::print(&format!("{}: seed of {} bytes written\n", output.display(), seed.len()))
}

/// Checks the files as the server checks a boot config. Prints the warnings. Errors name the path of a file.
fn check(spec: &BootConfigSpec, paths: &BTreeMap<String, PathBuf>) -> anyhow::Result<()> {
    match provision::check(spec) {
        Ok(warnings) => {
            warnings.iter().for_each(|warning| eprintln!("bootlatch: {warning}"));
            Ok(())
        }
        Err(faults) => {
            let text = |fault: &FieldError| match fault.file() {
                Some(file) => {
                    let path = paths.get(file).map_or_else(|| file.into(), |path| path.to_string_lossy());
                    format!("{path}: {}", fault.message)
                }
                None => fault.message.clone(),
            };
            anyhow::bail!("{}", faults.iter().map(text).collect::<Vec<_>>().join("\n"))
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_error_names_the_path_of_a_file() {
        let files = [("user-data", "#cloud-config\n"), ("meta-data", "a: [")];
        let files = files.map(|(name, text)| (name.to_owned(), text.as_bytes().to_vec()));
        let spec = BootConfigSpec::of_files(Format::CloudInit, files);
        let error = |paths: &[(&str, &str)]| {
            let paths = paths.iter().map(|(name, path)| ((*name).to_owned(), PathBuf::from(path)));
            check(&spec, &paths.collect()).unwrap_err().to_string()
        };
        assert!(error(&[("meta-data", "./node1.meta")]).starts_with("./node1.meta: invalid YAML"));
        assert!(error(&[]).starts_with("meta-data: invalid YAML"));
    }
}
