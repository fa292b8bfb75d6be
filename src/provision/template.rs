//! Templates of configs, in the language of Jinja. Pure: no files, no clock, no randomness; steps and output are bounded.

use std::collections::BTreeMap;
use std::fmt;
use std::io;
use std::net::IpAddr;
use std::ops::Range;

use minijinja::syntax::SyntaxConfig;
use minijinja::value::Serde;
use minijinja::{AutoEscape, Environment, Error, ErrorKind, UndefinedBehavior};
use serde_json::{Value, json};

use super::{FieldError, check, reports_completion, template_filters};
use crate::fleet::text::printable;
use crate::fleet::{
    BootConfigSpec, ConfigTemplateSpec, ConfigTemplateStatus, Host, Name, TemplateVersion, ValueRule, Values,
};

/// Maximum number of steps of one file.
const MAX_STEPS: u64 = 100_000;
/// Maximum size of all rendered files of a host, in octets.
const MAX_OUTPUT: usize = 1 << 20;
/// Maximum length of a tag or a value in an error, in characters.
const MAX_TAG: usize = 80;

/// The server as templates see it.
#[derive(Debug, Clone)]
pub struct TemplateSite {
    /// Prefix of our URLs, at the address that the machine reached.
    pub url: String,
    /// Our address.
    pub address: IpAddr,
}

/// What is wrong with the rendering of a config for a host.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub struct RenderError {
    /// Name of the template.
    pub template: Name,
    /// The version.
    pub version: u64,
    /// The file and the line, and what is wrong there.
    pub message: String,
}

impl fmt::Display for RenderError {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(out, "template {} version {}: {}", self.template, self.version, self.message)
    }
}

/// Checks that the texts of a template can be parsed.
///
/// # Errors
/// Returns all files that cannot, each with its line.
pub fn check_template(spec: &ConfigTemplateSpec) -> Result<(), Vec<FieldError>> {
    let environment = environment();
    let faults = spec.data.iter().filter_map(|(file, text)| {
        let wrong = environment.template_from_named_str(file, text).err()?;
        Some(FieldError { field: format!("spec.data.{file}"), message: explain(&wrong, text) })
    });
    let faults: Vec<_> = faults.collect();
    if faults.is_empty() { Ok(()) } else { Err(faults) }
}

/// Returns the status of a template that is to be stored: what its texts say.
pub fn template_status(spec: &ConfigTemplateSpec) -> ConfigTemplateStatus {
    let texts = BootConfigSpec { data: spec.data.clone(), ..no_files(spec) };
    // The call may come from a value.
    let is_known = |reports: &bool| *reports || !spec.data.values().any(|text| shows_values(text));
    let reports_completion = reports_completion(&texts).filter(is_known);
    let draft = TemplateVersion { version: 0, creation_timestamp: None, reports_completion, spec: None };
    ConfigTemplateStatus { versions: vec![draft] }
}

/// What a template sees of a host and of the server.
#[derive(Debug, Clone, PartialEq)]
pub struct TemplateScope(Value);

impl TemplateScope {
    /// Returns the size as text, in octets.
    pub fn size(&self) -> usize {
        self.0.to_string().len()
    }
}

/// Returns whether a text has a tag that shows anything else than what the host or the server is.
fn shows_values(text: &str) -> bool {
    let is_name = |letter: char| letter.is_alphanumeric() || "._".contains(letter);
    text.split("{{").skip(1).any(|rest| {
        let tag = rest.split("}}").next().unwrap_or_default().trim_matches('-').trim();
        !(tag.starts_with("host.") || tag.starts_with("site.")) || !tag.chars().all(is_name)
    })
}

/// Returns what a template sees.
///
/// # Errors
/// The schema does not admit the values of the host.
pub fn template_scope(spec: &ConfigTemplateSpec, host: &Host, site: &TemplateSite) -> Result<TemplateScope, String> {
    let values = values_of(spec, host)?;
    Ok(TemplateScope(json!({"host": host_scope(host), "site": site_scope(site), "values": values})))
}

/// Renders the files of a version of a template for a host, and checks them as those of a config.
///
/// # Errors
/// The file, the line and the variable by which it fails.
pub fn render(
    template: &Name,
    kept: &TemplateVersion,
    host: &Host,
    site: &TemplateSite,
) -> Result<BTreeMap<String, String>, RenderError> {
    let wrong = |message| RenderError { template: template.clone(), version: kept.version, message };
    let spec = kept.spec.as_deref().ok_or_else(|| wrong("its files are not kept".to_owned()))?;
    let scope = template_scope(spec, host, site).map_err(&wrong)?;
    let data = render_files(spec, &scope.0).map_err(&wrong)?;
    let rendered = BootConfigSpec { data, ..no_files(spec) };
    match check(&rendered) {
        Ok(_) => Ok(rendered.data),
        Err(faults) => {
            let file = |fault: &FieldError| fault.file().unwrap_or(&fault.field).to_owned();
            let texts: Vec<_> =
                faults.iter().map(|fault| format!("rendered {}: {}", file(fault), fault.message)).collect();
            Err(wrong(texts.join("; ")))
        }
    }
}

/// Returns a config in the format of a template, without files.
fn no_files(spec: &ConfigTemplateSpec) -> BootConfigSpec {
    BootConfigSpec::of_files(spec.format, [])
}

/// Returns the values of a host over the defaults (RFC 7386), which the schema admits.
fn values_of(spec: &ConfigTemplateSpec, host: &Host) -> Result<Value, String> {
    let mut values = Value::Object(spec.defaults.clone());
    if let Some(own) = &host.spec.values {
        json_patch::merge(&mut values, &Value::Object(Values::clone(own)));
    }
    let (schema, found) = (&spec.schema, values.as_object());
    if schema.is_empty() {
        return Ok(values);
    }
    let get = |name: &String| found.and_then(|values| values.get(name));
    let names = || schema.keys().map(String::as_str).collect::<Vec<_>>().join(", ");
    for name in found.into_iter().flat_map(|values| values.keys()) {
        if !schema.contains_key(name) {
            return Err(format!("spec.values.{name}: the template has no such value; it has {}", names()));
        }
    }
    for (name, ValueRule { r#type, required, .. }) in schema {
        match get(name) {
            Some(value) if !r#type.admits(value) => {
                return Err(format!("spec.values.{name}: expected the type {}, found {}", r#type, type_of(value)));
            }
            None if *required => return Err(format!("spec.values.{name}: missing; the template requires it")),
            Some(_) | None => {}
        }
    }
    Ok(values)
}

/// Returns the type of a value, in words. The value itself may be a secret that was given by mistake.
fn type_of(value: &Value) -> &'static str {
    match value {
        Value::Null => "null",
        Value::Bool(_) => "boolean",
        Value::Number(_) => "number",
        Value::String(_) => "string",
        Value::Array(_) => "array",
        Value::Object(_) => "object",
    }
}

/// Returns a host as templates see it. What is not known of it is undefined.
fn host_scope(host: &Host) -> Value {
    let (meta, spec, status) = (&host.metadata, &host.spec, &host.status);
    let mut scope = json!({
        "name": meta.name, "namespace": meta.namespace, "uid": meta.uid, "labels": meta.labels,
        "mac": spec.boot_mac_address, "ip": spec.ip, "address": spec.ip.or(status.address),
        "image": spec.image.image(), "instanceId": host.instance(), "uuid": status.uuid,
        "firmware": status.firmware.map(|firmware| firmware.to_string()),
    });
    if let Some(scope) = scope.as_object_mut() {
        scope.retain(|_, value| !value.is_null());
    }
    scope
}

fn site_scope(site: &TemplateSite) -> Value {
    json!({"url": site.url, "address": site.address})
}

/// Renders all files.
fn render_files(spec: &ConfigTemplateSpec, scope: &Value) -> Result<BTreeMap<String, String>, String> {
    let environment = environment();
    let mut left = MAX_OUTPUT;
    let mut files = BTreeMap::new();
    for (file, source) in &spec.data {
        let mut output = Output { text: Vec::new(), left };
        let rendered = environment
            .template_from_named_str(file, source)
            .and_then(|template| template.render_captured_to(Serde(scope), &mut output).map(drop));
        rendered.map_err(|wrong| format!("{file} {}", explain(&wrong, source)))?;
        left = output.left;
        let text = String::from_utf8(output.text).map_err(|_| format!("{file}: the output is not UTF-8"))?;
        files.insert(file.clone(), text);
    }
    Ok(files)
}

/// The output of a file, up to a size.
struct Output {
    text: Vec<u8>,
    left: usize,
}

impl io::Write for Output {
    fn write(&mut self, part: &[u8]) -> io::Result<usize> {
        self.left = self.left.checked_sub(part.len()).ok_or(io::ErrorKind::StorageFull)?;
        self.text.extend_from_slice(part);
        Ok(part.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

/// Returns the language: an undefined value is an error, and nothing is escaped.
fn environment() -> Environment<'static> {
    let mut environment = Environment::new();
    environment.set_undefined_behavior(UndefinedBehavior::Strict);
    environment.set_auto_escape_callback(|_| AutoEscape::None);
    let syntax = SyntaxConfig::builder().keep_trailing_newline(true).build();
    environment.set_syntax(syntax.expect("the delimiters are the usual ones"));
    environment.set_fuel(Some(MAX_STEPS));
    environment.remove_global("debug");
    template_filters::add(&mut environment);
    environment
}

/// Returns an error of a text with its line, and the tag in which it fails.
fn explain(wrong: &Error, source: &str) -> String {
    let line = wrong.line().map(|line| format!("line {line}: ")).unwrap_or_default();
    let tag = wrong.range().and_then(|range| tag_at(source, range)).map(shortened).unwrap_or_default();
    let detail = wrong.detail().map(|detail| format!(": {}", printable(detail))).unwrap_or_default();
    match wrong.kind() {
        ErrorKind::UndefinedError => {
            let is_name = |letter: char| letter.is_alphanumeric() || "._".contains(letter);
            let what = if tag.chars().all(is_name) { tag } else { format!("a value in `{tag}`") };
            format!("{line}{what} is undefined: set it in spec.values of the host or spec.defaults of the template")
        }
        ErrorKind::OutOfFuel => format!("{line}more than {MAX_STEPS} steps"),
        ErrorKind::WriteFailure => format!("{line}the files are larger than {MAX_OUTPUT} octets"),
        kind if tag.is_empty() => format!("{line}{kind}{detail}"),
        kind => format!("{line}{kind}{detail} in `{tag}`"),
    }
}

/// Returns the content of the tag that contains a range of a text.
fn tag_at(source: &str, range: Range<usize>) -> Option<&str> {
    let (before, after) = (source.get(..range.start)?, source.get(range.end..)?);
    let start = before.rfind("{{").max(before.rfind("{%"))? + 2;
    let ends = [after.find("}}"), after.find("%}")];
    let end = range.end + ends.into_iter().flatten().min()?;
    source.get(start..end).map(|tag| tag.trim_matches('-').trim())
}

/// Returns a text as one line of bounded length.
fn shortened(text: &str) -> String {
    let text = printable(text.trim());
    match text.char_indices().nth(MAX_TAG) {
        Some((end, _)) => format!("{}...", &text[..end]),
        None => text.into_owned(),
    }
}

#[cfg(test)]
mod tests;
