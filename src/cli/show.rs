//! Output of objects: tables, JSON and YAML.

use std::io::{IsTerminal, Write};

use comfy_table::{ContentArrangement, Table, presets};
use serde_json::Value;

use crate::fleet::text::{printable, printable_lines};

/// Output format of objects.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, clap::ValueEnum)]
pub enum OutputFormat {
    /// Aligned columns
    #[default]
    Table,
    /// JSON
    Json,
    /// YAML
    Yaml,
}

/// A column of a table: its header, and the JSON pointers of its value, separated by `|`. The first one with a value
/// is shown.
pub type Column = (&'static str, &'static str);

/// Prints one object, or an array of objects.
///
/// # Errors
/// Standard output cannot be written.
pub fn show(output: OutputFormat, value: &Value, columns: &[Column]) -> anyhow::Result<()> {
    let text = match output {
        OutputFormat::Json => format!("{}\n", serde_json::to_string_pretty(value)?),
        OutputFormat::Yaml => serde_saphyr::to_string(value)?,
        OutputFormat::Table => {
            let one = std::slice::from_ref(value);
            let rows = value.as_array().map_or(one, Vec::as_slice);
            table(rows, columns)
        }
    };
    print(&text)
}

/// Writes to standard output, without the control characters that a machine or medium may send. A closed pipe is not an
/// error.
///
/// # Errors
/// Standard output cannot be written.
pub fn print(text: &str) -> anyhow::Result<()> {
    let mut out = std::io::stdout().lock();
    let text = if out.is_terminal() { printable_lines(text) } else { text.into() };
    match out.write_all(text.as_bytes()) {
        Err(error) if error.kind() == std::io::ErrorKind::BrokenPipe => Ok(()),
        other => Ok(other?),
    }
}

/// Formats a table of the server (`meta.k8s.io/v1`); `wide` includes the columns of lower priority.
pub fn format_server_table(table: &Value, wide: bool) -> String {
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
    align(head, rows)
}

/// Formats objects as a table.
fn table(rows: &[Value], columns: &[Column]) -> String {
    let head = columns.iter().map(|(head, _)| (*head).to_owned()).collect::<Vec<_>>();
    let cells = rows.iter().map(|row| {
        columns.iter().map(|(_, pointers)| cell(pointers.split('|').find_map(|pointer| row.pointer(pointer)))).collect()
    });
    align(head, cells)
}

/// Aligns the columns of a table, without borders, as kubectl does.
fn align(head: Vec<String>, rows: impl Iterator<Item = Vec<String>>) -> String {
    let mut table = Table::new();
    table.load_style(presets::NOTHING).set_content_arrangement(ContentArrangement::Disabled);
    table.set_header(head).add_rows(rows);
    table.column_iter_mut().for_each(|column| _ = column.set_padding((0, 3)));
    table.trim_fmt() + "\n"
}

/// Returns the text of a value; `-` for none.
fn cell(value: Option<&Value>) -> String {
    match value {
        None | Some(Value::Null) => "-".into(),
        Some(Value::String(text)) if text.is_empty() => "-".into(),
        Some(Value::String(text)) => printable(text).into_owned(),
        Some(Value::Array(items)) => items.iter().map(|item| cell(Some(item))).collect::<Vec<_>>().join(","),
        Some(Value::Object(map)) => map
            .iter()
            .map(|(key, value)| format!("{}={}", printable(key), cell(Some(value))))
            .collect::<Vec<_>>()
            .join(" "),
        Some(other) => other.to_string(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn the_columns_of_a_table_are_aligned() {
        let rows = [json!({"a": "x", "b": {"c": 10}}), json!({"a": "longer"})];
        assert_eq!(table(&rows, &[("A", "/a"), ("COUNT", "/b/c")]), "A        COUNT\nx        10\nlonger   -\n");
        let hostile = [json!({"a": "\u{1b}[2Jx\ny\u{202e}", "b": {"\u{9b}c": 1}})];
        assert_eq!(table(&hostile, &[("A", "/a"), ("B", "/b")]), "A        B\n[2Jx y   c=1\n");
        assert_eq!(table(&rows, &[("ONE", "/b/c|/a")]), "ONE\n10\nlonger\n");
    }
}
