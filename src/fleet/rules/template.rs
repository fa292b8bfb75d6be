//! Rules for the spec of a template of configs.

use super::super::{BootConfigSpec, ConfigTemplateSpec, TemplateReference, Values};
use super::{Invalid, invalid};

/// Maximum number of files, of described values and of defaults.
const MAX_ENTRIES: usize = 64;
/// Maximum size of all files and defaults, in octets.
const MAX_SIZE: usize = 256 << 10;

/// Checks the sizes of a template and the types of its defaults. Admission checks its texts.
///
/// # Errors
/// The first rule that it breaks.
pub fn check_template(spec: &ConfigTemplateSpec) -> Result<(), Invalid> {
    for (field, count) in
        [("spec.data", spec.data.len()), ("spec.defaults", spec.defaults.len()), ("spec.schema", spec.schema.len())]
    {
        if count > MAX_ENTRIES {
            return invalid(field, format!("{count} entries: the maximum is {MAX_ENTRIES}"));
        }
    }
    let defaults = serde_json::to_string(&spec.defaults).map_or(0, |text| text.len());
    let size = defaults + spec.data.iter().map(|(name, text)| name.len() + text.len()).sum::<usize>();
    if size > MAX_SIZE {
        return invalid("spec.data", format!("{size} octets with the defaults: the maximum is {MAX_SIZE}"));
    }
    let main = spec.format.main_file();
    if !spec.data.contains_key(main) {
        return invalid("spec.data", format!("missing {main}, the main file of {}", spec.format));
    }
    for (name, value) in &spec.defaults {
        let field = format!("spec.defaults.{name}").into();
        match spec.schema.get(name) {
            None if !spec.schema.is_empty() => {
                return Err(Invalid { field, message: "spec.schema does not have this value".into() });
            }
            Some(rule) if !rule.r#type.admits(value) => {
                let message = format!("found {value}, expected the type {} of spec.schema", rule.r#type);
                return Err(Invalid { field, message });
            }
            None | Some(_) => {}
        }
    }
    Ok(())
}

/// Maximum size of the values of a host, in octets.
const MAX_VALUES_SIZE: usize = 64 << 10;

/// Checks the sizes of a host's values.
pub(super) fn check_values(values: Option<&Values>) -> Result<(), Invalid> {
    let Some(values) = values else { return Ok(()) };
    let size = serde_json::to_string(values).map_or(0, |text| text.len());
    match (values.len(), size) {
        (count, _) if count > MAX_ENTRIES => {
            invalid("spec.values", format!("{count} entries: the maximum is {MAX_ENTRIES}"))
        }
        (_, size) if size > MAX_VALUES_SIZE => {
            invalid("spec.values", format!("{size} octets: the maximum is {MAX_VALUES_SIZE}"))
        }
        _ => Ok(()),
    }
}

/// Checks a config with a template: it has no files of its own.
///
/// # Errors
/// The first rule that it breaks.
pub fn check_template_reference(spec: &BootConfigSpec) -> Result<(), Invalid> {
    let Some(reference) = &spec.template else { return Ok(()) };
    for (field, is_empty) in [("spec.data", spec.data.is_empty()), ("spec.binaryData", spec.binary_data.is_empty())] {
        if !is_empty {
            return invalid(field, "the files come from spec.template: remove one of both".into());
        }
    }
    if spec.confidential {
        let message = "not allowed with spec.template: whoever reads the template and the host's values has the files";
        return invalid("spec.confidential", message.into());
    }
    let most = TemplateReference::MAX_PINS;
    if reference.pins.len() > most {
        return invalid("spec.template.pins", format!("{} pins: the maximum is {most}", reference.pins.len()));
    }
    match reference.pins.iter().any(|pin| pin.match_labels.is_empty()) {
        true => invalid("spec.template.pins", "matchLabels: empty; set spec.template.version for all hosts".into()),
        false => Ok(()),
    }
}

/// Checks a change of a template: configs name its format.
///
/// # Errors
/// The format changes.
pub fn check_template_change(before: &ConfigTemplateSpec, after: &ConfigTemplateSpec) -> Result<(), Invalid> {
    match before.format == after.format {
        true => Ok(()),
        false => {
            let message = format!("{} cannot become {}: make another template", before.format, after.format);
            invalid("spec.format", message)
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::fleet::Format;

    fn spec(body: serde_json::Value) -> ConfigTemplateSpec {
        serde_json::from_value(body).unwrap()
    }

    #[test]
    fn a_template_is_bounded_and_its_defaults_have_their_types() {
        use serde_json::json;
        let data = json!({"ks.cfg": "text\n"});
        let schema = json!({"cpus": {"type": "integer"}, "name": {"type": "string", "required": true}});
        let big = json!({"ks.cfg": "x".repeat(MAX_SIZE)});
        let many: serde_json::Map<_, _> = (0..=MAX_ENTRIES).map(|at| (at.to_string(), json!(1))).collect();
        for (body, field) in [
            (json!({"format": "kickstart", "data": data}), None),
            (json!({"format": "kickstart", "data": data, "defaults": {"cpus": 2}, "schema": schema}), None),
            (json!({"format": "kickstart", "data": data, "defaults": {"free": [1]}}), None),
            (json!({"format": "preseed", "data": data}), Some("spec.data")),
            (json!({"format": "kickstart", "data": big}), Some("spec.data")),
            (json!({"format": "kickstart", "data": data, "defaults": many}), Some("spec.defaults")),
            (
                json!({"format": "kickstart", "data": data, "defaults": {"cpus": "2"}, "schema": schema}),
                Some("spec.defaults.cpus"),
            ),
            (
                json!({"format": "kickstart", "data": data, "defaults": {"cpu": 2}, "schema": schema}),
                Some("spec.defaults.cpu"),
            ),
        ] {
            let found = check_template(&spec(body)).err().map(|error| error.field.into_owned());
            assert_eq!(found.as_deref(), field);
        }
    }

    #[test]
    fn a_config_with_a_template_has_no_files_and_no_secrets() {
        use serde_json::json;
        let template = json!({"name": "t"});
        let pins = json!({"name": "t", "pins": vec![json!({"matchLabels": {"a": "b"}, "version": 1}); 33]});
        let empty = json!({"name": "t", "pins": [{"matchLabels": {}, "version": 1}]});
        for (body, field) in [
            (json!({"format": "kickstart", "template": template}), None),
            (json!({"format": "kickstart", "template": template, "data": {"a": "b"}}), Some("spec.data")),
            (
                json!({"format": "kickstart", "template": template, "binaryData": {"a": "YQ=="}}),
                Some("spec.binaryData"),
            ),
            (json!({"format": "kickstart", "template": template, "confidential": true}), Some("spec.confidential")),
            (json!({"format": "kickstart", "template": pins}), Some("spec.template.pins")),
            (json!({"format": "kickstart", "template": empty}), Some("spec.template.pins")),
            (json!({"format": "kickstart", "data": {"a": "b"}, "confidential": true}), None),
        ] {
            let spec: BootConfigSpec = serde_json::from_value(body.clone()).unwrap();
            let found = check_template_reference(&spec).err().map(|error| error.field.into_owned());
            assert_eq!(found.as_deref(), field, "{body}");
        }
    }

    #[test]
    fn the_format_stays() {
        let one = spec(serde_json::json!({"format": "kickstart", "data": {"ks.cfg": "text\n"}}));
        assert!(check_template_change(&one, &one).is_ok());
        let other = ConfigTemplateSpec { format: Format::Script, ..one.clone() };
        assert_eq!(check_template_change(&one, &other).unwrap_err().field, "spec.format");
    }
}
