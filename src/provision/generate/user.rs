//! The users of a cloud-init request.

use std::collections::BTreeSet;

use schemars::JsonSchema;
use serde::Deserialize;
use serde_json::{Map, Value, json};

use super::super::FieldError;
use super::body::{display_value, field_error};
use super::ssh_key::ssh_key;

/// Maximum length of a user name, in characters (useradd(8)).
const MAX_USER_NAME_LENGTH: usize = 32;

/// A user of the machine.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, rename_all = "camelCase")]
pub struct User {
    /// Name of the user.
    pub name: String,
    /// SSH public keys in the format of authorized_keys, without options.
    #[serde(default)]
    ssh_keys: Vec<String>,
}

/// Returns the users of a cloud-config, and warnings. Each user is an administrator who logs in with a key.
///
/// # Errors
/// Returns the first invalid user.
pub fn users(given: &[User]) -> Result<(Vec<Value>, Vec<String>), FieldError> {
    let (mut users, mut warnings, mut names) = (Vec::new(), Vec::new(), BTreeSet::new());
    for (index, user) in given.iter().enumerate() {
        let field = format!("users[{index}]");
        check_user_name(&format!("{field}.name"), &user.name)?;
        if !names.insert(user.name.as_str()) {
            return Err(field_error(format!("{field}.name"), format!("duplicate user {}", user.name)));
        }
        let keys = user.ssh_keys.iter().enumerate();
        let keys = keys.map(|(index, key)| ssh_key(&format!("{field}.sshKeys[{index}]"), key));
        let keys = keys.collect::<Result<Vec<String>, FieldError>>()?;
        let mut entry = Map::new();
        entry.insert("name".into(), user.name.as_str().into());
        if user.name != "root" {
            entry.insert("shell".into(), "/bin/bash".into());
            entry.insert("sudo".into(), "ALL=(ALL) NOPASSWD:ALL".into());
            entry.insert("lock_passwd".into(), true.into());
        }
        match keys.is_empty() {
            true => warnings.push(format!("{field}: no SSH key: {} cannot log in", user.name)),
            false => drop(entry.insert("ssh_authorized_keys".into(), json!(keys))),
        }
        users.push(Value::Object(entry));
    }
    Ok((users, warnings))
}

/// Checks a user name.
///
/// # Errors
/// Returns the error of the field.
pub fn check_user_name(field: &str, name: &str) -> Result<(), FieldError> {
    if is_user_name(name) {
        return Ok(());
    }
    let expected = "1 to 32 lower-case letters, digits, '-' and '_', beginning with a letter or '_'";
    Err(field_error(field, format!("invalid user name {}: expected {expected}", display_value(name))))
}

/// Returns whether a text is a valid user name.
fn is_user_name(name: &str) -> bool {
    name.len() <= MAX_USER_NAME_LENGTH
        && name.starts_with(|sign: char| sign.is_ascii_lowercase() || sign == '_')
        && name.chars().all(|sign| sign.is_ascii_lowercase() || sign.is_ascii_digit() || "-_".contains(sign))
}
