use serde_saphyr::Error;

/// Says what is wrong with a YAML text, and where: without the parser's snippet, which shows lines that may hold
/// secrets, and without its advice to programmers.
pub fn yaml_fault(error: &Error) -> String {
    let plain = error.without_snippet();
    match (plain, plain.location()) {
        (Error::DuplicateMappingKey { key, .. }, Some(at)) => {
            let key = key.as_ref().map(|key| format!(" {key:?}")).unwrap_or_default();
            let (line, column) = (at.line(), at.column());
            format!("the key{key} stands twice in one mapping, the second time at line {line}, column {column}")
        }
        _ => plain.to_string(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_key_that_stands_twice_is_named_with_its_line() {
        let error = serde_saphyr::from_str::<serde_json::Value>("a: 1\nb:\n  c: 1\n  c: geheim\n").unwrap_err();
        let told = yaml_fault(&error);
        assert_eq!(told, "the key \"c\" stands twice in one mapping, the second time at line 4, column 3");
        let error = serde_saphyr::from_str::<serde_json::Value>("a: [geheim\n").unwrap_err();
        assert!(yaml_fault(&error).contains("line") && !yaml_fault(&error).contains("geheim"));
    }
}
