//! `bootlatch template`: templates of boot configs, and their versions.

use std::collections::BTreeSet;
use std::path::PathBuf;

use anyhow::Context;
use clap::Subcommand;
use clap_complete::engine::ArgValueCandidates;
use hyper::Method;
use serde_json::{Map, Value, json};

use crate::fleet::{Format, Kind};
use crate::provision::yaml_error;

use super::client::ApiClient;
use super::completion;
use super::connection::ConnectionArgs;
use super::exit::{ExitStatus, exit_code};
use super::get::{SelectionArgs, ViewArgs, show_object, show_objects};
use super::line_diff::unified_diff;
use super::local_files;
use super::lookup::{items, not_found};
use super::reference::{Wanted, collection_path, object_path};
use super::show::note;

/// Subcommands of `bootlatch template`.
#[derive(Debug, Subcommand)]
pub enum TemplateCommand {
    /// Add a template from one or more files, or replace one: each change is a version
    #[command(after_help = "Examples:\n  bootlatch template add web ks.cfg --format kickstart --defaults web.yaml\n  \
                            bootlatch template add web ks.cfg --format kickstart --replace")]
    Add {
        /// Name of the template
        name: String,
        /// Main file of the format; further files as NAME=FILE
        #[arg(required = true)]
        files: Vec<PathBuf>,
        /// Format of what is rendered: ignition, cloud-init, kickstart, preseed or script
        #[arg(long)]
        format: Format,
        /// Values for hosts that do not set them, in YAML or JSON
        #[arg(long, value_name = "FILE")]
        defaults: Option<PathBuf>,
        /// The values that hosts may set, with their types, in YAML or JSON
        #[arg(long, value_name = "FILE")]
        schema: Option<PathBuf>,
        /// Replace the files of an existing template, and its defaults or schema if they are given
        #[arg(long)]
        replace: bool,
        /// Show which hosts' configs a replacement would change and how, and change nothing
        #[arg(long, requires = "replace")]
        dry_run: bool,
        #[command(flatten)]
        view: ViewArgs,
    },
    /// List the templates, as `get templates` does
    List {
        #[command(flatten)]
        view: ViewArgs,
    },
    /// Show templates, as `get template` does; -o yaml shows their files and versions
    Show {
        /// Names of the templates
        #[arg(value_name = "TEMPLATE", required = true, add = ArgValueCandidates::new(completion::templates))]
        names: Vec<String>,
        #[command(flatten)]
        view: ViewArgs,
    },
    /// Show what differs between two versions of a template, line by line
    #[command(after_help = "Example:\n  bootlatch template diff web 3 4")]
    Diff {
        /// Name of the template
        #[arg(add = ArgValueCandidates::new(completion::templates))]
        name: String,
        /// Old version
        old: u64,
        /// New version
        new: u64,
    },
    /// Make an earlier version of a template the newest again: it gets a new number
    #[command(after_help = "Example:\n  bootlatch template rollback web --to 3 --dry-run")]
    Rollback {
        /// Name of the template
        #[arg(add = ArgValueCandidates::new(completion::templates))]
        name: String,
        /// Version to go back to
        #[arg(long, value_name = "VERSION")]
        to: u64,
        /// Show which hosts' configs would change and how, and change nothing
        #[arg(long)]
        dry_run: bool,
    },
    /// Remove a template that no boot config refers to, with its versions
    Remove {
        /// Name of the template
        #[arg(add = ArgValueCandidates::new(completion::templates))]
        name: String,
    },
}

/// Runs a `bootlatch template` command.
///
/// # Errors
/// The server refuses the request, or a file cannot be read.
pub async fn run(verb: TemplateCommand, connection_args: &ConnectionArgs) -> anyhow::Result<()> {
    let mut client = ApiClient::connect(connection_args).await?;
    match verb {
        TemplateCommand::Add { name, files, format, defaults, schema, replace, dry_run, view } => {
            let files = local_files::read_named(&files, format.main_file())?;
            let known = if replace { find(&mut client, &name).await? } else { None };
            let is_new = known.is_none();
            let new = || json!({"apiVersion": "v1", "kind": "ConfigTemplate", "metadata": {"name": name}});
            let mut template = known.unwrap_or_else(new);
            set_spec(&mut template["spec"], format, texts(files)?, [("defaults", defaults), ("schema", schema)])?;
            if dry_run {
                return preview(&mut client, &name, &template["spec"]).await;
            }
            let template = match is_new {
                true => client.ask(Method::POST, &collection_path(Kind::ConfigTemplate, None), Some(&template)).await?,
                false => client.ask(Method::PUT, &template_path(&name), Some(&template)).await?,
            };
            show_object(&mut client, Kind::ConfigTemplate, template, view).await
        }
        TemplateCommand::List { view } => show_all(&mut client, Vec::new(), view).await,
        TemplateCommand::Show { names, view } => show_all(&mut client, names, view).await,
        TemplateCommand::Diff { name, old, new } => {
            let versions = versions(&mut client, &name).await?;
            let (old_spec, new_spec) = (version(&versions, &name, old)?, version(&versions, &name, new)?);
            super::show::print(&diff_specs(&format!("{name} {old}"), &format!("{name} {new}"), old_spec, new_spec)?)
        }
        TemplateCommand::Rollback { name, to, dry_run } => {
            let versions = versions(&mut client, &name).await?;
            let spec = version(&versions, &name, to)?;
            if dry_run {
                return preview(&mut client, &name, spec).await;
            }
            let mut template = client.ask(Method::GET, &template_path(&name), None).await?;
            template["spec"] = spec.clone();
            let template = client.ask(Method::PUT, &template_path(&name), Some(&template)).await?;
            let now = &template["metadata"]["generation"];
            super::show::print(&format!("{name} is as in version {to} again, as version {now}\n"))
        }
        TemplateCommand::Remove { name } => {
            client.ask(Method::DELETE, &template_path(&name), None).await?;
            super::show::print(&format!("removed {name}\n"))
        }
    }
}

/// Returns a template; `None` if there is none of this name.
async fn find(client: &mut ApiClient, name: &str) -> anyhow::Result<Option<Value>> {
    match client.ask(Method::GET, &template_path(name), None).await {
        Err(error) if exit_code(&error) == ExitStatus::NotFound => Ok(None),
        found => found.map(Some),
    }
}

/// Sets format and files in a spec, and what else is given. What is not given stays as it is.
fn set_spec(
    spec: &mut Value,
    format: Format,
    data: Map<String, Value>,
    others: [(&str, Option<PathBuf>); 2],
) -> anyhow::Result<()> {
    spec["format"] = format.to_string().into();
    spec["data"] = Value::Object(data);
    for (field, file) in others {
        if let Some(file) = file {
            spec[field] = read_values(&file)?;
        }
    }
    Ok(())
}

/// Returns the files of a template, which are texts.
fn texts(files: Vec<(String, Vec<u8>)>) -> anyhow::Result<Map<String, Value>> {
    let text = |(name, content)| match String::from_utf8(content) {
        Ok(text) => Ok((name, Value::from(text))),
        Err(_) => Err(anyhow::anyhow!("{name}: not UTF-8: the files of a template are texts")),
    };
    files.into_iter().map(text).collect()
}

fn template_path(name: &str) -> String {
    object_path(Kind::ConfigTemplate, "", name)
}

/// Returns the kept versions of a template.
async fn versions(client: &mut ApiClient, name: &str) -> anyhow::Result<Vec<Value>> {
    Ok(items(client.ask(Method::GET, &format!("{}/versions", template_path(name)), None).await?))
}

/// Returns the spec of a version.
fn version<'a>(versions: &'a [Value], name: &str, wanted: u64) -> anyhow::Result<&'a Value> {
    let number = |template: &Value| template["metadata"]["generation"].as_u64();
    let found = versions.iter().find(|template| number(template) == Some(wanted));
    found.map(|template| &template["spec"]).ok_or_else(|| {
        let kept: Vec<_> = versions.iter().filter_map(number).map(|number| number.to_string()).collect();
        not_found(format!("template {name} has no version {wanted}; it has {}", kept.join(", ")))
    })
}

/// Returns the difference of two specs: of each file, and of what is no file.
fn diff_specs(old_name: &str, new_name: &str, old: &Value, new: &Value) -> anyhow::Result<String> {
    let files = |spec: &Value| spec["data"].as_object().cloned().unwrap_or_default();
    let (old_files, new_files) = (files(old), files(new));
    let names: BTreeSet<&String> = old_files.keys().chain(new_files.keys()).collect();
    let text =
        |files: &Map<String, Value>, name| files.get(name).and_then(Value::as_str).unwrap_or_default().to_owned();
    let mut shown = String::new();
    for name in names {
        let (old_text, new_text) = (text(&old_files, name), text(&new_files, name));
        let (old_name, new_name) = (format!("{old_name} {name}"), format!("{new_name} {name}"));
        shown.push_str(&unified_diff(&old_name, &new_name, &old_text, &new_text));
    }
    let rest = |spec: &Value| {
        let mut rest = spec.clone();
        rest.as_object_mut().map(|rest| rest.shift_remove("data"));
        serde_saphyr::to_string(&rest)
    };
    shown.push_str(&unified_diff(old_name, new_name, &rest(old)?, &rest(new)?));
    Ok(shown)
}

/// Prints which hosts' configs a spec would change, and how.
async fn preview(client: &mut ApiClient, name: &str, spec: &Value) -> anyhow::Result<()> {
    let path = format!("{}/preview", template_path(name));
    let preview = client.ask(Method::POST, &path, Some(&json!({"spec": spec}))).await?;
    let hosts = preview["hosts"].as_array().map(Vec::as_slice).unwrap_or_default();
    let mut shown = String::new();
    for host in hosts {
        let of = host["name"].as_str().unwrap_or_default();
        if let Some(error) = host["error"].as_str() {
            shown.push_str(&format!("{of}: {error}\n"));
        }
        for file in host["files"].as_array().into_iter().flatten() {
            let text = |field: &str| file[field].as_str().unwrap_or_default();
            let file_name = format!("{of} {}", text("name"));
            let difference = unified_diff(&file_name, &file_name, text("before"), text("after"));
            shown.push_str(&difference);
        }
    }
    let (unchanged, omitted) = (&preview["unchanged"], preview["omitted"].as_u64().unwrap_or_default());
    let changed = hosts.len() as u64 + omitted;
    shown.push_str(&format!("{changed} hosts change, {unchanged} stay as they are (dry run)\n"));
    if omitted > 0 {
        note(&format!("{omitted} changed hosts not shown: the answer would be too large"));
    }
    super::show::print(&shown)
}

/// Shows templates, by name or all.
async fn show_all(client: &mut ApiClient, names: Vec<String>, view: ViewArgs) -> anyhow::Result<()> {
    let wanted = [Wanted { kind: Kind::ConfigTemplate, names }];
    show_objects(client, &wanted, &SelectionArgs::of_namespace(""), view).await
}

/// Reads values by name from a file of YAML or JSON.
fn read_values(file: &PathBuf) -> anyhow::Result<Value> {
    let text = std::fs::read_to_string(file).with_context(|| file.display().to_string())?;
    serde_saphyr::from_str(&text).map_err(|error| anyhow::anyhow!("{}: {}", file.display(), yaml_error(&error)))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_not_given_stays() {
        let mut spec = json!({"format": "kickstart", "data": {"old": "x"}, "defaults": {"a": 1}, "schema": {"a": {"type": "integer"}}});
        let directory = tempfile::tempdir().unwrap();
        let defaults = directory.path().join("defaults.yaml");
        std::fs::write(&defaults, "a: 2\n").unwrap();
        let data = texts(vec![("ks.cfg".to_owned(), b"text".to_vec())]).unwrap();
        set_spec(&mut spec, Format::Kickstart, data.clone(), [("defaults", None), ("schema", None)]).unwrap();
        let expected = json!({"format": "kickstart", "data": {"ks.cfg": "text"}, "defaults": {"a": 1}, "schema": {"a": {"type": "integer"}}});
        assert_eq!(spec, expected);
        set_spec(&mut spec, Format::Kickstart, data, [("defaults", Some(defaults)), ("schema", None)]).unwrap();
        assert_eq!((&spec["defaults"], &spec["schema"]), (&json!({"a": 2}), &expected["schema"]));
    }

    #[test]
    fn the_files_of_a_template_are_texts() {
        let error = texts(vec![("user-data".to_owned(), b"\x1f\x8b\xff".to_vec())]).unwrap_err().to_string();
        assert!(error.contains("user-data: not UTF-8"), "{error}");
    }
}
