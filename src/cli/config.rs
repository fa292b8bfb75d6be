use std::path::{Path, PathBuf};

use anyhow::Context;
use clap::Subcommand;
use hyper::Method;
use serde_json::{Map, Value, json};

use crate::fleet::Format;
use crate::provision::yaml_error;

use super::host::items;
use super::show::{Column, show};
use super::{Client, Output, Reach};

#[derive(Debug, Subcommand)]
pub enum Verb {
    /// Add a boot config from one file or several; a file becomes the one that its format asks for first
    Add {
        name: String,
        /// The main file; more as NAME=FILE
        #[arg(required = true)]
        files: Vec<PathBuf>,
        /// ignition, cloud-init, kickstart, preseed or script
        #[arg(long)]
        format: Format,
        /// Replace the config where it exists
        #[arg(long)]
        replace: bool,
        /// Its files hold secrets: its machine is given them, and nobody reads them back
        #[arg(long)]
        confidential: bool,
        #[arg(short, long, value_enum, default_value_t)]
        output: Output,
    },
    /// Generate configs from a few words, and say where they are
    Generate {
        what: What,
        /// What they are made of, YAML or JSON, as POST /api/v1/configs/WHAT/generate takes it; - for standard input
        file: PathBuf,
        /// Only say what would come of it
        #[arg(long)]
        dry_run: bool,
        #[arg(short, long, value_enum, default_value = "yaml")]
        output: Output,
    },
    /// List the boot configs
    List {
        #[arg(short, long, value_enum, default_value_t)]
        output: Output,
    },
    /// Show one boot config in full
    Show {
        name: String,
        #[arg(short, long, value_enum, default_value = "yaml")]
        output: Output,
    },
    /// Remove a boot config that nothing names
    Remove { name: String },
}

/// Names what is generated.
#[derive(Debug, Clone, Copy, clap::ValueEnum)]
pub enum What {
    /// Ignition for the roles of a cluster
    Ignition,
    /// cloud-init's files for one machine
    Cloudinit,
}

const PATH: &str = "/api/v1/bootconfigs";
const COLUMNS: &[Column] =
    &[("NAME", "/metadata/name"), ("FORMAT", "/spec/format"), ("CREATED", "/metadata/creationTimestamp")];

const WHERE: &[Column] = &[("URL", "/servingUrl"), ("CONFIGS", "/configs")];

/// Runs a command on boot configs.
pub async fn run(verb: Verb, reach: &Reach) -> anyhow::Result<()> {
    let mut client = Client::connect(reach).await?;
    match verb {
        Verb::Add { name, files, format, replace, confidential, output } => {
            let data = read(&files, format)?;
            let config = json!({
                "apiVersion": "v1", "kind": "BootConfig", "metadata": {"name": name},
                "spec": {"format": format.to_string(), "data": data, "confidential": confidential},
            });
            let added = client.ask(Method::POST, PATH, Some(&config)).await;
            let config = match added {
                Err(error) if replace && super::exit(&error) == super::Exit::Refused => {
                    client.ask(Method::PUT, &format!("{PATH}/{name}"), Some(&config)).await?
                }
                other => other?,
            };
            show(output, &config, COLUMNS)
        }
        Verb::Generate { what, file, dry_run, output } => {
            let what = match what {
                What::Ignition => "ignition",
                What::Cloudinit => "cloudinit",
            };
            let path = format!("/api/v1/configs/{what}/generate{}", if dry_run { "?dryRun=All" } else { "" });
            let wish = wish(&file)?;
            show(output, &client.ask(Method::POST, &path, Some(&wish)).await?, WHERE)
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

/// Reads what configs are made of. What is wrong in it is said without the line: a pull secret may stand there.
fn wish(file: &Path) -> anyhow::Result<Value> {
    let text = match file.as_os_str() == "-" {
        true => std::io::read_to_string(std::io::stdin()),
        false => std::fs::read_to_string(file),
    };
    let text = text.with_context(|| file.display().to_string())?;
    serde_saphyr::from_str(&text).map_err(|error| anyhow::anyhow!("{}: {}", file.display(), yaml_error(&error)))
}

fn read(files: &[PathBuf], format: Format) -> anyhow::Result<Map<String, Value>> {
    let mut data = Map::new();
    for file in files {
        let spelled = file.to_string_lossy();
        let (name, path) = match spelled.split_once('=') {
            Some((name, path)) => (name.to_owned(), PathBuf::from(path)),
            None => (format.main_file().to_owned(), file.clone()),
        };
        let text = std::fs::read_to_string(&path).with_context(|| path.display().to_string())?;
        if data.insert(name.clone(), text.into()).is_some() {
            anyhow::bail!("two files are both {name}: name the others as NAME=FILE");
        }
    }
    Ok(data)
}
