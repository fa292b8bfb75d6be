//! Shell completions and man pages.

use std::path::Path;

use anyhow::Context;

use super::show::print;

/// Prints the completions of a shell.
///
/// # Errors
/// Standard output cannot be written.
pub fn completions(shell: clap_complete::Shell, mut command: clap::Command) -> anyhow::Result<()> {
    let mut text = Vec::new();
    clap_complete::generate(shell, &mut command, "bootlatch", &mut text);
    print(&String::from_utf8_lossy(&text))
}

/// Writes one man page for each command to a directory.
///
/// # Errors
/// The directory or a file cannot be written.
pub fn man(command: clap::Command, directory: &Path) -> anyhow::Result<()> {
    std::fs::create_dir_all(directory).with_context(|| directory.display().to_string())?;
    clap_mangen::generate_to(command, directory).with_context(|| directory.display().to_string())
}
