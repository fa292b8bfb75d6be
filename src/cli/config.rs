//! `bootlatch config`: boot configs.

use std::path::{Path, PathBuf};

use anyhow::Context;
use clap::Subcommand;
use clap_complete::engine::ArgValueCandidates;
use hyper::Method;
use serde_json::{Value, json};

use crate::fleet::{BootConfigSpec, Format, Kind};
use crate::provision::yaml_error;

use super::butane;
use super::client::ApiClient;
use super::completion;
use super::connection::ConnectionArgs;
use super::exit::{ExitStatus, exit_code};
use super::get::{SelectionArgs, ViewArgs, show_object, show_objects};
use super::reference::{Wanted, object_path, segment};
use super::show::{Column, OutputFormat, show};
use super::{local_files, lookup};

/// Subcommands of `bootlatch config`.
#[derive(Debug, Subcommand)]
pub enum ConfigCommand {
    /// Add a boot config from one or more files
    #[command(after_help = "Examples:\n  bootlatch config add fedora-ks ks.cfg --format kickstart --confidential\n  \
                            bootlatch config add coreos live.ign target.ign=target.ign --format ignition\n  \
                            bootlatch config add coreos live.bu --format ignition   (Butane, compiled here)")]
    Add {
        /// Name of the boot config
        name: String,
        /// Main file of the format; further files as NAME=FILE
        #[arg(required = true)]
        files: Vec<PathBuf>,
        /// Format: ignition, cloud-init, kickstart, preseed or script
        #[arg(long)]
        format: Format,
        /// Replace an existing boot config
        #[arg(long)]
        replace: bool,
        /// Mark the files as secret: only the machine can read them
        #[arg(long)]
        confidential: bool,
        /// Directory of the local files that a Butane config names [default: the one of the config]
        #[arg(short = 'd', long, value_name = "DIR")]
        files_dir: Option<PathBuf>,
        #[command(flatten)]
        view: ViewArgs,
    },
    /// Compile a Butane config to Ignition, and print it; needs no server
    #[command(after_help = "Example:\n  bootlatch config compile node.bu --files-dir files > node.ign")]
    Compile {
        /// Butane config
        file: PathBuf,
        /// Directory of the local files that it names [default: the one of the config]
        #[arg(short = 'd', long, value_name = "DIR")]
        files_dir: Option<PathBuf>,
    },
    /// Generate boot configs from a short description, and print their URLs
    Generate {
        /// Kind of boot configs
        what: ConfigGenerator,
        /// Description in YAML or JSON, as in POST /api/v1/configs/WHAT/generate; - for standard input
        file: PathBuf,
        /// File for the field userData of a cloudinit description: the whole user-data, with placeholders
        #[arg(long, value_name = "FILE")]
        user_data: Option<PathBuf>,
        /// Print the result without creating anything
        #[arg(long)]
        dry_run: bool,
        /// Output format
        #[arg(short, long, value_enum, default_value = "yaml")]
        output: OutputFormat,
    },
    /// List the boot configs, as `get configs` does
    List {
        #[command(flatten)]
        view: ViewArgs,
    },
    /// Show boot configs, as `get config` does; -o yaml shows their files
    Show {
        /// Names of the boot configs
        #[arg(value_name = "CONFIG", required = true, add = ArgValueCandidates::new(completion::configs))]
        names: Vec<String>,
        #[command(flatten)]
        view: ViewArgs,
    },
    /// Print a file of a host's boot config, byte for byte as its machine would get it; nothing is recorded
    #[command(after_help = "Example:\n  bootlatch config render web1 --file network-config")]
    Render {
        /// Name or MAC address of the host
        #[arg(add = ArgValueCandidates::new(completion::hosts))]
        host: String,
        /// Namespace of the host
        #[arg(short, long, default_value = "default")]
        namespace: String,
        /// Name of the file [default: the main file of the format]
        #[arg(long)]
        file: Option<String>,
    },
    /// Remove a boot config that no host and no ISO refers to
    Remove {
        /// Name of the boot config
        #[arg(add = ArgValueCandidates::new(completion::configs))]
        name: String,
    },
}

/// Kind of generated boot configs.
#[derive(Debug, Clone, Copy, clap::ValueEnum)]
pub enum ConfigGenerator {
    /// Ignition for the roles of a cluster
    Ignition,
    /// cloud-init files for one machine
    Cloudinit,
}

const PATH: &str = "/api/v1/bootconfigs";
const GENERATED_COLUMNS: &[Column] = &[("URL", "/servingUrl"), ("CONFIGS", "/configs")];

/// Runs a `bootlatch config` command.
///
/// # Errors
/// The server refuses the request, or a file cannot be read.
pub async fn run(verb: ConfigCommand, connection_args: &ConnectionArgs) -> anyhow::Result<()> {
    if let ConfigCommand::Compile { file, files_dir } = &verb {
        let text = std::fs::read_to_string(file).with_context(|| file.display().to_string())?;
        return super::show::print(&butane::compile_text(&text, file, files_dir.as_deref())?);
    }
    let mut client = ApiClient::connect(connection_args).await?;
    match verb {
        ConfigCommand::Compile { .. } => Ok(()),
        ConfigCommand::Add { name, files, format, replace, confidential, files_dir, view } => {
            let files = read_files(&files, format, files_dir.as_deref())?;
            let spec = BootConfigSpec { confidential, ..BootConfigSpec::of_files(format, files) };
            let config = json!({"apiVersion": "v1", "kind": "BootConfig", "metadata": {"name": name}, "spec": spec});
            let added = client.ask(Method::POST, PATH, Some(&config)).await;
            let config = match added {
                Err(error) if replace && exit_code(&error) == ExitStatus::Refused => {
                    client.ask(Method::PUT, &object_path(Kind::BootConfig, "", &name), Some(&config)).await?
                }
                other => other?,
            };
            show_object(&mut client, Kind::BootConfig, config, view).await
        }
        ConfigCommand::Generate { what, file, user_data, dry_run, output } => {
            let what = match what {
                ConfigGenerator::Ignition => "ignition",
                ConfigGenerator::Cloudinit => "cloudinit",
            };
            let path = format!("/api/v1/configs/{what}/generate{}", if dry_run { "?dryRun=All" } else { "" });
            let request = with_user_data(read_request(&file)?, user_data.as_deref())?;
            show(output, &client.ask(Method::POST, &path, Some(&request)).await?, GENERATED_COLUMNS)
        }
        ConfigCommand::List { view } => show_all(&mut client, Vec::new(), view).await,
        ConfigCommand::Show { names, view } => show_all(&mut client, names, view).await,
        ConfigCommand::Render { host, namespace, file } => {
            let name = lookup::resolve(&mut client, Kind::BareMetalHost, &namespace, &host).await?;
            let query = file.map(|file| format!("?file={}", segment(&file))).unwrap_or_default();
            let path = format!("{}/config{query}", object_path(Kind::BareMetalHost, &namespace, &name));
            super::show::print_bytes(&client.bytes(&path).await?)
        }
        ConfigCommand::Remove { name } => {
            client.ask(Method::DELETE, &object_path(Kind::BootConfig, "", &name), None).await?;
            super::show::print(&format!("removed {name}\n"))
        }
    }
}

/// Reads the files of a boot config. Butane configs become Ignition configs.
fn read_files(files: &[PathBuf], format: Format, files_dir: Option<&Path>) -> anyhow::Result<Vec<(String, Vec<u8>)>> {
    let read = local_files::read_named(files, format.main_file())?;
    if format != Format::Ignition {
        return Ok(read);
    }
    let paths = files.iter().map(|file| local_files::path_of(file));
    let compile = |((name, content), path): ((String, Vec<u8>), PathBuf)| match String::from_utf8(content) {
        Ok(text) => {
            let (name, text) = butane::compile_file(name, text, &path, files_dir)?;
            Ok((name, text.into_bytes()))
        }
        Err(error) => Ok((name, error.into_bytes())),
    };
    read.into_iter().zip(paths).map(compile).collect()
}

/// Shows boot configs, by name or all.
async fn show_all(client: &mut ApiClient, names: Vec<String>, view: ViewArgs) -> anyhow::Result<()> {
    let wanted = [Wanted { kind: Kind::BootConfig, names }];
    show_objects(client, &wanted, &SelectionArgs::of_namespace(""), view).await
}

/// Reads a description. Errors do not quote the line: it may contain a secret.
fn read_request(file: &Path) -> anyhow::Result<Value> {
    let text = match file.as_os_str() == "-" {
        true => std::io::read_to_string(std::io::stdin()),
        false => std::fs::read_to_string(file),
    };
    let text = text.with_context(|| file.display().to_string())?;
    serde_saphyr::from_str(&text).map_err(|error| anyhow::anyhow!("{}: {}", file.display(), yaml_error(&error)))
}

/// Adds a file of user-data to a description that has none.
fn with_user_data(mut request: Value, file: Option<&Path>) -> anyhow::Result<Value> {
    let Some(file) = file else { return Ok(request) };
    let text = std::fs::read_to_string(file).with_context(|| file.display().to_string())?;
    match &mut request {
        Value::Object(fields) if fields.contains_key("userData") => {
            anyhow::bail!("userData: in the description and as --user-data: give one of them")
        }
        Value::Object(fields) => drop(fields.insert("userData".into(), text.into())),
        _ => anyhow::bail!("--user-data: the description is no mapping of fields"),
    }
    Ok(request)
}
