//! Output of objects: tables, names, JSON and YAML.

use std::io::{IsTerminal, Write};
use std::os::fd::AsFd;

use comfy_table::{ColumnConstraint, ContentArrangement, Row, Table, presets};
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use serde_json::Value;

use crate::fleet::text::{printable, printable_lines};

use super::exit::OutputClosed;

/// Output format of objects.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, clap::ValueEnum)]
pub enum ObjectFormat {
    /// Aligned columns
    #[default]
    Table,
    /// Aligned columns, with those of lower priority
    Wide,
    /// kind/name, a line each
    Name,
    /// YAML
    Yaml,
    /// JSON
    Json,
}

/// Output format of what is no object, such as a timeline.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, clap::ValueEnum)]
pub enum OutputFormat {
    /// Aligned columns
    #[default]
    Table,
    /// YAML
    Yaml,
    /// JSON
    Json,
}

/// A column of a table: its header, and the JSON pointers of its value, separated by `|`. The first one with a value
/// is shown.
pub type Column = (&'static str, &'static str);

/// Phases of objects that somebody must look at.
const FAULTY: [&str; 2] = ["Broken", "Failed"];
/// Space between two columns.
const GAP: u16 = 3;
/// Width down to which a column of a narrow terminal is shortened.
const MIN_WIDTH: usize = 8;

/// Prints a value, or an array of values as rows.
///
/// # Errors
/// Standard output cannot be written.
pub fn show(output: OutputFormat, value: &Value, columns: &[Column]) -> anyhow::Result<()> {
    match output {
        OutputFormat::Json => print(&json_text(value)?),
        OutputFormat::Yaml => print(&serde_saphyr::to_string(value)?),
        OutputFormat::Table => {
            let one = std::slice::from_ref(value);
            TextTable::of_values(value.as_array().map_or(one, Vec::as_slice), columns).print()
        }
    }
}

/// Returns indented JSON, with its line break.
///
/// # Errors
/// None for a JSON value.
pub fn json_text(value: &Value) -> anyhow::Result<String> {
    Ok(format!("{}\n", serde_json::to_string_pretty(value)?))
}

/// Writes to standard output, without the control characters that a machine or medium may send. A closed pipe is not an
/// error: the command does its work to the end.
///
/// # Errors
/// Standard output cannot be written.
pub fn print(text: &str) -> anyhow::Result<()> {
    match print_or_end(text) {
        Err(error) if error.is::<OutputClosed>() => Ok(()),
        other => other,
    }
}

/// Writes a file to standard output, octet by octet. A terminal gets a text in printable characters, and no other file.
///
/// # Errors
/// The output cannot be written, or is a terminal and the file no text.
pub fn print_bytes(bytes: &[u8]) -> anyhow::Result<()> {
    match std::str::from_utf8(bytes) {
        Ok(text) => print(text),
        Err(_) if std::io::stdout().is_terminal() => {
            anyhow::bail!("the file is not text ({} octets): write it to a file with `>`", bytes.len())
        }
        Err(_) => match std::io::stdout().lock().write_all(bytes) {
            Err(error) if error.kind() == std::io::ErrorKind::BrokenPipe => Ok(()),
            other => Ok(other?),
        },
    }
}

/// Writes to standard output as `print` does. A closed pipe ends the command, which has nothing else to do.
///
/// # Errors
/// `OutputClosed` for a closed pipe; standard output cannot be written.
pub fn print_or_end(text: &str) -> anyhow::Result<()> {
    let mut out = std::io::stdout().lock();
    let text = if out.is_terminal() { printable_lines(text) } else { text.into() };
    match out.write_all(text.as_bytes()).and_then(|()| out.flush()) {
        Err(error) if error.kind() == std::io::ErrorKind::BrokenPipe => Err(OutputClosed.into()),
        other => Ok(other?),
    }
}

/// Prints a note for people to standard error: what the command did on its own, or found missing.
pub fn note(text: &str) {
    eprintln!("{}", printable_lines(text));
}

/// Returns whether standard output is a pipe whose reader has ended.
pub fn is_output_closed() -> bool {
    let out = std::io::stdout();
    // Errors are reported without being asked for.
    let mut polled = [PollFd::new(out.as_fd(), PollFlags::empty())];
    let ready = poll(&mut polled, PollTimeout::ZERO);
    ready.is_ok_and(|ready| ready > 0) && polled[0].revents().is_some_and(|events| events.contains(PollFlags::POLLERR))
}

/// Returns the width of the terminal that standard output is; none for a pipe or a file.
fn terminal_width() -> Option<usize> {
    let size = rustix::termios::tcgetwinsize(std::io::stdout()).ok()?;
    Some(usize::from(size.ws_col)).filter(|width| *width > 0)
}

/// A table of text.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TextTable {
    head: Vec<String>,
    rows: Vec<Vec<String>>,
}

impl TextTable {
    /// Returns the table of values.
    pub fn of_values(rows: &[Value], columns: &[Column]) -> Self {
        let head = columns.iter().map(|(head, _)| (*head).to_owned()).collect::<Vec<_>>();
        let cells = rows.iter().map(|row| {
            let value = |pointers: &str| cell(pointers.split('|').find_map(|pointer| row.pointer(pointer)));
            columns.iter().map(|(_, pointers)| value(pointers)).collect()
        });
        Self { head, rows: cells.collect() }
    }

    /// Returns a table of the server (`meta.k8s.io/v1`); `wide` includes the columns of lower priority. Where an object
    /// is faulty, the reason is shown in any case.
    pub fn of_server(table: &Value, wide: bool) -> Self {
        let none = Vec::new();
        let columns = table["columnDefinitions"].as_array().unwrap_or(&none);
        let has_faults = has_faults(table, columns);
        let is_shown = |column: &Value| {
            wide || column["priority"].as_i64() == Some(0) || (has_faults && column["name"] == "Message")
        };
        let shown: Vec<usize> = (0..columns.len()).filter(|at| is_shown(&columns[*at])).collect();
        let head = shown.iter().map(|at| cell(columns[*at].get("name")).to_uppercase()).collect();
        let rows = table["rows"].as_array().unwrap_or(&none).iter();
        let rows = rows.map(|row| shown.iter().map(|at| cell(row["cells"].get(*at))).collect());
        Self { head, rows: rows.collect() }
    }

    /// Adds a first column.
    pub fn prepend(&mut self, head: &str, cells: impl Iterator<Item = String>) {
        self.head.insert(0, head.to_owned());
        for (row, cell) in self.rows.iter_mut().zip(cells) {
            row.insert(0, cell);
        }
    }

    /// Changes the cells of the first column.
    pub fn map_first(&mut self, change: impl Fn(&str) -> String) {
        for first in self.rows.iter_mut().filter_map(|row| row.first_mut()) {
            *first = change(first);
        }
    }

    /// Returns whether the table has no rows.
    pub fn is_empty(&self) -> bool {
        self.rows.is_empty()
    }

    /// Prints the table. On a terminal that is too narrow cells are shortened, and columns at the end are left out; in
    /// a pipe or a file the table is complete.
    ///
    /// # Errors
    /// Standard output cannot be written.
    pub fn print(self) -> anyhow::Result<()> {
        let (text, omitted) = self.format(terminal_width());
        print(&text)?;
        if omitted > 0 {
            note(&format!("{omitted} columns not shown: the terminal is too narrow; -o yaml shows everything"));
        }
        Ok(())
    }

    /// Formats the table without borders, as kubectl does. Returns also the number of columns that the width leaves out.
    fn format(mut self, width: Option<usize>) -> (String, usize) {
        let widths: Vec<usize> = (0..self.head.len()).map(|column| self.content_width(column)).collect();
        let needed: usize = widths.iter().sum::<usize>() + widths.len().saturating_sub(1) * usize::from(GAP);
        let narrow = width.filter(|width| needed > *width);
        let mut omitted = 0;
        if let Some(width) = narrow {
            let kept = fitting(&widths, width);
            omitted = widths.len() - kept;
            self.head.truncate(kept);
            self.rows.iter_mut().for_each(|row| row.truncate(kept));
        }
        let mut table = Table::new();
        table.load_style(presets::NOTHING).set_content_arrangement(ContentArrangement::Disabled);
        if let Some(width) = narrow {
            table.set_content_arrangement(ContentArrangement::Dynamic);
            table.set_truncation_indicator("…");
            table.set_width(u16::try_from(width).unwrap_or(u16::MAX).saturating_add(GAP));
        }
        let line = |cells: Vec<String>| {
            let mut row = Row::from(cells);
            if narrow.is_some() {
                row.max_height(1);
            }
            row
        };
        table.set_header(line(self.head));
        table.add_rows(self.rows.into_iter().map(line));
        for (index, column) in table.column_iter_mut().enumerate() {
            column.set_padding((0, GAP));
            if narrow.is_some() && index == 0 {
                column.set_constraint(ColumnConstraint::ContentWidth);
            }
        }
        (table.trim_fmt() + "\n", omitted)
    }

    fn content_width(&self, column: usize) -> usize {
        let cells = self.rows.iter().filter_map(|row| row.get(column)).chain(self.head.get(column));
        cells.map(|cell| cell.chars().count()).max().unwrap_or(0)
    }
}

/// Returns whether a table of the server has a row of a faulty object, by its phase.
fn has_faults(table: &Value, columns: &[Value]) -> bool {
    let Some(phase) = columns.iter().position(|column| column["name"] == "Phase") else { return false };
    let mut rows = table["rows"].as_array().into_iter().flatten();
    rows.any(|row| FAULTY.iter().any(|faulty| row["cells"][phase] == *faulty))
}

/// Returns how many columns fit into a width if all but the first are shortened; at least one.
fn fitting(widths: &[usize], width: usize) -> usize {
    let mut used = 0;
    let fits = |(index, content): &(usize, &usize)| {
        let least = if *index == 0 { **content } else { MIN_WIDTH.min(**content) };
        used += least + if *index == 0 { 0 } else { usize::from(GAP) };
        used <= width
    };
    widths.iter().enumerate().take_while(fits).count().max(1)
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

    fn table(rows: &[Value], columns: &[Column]) -> String {
        TextTable::of_values(rows, columns).format(None).0
    }

    #[test]
    fn the_columns_of_a_table_are_aligned() {
        let rows = [json!({"a": "x", "b": {"c": 10}}), json!({"a": "longer"})];
        assert_eq!(table(&rows, &[("A", "/a"), ("COUNT", "/b/c")]), "A        COUNT\nx        10\nlonger   -\n");
        let hostile = [json!({"a": "\u{1b}[2Jx\ny\u{202e}", "b": {"\u{9b}c": 1}})];
        assert_eq!(table(&hostile, &[("A", "/a"), ("B", "/b")]), "A        B\n[2Jx y   c=1\n");
        assert_eq!(table(&rows, &[("ONE", "/b/c|/a")]), "ONE\n10\nlonger\n");
    }

    #[test]
    fn a_narrow_terminal_keeps_one_line_for_each_row() {
        let rows = [json!({"a": "a-long-name-of-a-host", "b": "a message with many words in it", "c": "last column"})];
        let columns = [("NAME", "/a"), ("MESSAGE", "/b"), ("C", "/c")];
        for width in [200, 60, 45, 33, 10] {
            let (text, omitted) = TextTable::of_values(&rows, &columns).format(Some(width));
            let lines: Vec<_> = text.lines().collect();
            assert_eq!(lines.len(), 2, "{width}: {text}");
            assert!(lines[1].starts_with("a-long-name-of-a-host"), "{width}: {text}");
            assert!(width < 21 || lines.iter().all(|line| line.chars().count() <= width), "{width}: {text}");
            assert_eq!(omitted, if width >= 45 { 0 } else { if width == 33 { 1 } else { 2 } }, "{width}: {text}");
        }
    }

    #[test]
    fn a_table_of_the_server_has_its_wide_columns_only_when_asked() {
        let columns = json!([{"name": "Name", "priority": 0}, {"name": "Last Seen", "priority": 1}]);
        let server = json!({"columnDefinitions": columns, "rows": [{"cells": ["x", "3s"]}]});
        assert_eq!(TextTable::of_server(&server, false).format(None).0, "NAME\nx\n");
        let columns = json!([{"name": "Name", "priority": 0}, {"name": "Phase", "priority": 0}, {"name": "Message", "priority": 1}]);
        let mut faulty = json!({"columnDefinitions": columns, "rows": [{"cells": ["x", "Broken", "no such file"]}]});
        assert!(
            TextTable::of_server(&faulty, false).format(None).0.contains("no such file"),
            "a fault shows its reason"
        );
        faulty["rows"][0]["cells"][1] = "Ready".into();
        assert!(!TextTable::of_server(&faulty, false).format(None).0.contains("MESSAGE"));
        let mut wide = TextTable::of_server(&server, true);
        wide.prepend("NAMESPACE", ["default".to_owned()].into_iter());
        assert_eq!(wide.format(None).0, "NAMESPACE   NAME   LAST SEEN\ndefault     x      3s\n");
    }
}
