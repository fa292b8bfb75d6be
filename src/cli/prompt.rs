//! Questions on a terminal.

use std::io::{BufRead, IsTerminal, Write};

/// Returns whether somebody can answer.
pub fn is_interactive() -> bool {
    std::io::stdin().is_terminal()
}

/// Asks a question while connections are served: their end is noticed before the answer.
///
/// # Errors
/// Those of `ask`.
pub async fn ask_beside(question: String) -> anyhow::Result<String> {
    tokio::task::spawn_blocking(move || ask(&question)).await?
}

/// Asks a question on standard error, and returns the answer without white space around it.
///
/// # Errors
/// Standard input has ended or cannot be read.
pub fn ask(question: &str) -> anyhow::Result<String> {
    let mut error = std::io::stderr().lock();
    write!(error, "{question} ")?;
    error.flush()?;
    let mut answer = String::new();
    match std::io::stdin().lock().read_line(&mut answer)? {
        0 => anyhow::bail!("no answer"),
        _ => Ok(answer.trim().to_owned()),
    }
}
