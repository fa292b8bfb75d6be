//! Management controllers: what is asked of them. `client` asks, in Redfish or IPMI as the host's `spec.bmc` says;
//! `serve` asks all of them for their machines' power, and switches machines as `rounds` decides.

pub mod client;
mod ipmi;
mod redfish;
mod rounds;
pub mod serve;

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
