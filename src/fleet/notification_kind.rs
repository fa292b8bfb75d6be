use std::fmt;
use std::str::FromStr;

/// The kind of a notification about a machine, as webhooks are told of it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum NotificationKind {
    /// A host entered another phase.
    PhaseChanged,
    /// A boot does not go on: a diagnosis.
    Stalled,
    /// A diagnosis was taken back.
    StallCleared,
    /// A machine that nobody declared was seen for the first time.
    FirstSeen,
}

impl NotificationKind {
    /// All kinds.
    pub const ALL: [Self; 4] = [Self::PhaseChanged, Self::Stalled, Self::StallCleared, Self::FirstSeen];
    /// The kinds that a webhook is told of unless it names others.
    pub const USUAL: [Self; 3] = [Self::PhaseChanged, Self::Stalled, Self::StallCleared];

    /// Returns the stable code, in snake case.
    pub fn code(self) -> &'static str {
        match self {
            Self::PhaseChanged => "phase_changed",
            Self::Stalled => "stalled",
            Self::StallCleared => "stall_cleared",
            Self::FirstSeen => "first_seen",
        }
    }
}

impl fmt::Display for NotificationKind {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        out.write_str(self.code())
    }
}

impl FromStr for NotificationKind {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let known = || Self::ALL.map(Self::code).join(", ");
        let kind = Self::ALL.into_iter().find(|kind| kind.code() == text);
        kind.ok_or_else(|| format!("{text:?} is not an event: expected {}", known()))
    }
}
