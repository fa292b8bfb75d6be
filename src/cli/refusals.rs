//! Errors of a command that goes on with the next object after one that the server refuses.

use super::client::ClientError;
use super::show::note;

/// The refusals of a command. The first one selects the exit status, and is printed at the end.
#[derive(Debug, Default)]
pub struct Refusals {
    first: Option<anyhow::Error>,
}

impl Refusals {
    /// Keeps the first refusal, and prints each further one.
    ///
    /// # Errors
    /// The error itself, if it is no refusal: nothing else would succeed either.
    pub fn note(&mut self, error: anyhow::Error) -> anyhow::Result<()> {
        if !is_refusal(&error) {
            return Err(error);
        }
        match self.first {
            Some(_) => note(&format!("bootlatch: {error:#}")),
            None => self.first = Some(error),
        }
        Ok(())
    }

    /// Ends the command.
    ///
    /// # Errors
    /// The first refusal.
    pub fn end(self) -> anyhow::Result<()> {
        self.first.map_or(Ok(()), Err)
    }
}

/// Returns whether the server refused one object, and may accept another one.
fn is_refusal(error: &anyhow::Error) -> bool {
    matches!(error.downcast_ref(), Some(ClientError::Refused { code, .. }) if ![401, 403].contains(code))
}
