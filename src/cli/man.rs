//! Shell completions and man pages.

use std::io::Write;
use std::path::Path;

use anyhow::{Context, anyhow};
use clap_complete::env::Shells;
use clap_mangen::Man;

use super::exit::EXIT_CODES;
use super::show::print;

/// Variable by which the completions of a shell have this program complete a command line.
pub const COMPLETE_VARIABLE: &str = "_BOOTLATCH_COMPLETE";
/// Word with which the examples of a command begin in its help.
const EXAMPLES: &str = "Examples:\n";

/// Prints the completions of a shell: they have this program complete kinds and names.
///
/// # Errors
/// Standard output cannot be written.
pub fn completions(shell: clap_complete::Shell) -> anyhow::Result<()> {
    let shells = Shells::builtins();
    let completer = shells.completer(&shell.to_string()).ok_or_else(|| anyhow!("{shell}: no completions"))?;
    let mut text = Vec::new();
    completer.write_registration(COMPLETE_VARIABLE, "bootlatch", "bootlatch", "bootlatch", &mut text)?;
    print(&String::from_utf8_lossy(&text))
}

/// Writes one man page for each command to a directory.
///
/// # Errors
/// The directory or a file cannot be written.
pub fn man(command: clap::Command, directory: &Path) -> anyhow::Result<()> {
    std::fs::create_dir_all(directory).with_context(|| directory.display().to_string())?;
    let mut command = command.disable_help_subcommand(true);
    command.build();
    write_pages(&command, directory)
}

/// Writes the pages of a command and of its subcommands.
fn write_pages(command: &clap::Command, directory: &Path) -> anyhow::Result<()> {
    for subcommand in command.get_subcommands().filter(|subcommand| !subcommand.is_hide_set()) {
        write_pages(subcommand, directory)?;
    }
    let page = Man::new(command.clone());
    let path = directory.join(page.get_filename());
    std::fs::write(&path, render(&page, command)?).with_context(|| path.display().to_string())
}

/// Renders a page with the usual sections, in the order of man-pages(7).
fn render(page: &Man, command: &clap::Command) -> std::io::Result<Vec<u8>> {
    let mut text = Vec::new();
    page.render_title(&mut text)?;
    page.render_name_section(&mut text)?;
    page.render_synopsis_section(&mut text)?;
    page.render_description_section(&mut text)?;
    let help = command.get_after_help().map(ToString::to_string).unwrap_or_default();
    let (before, examples) = help.split_once(EXAMPLES).unwrap_or((&help, ""));
    let (examples, after) = examples.split_once("\n\n").unwrap_or((examples, ""));
    for note in [before, after].iter().filter(|note| !note.trim().is_empty() && command.get_name() != "bootlatch") {
        writeln!(text, ".PP\n{}", escape(note.trim()))?;
    }
    if command.get_arguments().any(|argument| !argument.is_hide_set()) {
        page.render_options_section(&mut text)?;
    }
    if command.get_subcommands().any(|subcommand| !subcommand.is_hide_set()) {
        page.render_subcommands_section(&mut text)?;
    }
    if !examples.is_empty() {
        writeln!(text, ".SH EXAMPLES\n.nf\n{}\n.fi", escape(examples))?;
    }
    writeln!(text, ".SH \"EXIT STATUS\"")?;
    for (code, meaning) in EXIT_CODES {
        writeln!(text, ".TP\n.B {code}\n{}", escape(meaning))?;
    }
    if command.get_version().is_some() {
        page.render_version_section(&mut text)?;
    }
    Ok(text)
}

/// Escapes a text for roff: dashes, backslashes, and a dot or quote at the beginning of a line.
fn escape(text: &str) -> String {
    let text = text.replace('\\', "\\e").replace('-', "\\-");
    let line = |line: &str| match line.starts_with(['.', '\'']) {
        true => format!("\\&{line}"),
        false => line.to_owned(),
    };
    text.lines().map(line).collect::<Vec<_>>().join("\n")
}
