//! Management controllers: what is asked of them. `client` asks, in Redfish or IPMI as the host's `spec.bmc` says;
//! `serve` asks all of them for their machines' power, and switches machines as `rounds` decides.

use base64::Engine;
use base64::engine::general_purpose::STANDARD;

use crate::fleet::{Bmc, Secret};

pub mod client;
mod ipmi;
mod redfish;
pub mod rounds;

/// Is what can be done to a machine's power, in Redfish's words (DSP2046, ResetType).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Reset {
    On,
    ForceOff,
    GracefulShutdown,
    GracefulRestart,
    ForceRestart,
    PowerCycle,
    Nmi,
}

impl Reset {
    pub const ALL: [Self; 7] = [
        Self::On,
        Self::ForceOff,
        Self::GracefulShutdown,
        Self::GracefulRestart,
        Self::ForceRestart,
        Self::PowerCycle,
        Self::Nmi,
    ];

    pub fn as_str(self) -> &'static str {
        match self {
            Self::On => "On",
            Self::ForceOff => "ForceOff",
            Self::GracefulShutdown => "GracefulShutdown",
            Self::GracefulRestart => "GracefulRestart",
            Self::ForceRestart => "ForceRestart",
            Self::PowerCycle => "PowerCycle",
            Self::Nmi => "Nmi",
        }
    }

    /// Reads Redfish's word; `ForceOn` is another for `On`.
    pub fn read(word: &str) -> Option<Self> {
        match word {
            "ForceOn" => Some(Self::On),
            word => Self::ALL.into_iter().find(|reset| reset.as_str() == word),
        }
    }
}

/// Says what a machine's firmware is to boot, in spite of its own order.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Next {
    Network,
    Disk,
    /// Its own order again.
    AsItLikes,
}

/// Says why a controller did not do what was asked. Never carries a password.
#[derive(Debug, thiserror::Error)]
pub enum Trouble {
    #[error(transparent)]
    Address(#[from] crate::fleet::BadBmcAddress),
    #[error("the controller at {at} cannot be reached: {cause}")]
    Unreachable { at: String, cause: String },
    #[error("the controller at {at} refuses: {message}")]
    Refused { at: String, message: String },
    #[error("the controller at {at} does not know {what}")]
    Lacks { at: String, what: &'static str },
}

impl Trouble {
    /// Takes a controller's password out: a service's own words are in what it refuses with, and nobody knows what it
    /// puts there.
    fn without_password(self, bmc: &Bmc) -> Self {
        let Bmc { username, password: Secret(password), .. } = bmc;
        if password.is_empty() {
            return self;
        }
        // As it was sent, too (RFC 7617, section 2).
        let sent = STANDARD.encode(format!("{username}:{password}"));
        let clean = |words: String| words.replace(&sent, Secret::REDACTED).replace(password, Secret::REDACTED);
        match self {
            Self::Unreachable { at, cause } => Self::Unreachable { at, cause: clean(cause) },
            Self::Refused { at, message } => Self::Refused { at, message: clean(message) },
            Self::Address(_) | Self::Lacks { .. } => self,
        }
    }

    /// Gives the reason in one word, for programs.
    pub fn reason(&self) -> &'static str {
        match self {
            Self::Address(_) => "BadAddress",
            Self::Unreachable { .. } => "Unreachable",
            Self::Refused { .. } => "Refused",
            Self::Lacks { .. } => "NotSupported",
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_controllers_words_never_carry_its_password() {
        let (address, username, password) = ("b".to_owned(), "u".to_owned(), Secret("geheim".to_owned()));
        let mut bmc = Bmc { address, username, password, disable_certificate_verification: false };
        let words = format!("500: password geheim, of Basic {}", STANDARD.encode("u:geheim"));
        let (at, message) = ("b:80".to_owned(), words.clone());
        for trouble in [
            Trouble::Refused { at: at.clone(), message },
            Trouble::Unreachable { at: at.clone(), cause: words.clone() },
        ] {
            let told = trouble.without_password(&bmc).to_string();
            assert!(told.ends_with("500: password REDACTED, of Basic REDACTED"), "{told}");
        }
        bmc.password = Secret::default();
        assert!(Trouble::Refused { at, message: words }.without_password(&bmc).to_string().contains("geheim"));
    }
}
