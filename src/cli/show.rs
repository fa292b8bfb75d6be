use std::io::Write;

use serde_json::Value;

/// Says how objects are shown.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, clap::ValueEnum)]
pub enum Output {
    #[default]
    Table,
    Json,
    Yaml,
}

/// Is a column of a table: its head, and where in an object its text is; of several places, the first that is filled.
pub type Column = (&'static str, &'static str);

/// Shows one object, or several, as asked.
///
/// # Errors
/// The terminal, or whoever reads, is gone.
pub fn show(output: Output, value: &Value, columns: &[Column]) -> anyhow::Result<()> {
    let text = match output {
        Output::Json => format!("{}\n", serde_json::to_string_pretty(value)?),
        Output::Yaml => serde_saphyr::to_string(value)?,
        Output::Table => {
            let one = std::slice::from_ref(value);
            let rows = value.as_array().map_or(one, Vec::as_slice);
            table(rows, columns)
        }
    };
    print(&text)
}

/// Writes to standard output; a reader who has seen enough is no failure.
pub fn print(text: &str) -> anyhow::Result<()> {
    match std::io::stdout().lock().write_all(text.as_bytes()) {
        Err(error) if error.kind() == std::io::ErrorKind::BrokenPipe => Ok(()),
        other => Ok(other?),
    }
}

/// Lays out a table that the server made.
pub fn server_table(table: &Value, wide: bool) -> String {
    let none = Vec::new();
    let list = |value: &'_ Value| value.as_array().cloned().unwrap_or_default();
    let columns = list(&table["columnDefinitions"]);
    let shown: Vec<usize> =
        (0..columns.len()).filter(|at| wide || columns[*at]["priority"].as_i64() == Some(0)).collect();
    let head = shown.iter().map(|at| cell(columns[*at].get("name")).to_uppercase()).collect();
    let rows = table["rows"].as_array().unwrap_or(&none).iter().map(|row| {
        let cells = list(&row["cells"]);
        shown.iter().map(|at| cell(cells.get(*at))).collect()
    });
    lay_out(&std::iter::once(head).chain(rows).collect::<Vec<Vec<String>>>())
}

fn table(rows: &[Value], columns: &[Column]) -> String {
    let head = columns.iter().map(|(head, _)| (*head).to_owned()).collect::<Vec<_>>();
    let cells = rows.iter().map(|row| {
        columns.iter().map(|(_, places)| cell(places.split('|').find_map(|place| row.pointer(place)))).collect()
    });
    let lines: Vec<Vec<String>> = std::iter::once(head).chain(cells).collect();
    lay_out(&lines)
}

fn lay_out(lines: &[Vec<String>]) -> String {
    let width = |column: usize| lines.iter().map(|line| line[column].chars().count()).max().unwrap_or_default();
    let widths: Vec<usize> = (0..lines.first().map_or(0, Vec::len)).map(width).collect();
    let mut out = String::new();
    for line in lines {
        let padded = line.iter().zip(&widths).map(|(cell, width)| format!("{cell:width$}"));
        out.push_str(padded.collect::<Vec<_>>().join("   ").trim_end());
        out.push('\n');
    }
    out
}

fn cell(value: Option<&Value>) -> String {
    match value {
        None | Some(Value::Null) => "-".into(),
        Some(Value::String(text)) if text.is_empty() => "-".into(),
        Some(Value::String(text)) => text.clone(),
        Some(Value::Array(items)) => items.iter().map(|item| cell(Some(item))).collect::<Vec<_>>().join(","),
        Some(Value::Object(map)) => {
            map.iter().map(|(key, value)| format!("{key}={}", cell(Some(value)))).collect::<Vec<_>>().join(" ")
        }
        Some(other) => other.to_string(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn a_table_lines_up() {
        let rows = [json!({"a": "x", "b": {"c": 10}}), json!({"a": "longer"})];
        assert_eq!(table(&rows, &[("A", "/a"), ("COUNT", "/b/c")]), "A        COUNT\nx        10\nlonger   -\n");
        assert_eq!(table(&rows, &[("ONE", "/b/c|/a")]), "ONE\n10\nlonger\n");
    }
}
