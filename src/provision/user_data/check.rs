//! The check of user-data by the kinds of its parts. Pure.

use serde_json::Value;

use super::super::cloud_config;
use super::super::yaml::yaml_mapping;
use super::{UserDataKind, UserDataPart, kind_of_text, parts};

/// Beginnings of the URLs that cloud-init includes; a path is a file of the machine.
const INCLUDED: [&str; 4] = ["http://", "https://", "file://", "/"];
/// Signs of a Jinja template's own syntax.
const JINJA: [&str; 3] = ["{{", "{%", "{#"];

/// Checks user-data. Returns warnings.
///
/// # Errors
/// Returns a message for each wrong part.
pub fn check(bytes: &[u8]) -> Result<Vec<String>, Vec<String>> {
    let parts = parts(bytes).map_err(|message| vec![message])?;
    if parts.iter().all(|part| part.kind.is_none()) {
        return Err(vec![nothing_found(&parts)]);
    }
    // A handler may be for any type.
    let has_handler = parts.iter().any(|part| part.kind == Some(UserDataKind::PartHandler));
    let (mut errors, mut warnings) = (Vec::new(), Vec::new());
    for part in &parts {
        let of_part = |message: String| match part.place.is_empty() {
            true => message,
            false => format!("{}: {message}", part.place),
        };
        match part.kind {
            Some(kind) => errors.extend(check_part(kind, &part.text).err().map(of_part)),
            None if has_handler => {}
            None => warnings.push(of_part("cloud-init ignores it: no type or first line that it knows".into())),
        }
        if part.kind == Some(UserDataKind::Script) && !part.text.trim_start().starts_with("#!") {
            warnings.push(of_part("a script without a first line #! cannot be run".into()));
        }
    }
    if errors.is_empty() { Ok(warnings) } else { Err(errors) }
}

/// Returns the message for user-data of which cloud-init uses nothing.
fn nothing_found(parts: &[UserDataPart]) -> String {
    let expected =
        "expected #cloud-config, another first line of cloud-init, or a MIME message with the header MIME-Version";
    match parts {
        [part] if part.text.starts_with('\u{feff}') => {
            "line 1: the file begins with a byte order mark (U+FEFF), with which cloud-init ignores it: remove it"
                .into()
        }
        [part] if part.place.is_empty() => {
            let first = part.text.trim_start().lines().next().unwrap_or_default().trim_end();
            let first: String = first.chars().take(80).collect();
            format!("line 1: found {first:?}, {expected}: cloud-init ignores other files")
        }
        _ => {
            let places: Vec<&str> = parts.iter().map(|part| part.place.as_str()).collect();
            format!("cloud-init ignores each part: {}; expected a type or first line that it knows", places.join(", "))
        }
    }
}

/// Checks the text of a part.
fn check_part(kind: UserDataKind, text: &str) -> Result<(), String> {
    match kind {
        UserDataKind::CloudConfig => cloud_config::check(&yaml_mapping(text)?),
        UserDataKind::JsonPatch => check_json_patch(text),
        UserDataKind::Include => check_include(text),
        UserDataKind::Jinja => check_template(text),
        UserDataKind::Archive | UserDataKind::Script | UserDataKind::BootHook | UserDataKind::PartHandler => Ok(()),
    }
}

/// Checks the list of URLs of an `#include`. cloud-init fails for one that it cannot fetch.
fn check_include(text: &str) -> Result<(), String> {
    let mut has_url = false;
    for (index, line) in text.lines().enumerate() {
        let url = url_of(line);
        if url.is_empty() || url.starts_with('#') {
            continue;
        }
        let lower = url.to_ascii_lowercase();
        if !INCLUDED.iter().any(|start| lower.starts_with(start)) {
            return Err(format!("line {}: expected a URL to include, as in http://192.0.2.1/user-data", index + 1));
        }
        has_url = true;
    }
    if has_url { Ok(()) } else { Err("no URL after #include".into()) }
}

/// Returns the URL in a line of an `#include`.
fn url_of(line: &str) -> &str {
    let start = |word: &str| line.get(..word.len()).filter(|start| start.eq_ignore_ascii_case(word));
    let word = start("#include-once").or_else(|| start("#include")).unwrap_or_default();
    line[word.len()..].trim()
}

/// Checks a list of operations (RFC 6902).
fn check_json_patch(text: &str) -> Result<(), String> {
    const WORD: &str = "#cloud-config-jsonp";
    let text = text.trim_start();
    let json = match text.get(..WORD.len()) {
        Some(start) if start.eq_ignore_ascii_case(WORD) => &text[WORD.len()..],
        _ => text,
    };
    // The line of an error is that of the file: the first word is in it.
    let lines_before = text[..text.len() - json.len()].matches('\n').count();
    let parsed: Value = serde_json::from_str(json).map_err(|error| {
        let (line, column) = (lines_before + error.line(), error.column());
        format!("invalid JSON at line {line} column {column}: expected a list of operations (RFC 6902)")
    })?;
    let operations = parsed.as_array().ok_or("expected a list of operations (RFC 6902)")?;
    for (index, operation) in operations.iter().enumerate() {
        serde_json::from_value::<json_patch::PatchOperation>(operation.clone())
            .map_err(|_| format!("/{index}: expected an operation with op and path (RFC 6902)"))?;
    }
    Ok(())
}

/// Checks a Jinja template: its text must be of a kind that may be a template. Without Jinja's syntax it is checked whole.
fn check_template(text: &str) -> Result<(), String> {
    let text = text.trim_start();
    let rest = match text.starts_with("##") {
        true => text.split_once('\n').map_or("", |(_, rest)| rest),
        false => text,
    };
    let is_rendered = |text: &str| JINJA.iter().any(|sign| text.contains(sign));
    match kind_of_text(rest) {
        Some(UserDataKind::CloudConfig) if !is_rendered(rest) => {
            yaml_mapping(text).and_then(|config| cloud_config::check(&config))
        }
        Some(UserDataKind::CloudConfig | UserDataKind::Script | UserDataKind::BootHook) => Ok(()),
        // The first line may be the result of an expression.
        None if rest.trim_start().lines().next().is_some_and(is_rendered) => Ok(()),
        _ => Err("line 2: expected #cloud-config, #! or #cloud-boothook after ## template: jinja".into()),
    }
}

#[cfg(test)]
mod tests {
    use super::super::tests::packed;
    use super::*;

    fn message(parts: &[(&str, &str)]) -> String {
        let part = |(kind, body): &(&str, &str)| format!("--b\nContent-Type: {kind}\n\n{body}\n");
        let parts: String = parts.iter().map(part).collect();
        format!("MIME-Version: 1.0\nContent-Type: multipart/mixed; boundary=b\n\n{parts}--b--\n")
    }

    #[test]
    fn user_data_of_each_kind_is_accepted() {
        for text in [
            "#!/bin/sh\n",
            "#cloud-boothook\n#!/bin/sh\n",
            "#part-handler\ndef list_types(): return ['text/x']\n",
            "#include-once\nhttps://192.0.2.1/x\n# a comment\n/run/x\n",
            "#include http://192.0.2.1/x\n",
            "#cloud-config-jsonp\n[{\"op\": \"add\", \"path\": \"/a\", \"value\": 1}]\n",
            "## template: jinja\n#cloud-config\nhostname: {{ v1.local_hostname }}\nruncmd: {% if x %}a{% endif %}\n",
            "## template: jinja\n#!/bin/sh\necho {{ x }}\n",
            "## template: jinja\n{{ x }}\n",
            "#cloud-config-archive\n- '#!/bin/sh'\n- {type: text/cloud-config, content: 'packages: [vim]'}\n",
        ] {
            assert_eq!(check(text.as_bytes()), Ok(vec![]), "{text}");
            assert_eq!(check(&packed(text.as_bytes())), Ok(vec![]), "{text}");
        }
        let message = message(&[("text/cloud-config", "packages: [vim]"), ("text/x-shellscript", "#!/bin/sh")]);
        assert_eq!(check(message.as_bytes()), Ok(vec![]));
    }

    #[test]
    fn an_error_names_the_part_and_the_line() {
        for (text, expected) in [
            ("\u{feff}#cloud-config\n".to_owned(), "byte order mark"),
            ("hello\n".to_owned(), "line 1: found \"hello\", expected #cloud-config"),
            ("#include\nnot a url\n".to_owned(), "line 2: expected a URL"),
            ("#include\n# nothing\n".to_owned(), "no URL"),
            ("#cloud-config-jsonp\n[{\"op\":\n".to_owned(), "invalid JSON at line 3"),
            ("#cloud-config-jsonp\n[{\"op\": \"add\"}]\n".to_owned(), "/0: expected an operation"),
            ("## template: jinja\nhostname: a\n".to_owned(), "line 2: expected #cloud-config"),
            ("## template: jinja\n#cloud-config\na: [\n".to_owned(), "invalid YAML"),
            ("#cloud-config-archive\n- 'packages: vim'\n".to_owned(), "entry 1: /packages: expected a list"),
            (
                message(&[("text/cloud-config", "a: 1\nb: [\n")]),
                "part 1 (text/cloud-config, from line 7): invalid YAML",
            ),
            (message(&[("text/plain", "hello")]), "ignores each part: part 1 (text/plain, from line 7)"),
        ] {
            let errors = check(text.as_bytes()).unwrap_err();
            assert!(errors.len() == 1 && errors[0].contains(expected), "{text}: {errors:?}");
        }
        let two = message(&[("text/cloud-config", "packages: vim"), ("text/cloud-config", "runcmd: ls")]);
        assert_eq!(check(two.as_bytes()).unwrap_err().len(), 2);
    }

    #[test]
    fn a_part_that_does_nothing_is_a_warning() {
        let ignored = message(&[("text/cloud-config", "a: 1"), ("application/pdf", "x"), ("text/x-shellscript", "ls")]);
        let warnings = check(ignored.as_bytes()).unwrap();
        assert!(
            warnings[0].starts_with("part 2 (application/pdf") && warnings[1].starts_with("part 3"),
            "{warnings:?}"
        );
        let handled = message(&[("text/part-handler", "#part-handler"), ("text/x-own", "x")]);
        assert_eq!(check(handled.as_bytes()), Ok(vec![]));
    }
}
