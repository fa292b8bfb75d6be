//! Baseboard management controllers (BMCs). `client` sends requests over Redfish or IPMI, as `spec.bmc` of a host
//! says. `power_poller` decides (pure) when each BMC is polled and when a machine is switched on or off;
//! `controllers::power` carries that out.

use std::time::Duration;

use base64::Engine;
use base64::engine::general_purpose::STANDARD;

use crate::fleet::text::printable;
use crate::fleet::{Bmc, PowerTransition, Secret};
pub use crate::fleet::{BootDevice, Reset};

pub mod client;
mod detection;
pub mod inventory_schedule;
pub mod ipmi;
pub mod poll_time;
pub mod power_poller;
pub mod redfish;
mod transition;
pub mod wake_on_lan;
mod wake_queue;

/// Maximum time to connect to a service; and for its TLS handshake.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(15);

/// Maximum length of a message of a BMC in an error, in characters. The error is part of the host's status.
pub const MAX_MESSAGE_LENGTH: usize = 1000;

/// Error of a request to a BMC. The text never contains the password.
#[derive(Debug, thiserror::Error)]
pub enum BmcError {
    /// The address in `spec.bmc.address` is invalid.
    #[error(transparent)]
    Address(#[from] crate::fleet::BadBmcAddress),
    /// The BMC did not answer.
    #[error("BMC {at}: not reachable: {cause}")]
    Unreachable {
        /// Address of the BMC.
        at: String,
        /// Reason.
        cause: String,
    },
    /// The BMC refused the request.
    #[error("BMC {at}: request refused: {message}")]
    Refused {
        /// Address of the BMC.
        at: String,
        /// Status and message of the BMC.
        message: String,
    },
    /// The BMC refused the user name, the password or the user's privilege. Another attempt may lock the account.
    #[error("BMC {at}: request refused: {message}")]
    Denied {
        /// Address of the BMC.
        at: String,
        /// Status and message of the BMC.
        message: String,
    },
    /// The BMC cannot do it now, and can later: the machine is in its self-test, or the BMC is updating or overloaded.
    #[error("BMC {at}: busy: {message}")]
    Busy {
        /// Address of the BMC.
        at: String,
        /// Status and message of the BMC.
        message: String,
        /// Time after which the BMC wants to be asked again, if it said so.
        retry_after: Option<Duration>,
    },
    /// The BMC does not support the request.
    #[error("BMC {at}: not supported: {what}")]
    Unsupported {
        /// Address of the BMC.
        at: String,
        /// The feature that is not supported.
        what: String,
    },
    /// The BMC answered, and not as a Redfish service does.
    #[error("BMC {at}: invalid reply: {message}")]
    InvalidReply {
        /// Address of the BMC.
        at: String,
        /// The fault of the reply.
        message: String,
    },
}

impl BmcError {
    /// The reason of a BMC that is busy.
    pub const BUSY: &str = PowerTransition::BUSY;

    /// Returns the error without the password of the BMC, in printable characters and with at most `MAX_MESSAGE_LENGTH`
    /// characters of a message: the BMC's own messages are part of the text.
    pub fn without_password(self, bmc: &Bmc) -> Self {
        let Bmc { username, password: Secret(password), .. } = bmc;
        // Also in the form in which it is sent (RFC 7617, section 2).
        let sent = STANDARD.encode(format!("{username}:{password}"));
        let without = |text: String| match password.is_empty() {
            true => text,
            false => text.replace(&sent, Secret::REDACTED).replace(password, Secret::REDACTED),
        };
        // Without its control characters, a text may contain the password that it did not contain with them.
        self.with_text(|text| shortened(without(printable(&without(text)).into_owned())))
    }

    /// Returns the error without the token of a medium's URL, which the BMC's own messages may repeat.
    pub fn without_token(self, token: &str) -> Self {
        if token.is_empty() {
            return self;
        }
        self.with_text(|text| {
            let text = text.replace(token, Secret::REDACTED);
            // Other texts keep their control characters: a password may have some.
            match printable(&text) {
                shown if shown.contains(token) => shown.replace(token, Secret::REDACTED),
                _ => text,
            }
        })
    }

    /// Changes the text that may be the BMC's.
    fn with_text(self, change: impl FnOnce(String) -> String) -> Self {
        match self {
            Self::Unreachable { at, cause } => Self::Unreachable { at, cause: change(cause) },
            Self::Refused { at, message } => Self::Refused { at, message: change(message) },
            Self::Denied { at, message } => Self::Denied { at, message: change(message) },
            Self::Busy { at, message, retry_after } => Self::Busy { at, message: change(message), retry_after },
            Self::Unsupported { at, what } => Self::Unsupported { at, what: change(what) },
            Self::InvalidReply { at, message } => Self::InvalidReply { at, message: change(message) },
            Self::Address(_) => self,
        }
    }

    /// Returns the reason as a code for programs (`status.powerError.reason`).
    pub fn reason(&self) -> &'static str {
        match self {
            Self::Address(_) => "BadAddress",
            Self::Unreachable { .. } => "Unreachable",
            Self::Refused { .. } | Self::Denied { .. } => "Refused",
            Self::Busy { .. } => Self::BUSY,
            Self::Unsupported { .. } => "NotSupported",
            Self::InvalidReply { .. } => "InvalidReply",
        }
    }
}

/// Returns a text of at most `MAX_MESSAGE_LENGTH` characters.
fn shortened(mut text: String) -> String {
    if let Some((end, _)) = text.char_indices().nth(MAX_MESSAGE_LENGTH) {
        text.truncate(end);
        text.push_str(" (shortened)");
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_error_never_contains_the_password() {
        let mut bmc = Bmc::new("b", "u", Secret("geheim".to_owned()));
        let words = format!("500: password geheim, of Basic {}", STANDARD.encode("u:geheim"));
        let (at, message) = ("b:80".to_owned(), words.clone());
        for error in [
            BmcError::Refused { at: at.clone(), message },
            BmcError::Denied { at: at.clone(), message: words.clone() },
            BmcError::Busy { at: at.clone(), message: words.clone(), retry_after: None },
            BmcError::Unreachable { at: at.clone(), cause: words.clone() },
            BmcError::Unsupported { at: at.clone(), what: words.clone() },
            BmcError::InvalidReply { at: at.clone(), message: words.clone() },
        ] {
            let text = error.without_password(&bmc).to_string();
            assert!(text.ends_with("500: password REDACTED, of Basic REDACTED"), "{text}");
        }
        for hidden in ["ge\u{1}heim", "geh\u{200b}eim", "geheim\u{7}"] {
            let error = BmcError::Refused { at: at.clone(), message: hidden.to_owned() };
            assert!(error.without_password(&bmc).to_string().ends_with(": REDACTED"), "{hidden:?}");
        }
        let error = BmcError::Unsupported { at: at.clone(), what: "\u{e4}".repeat(4 << 20) }.without_password(&bmc);
        let text = error.to_string();
        assert!(
            text.ends_with("\u{e4} (shortened)") && text.chars().count() < MAX_MESSAGE_LENGTH + 50,
            "{}",
            text.len()
        );
        for shown in ["http://10.0.0.1/media/5254abcd/live.iso is bad", "5254\u{200b}abcd"] {
            let message = format!("{}{shown}", "x".repeat(MAX_MESSAGE_LENGTH - shown.len() / 2));
            let error = BmcError::Refused { at: at.clone(), message }.without_token("5254abcd").without_password(&bmc);
            assert!(!error.to_string().contains("5254"), "{shown:?}: {error}");
        }
        let error =
            BmcError::Busy { at: at.clone(), message: "/media/5254abcd/live.iso".to_owned(), retry_after: None };
        assert!(error.without_token("5254abcd").to_string().ends_with("/media/REDACTED/live.iso"));
        bmc.password = Secret::default();
        assert!(BmcError::Refused { at, message: words }.without_password(&bmc).to_string().contains("geheim"));
    }
}
