//! Notifications: what webhooks are told. The store writes one together with the change or the event that it is about.

use jiff::Timestamp;
use serde::{Deserialize, Serialize};
use uuid::Uuid;

use crate::fleet::enrolment::UnknownHostAction;
use crate::fleet::{BootStage, Certainty, Host, Mac, Name, NotificationKind, Phase, StallReason};

use super::{Entry, Event};

/// A notification about a machine.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Notification {
    /// Identifier, the same for each attempt to deliver it.
    pub id: Uuid,
    /// Time of what happened.
    pub time: Timestamp,
    /// The machine.
    pub mac: Mac,
    /// Name of its host.
    pub host: Option<Name>,
    /// What happened.
    #[serde(flatten)]
    pub detail: NotificationDetail,
}

/// What a notification is about.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(tag = "kind", content = "detail", rename_all = "snake_case", rename_all_fields = "camelCase")]
pub enum NotificationDetail {
    /// The host entered another phase.
    PhaseChanged {
        /// The phase.
        phase: Phase,
        /// The phase before; `None` for a new host.
        #[serde(skip_serializing_if = "Option::is_none")]
        previous_phase: Option<Phase>,
        /// The image that the host boots.
        #[serde(skip_serializing_if = "Option::is_none")]
        image: Option<Name>,
        /// The boot config that goes with the image.
        #[serde(skip_serializing_if = "Option::is_none")]
        config: Option<Name>,
        /// The reason for the phase, for people.
        #[serde(skip_serializing_if = "Option::is_none")]
        message: Option<String>,
    },
    /// The machine's boot does not go on.
    Stalled {
        /// The stage at which it stands.
        stage: BootStage,
        /// The reason.
        reason: StallReason,
        /// How sure the reason is.
        certainty: Certainty,
        /// What was seen, and what usually causes it.
        message: String,
        /// What to do.
        remedy: String,
    },
    /// The machine's boot goes on.
    StallCleared {
        /// The reason that is taken back.
        reason: StallReason,
    },
    /// A machine that nobody declared was seen for the first time.
    FirstSeen {
        /// The action of the rule that matched.
        action: UnknownHostAction,
    },
}

impl Notification {
    /// Returns the notification of a host that entered its phase.
    pub fn of_phase(id: Uuid, host: &Host, previous_phase: Option<Phase>) -> Self {
        let status = &host.status;
        let time = status.phase_transition_time.or(host.metadata.creation_timestamp).unwrap_or_default();
        let detail = NotificationDetail::PhaseChanged {
            phase: status.phase,
            previous_phase,
            image: host.spec.image.image().cloned(),
            config: host.spec.boot_config_ref.clone(),
            message: Some(status.message.clone()).filter(|message| !message.is_empty()),
        };
        let host_name = Some(host.metadata.name.clone());
        Self { id, time, mac: host.spec.boot_mac_address, host: host_name, detail }
    }

    /// Returns the notification of an entry of the timeline; `None` if webhooks are not told of such events.
    pub fn of_entry(id: Uuid, entry: &Entry) -> Option<Self> {
        let detail = if let Event::Stalled { stage, reason, certainty, message, remedy } = entry.event.clone() {
            NotificationDetail::Stalled { stage, reason, certainty, message, remedy }
        } else if let Event::StallCleared { reason } = entry.event {
            NotificationDetail::StallCleared { reason }
        } else if let Event::FirstSeen { action } = entry.event.clone() {
            NotificationDetail::FirstSeen { action }
        } else {
            return None;
        };
        Some(Self { id, time: entry.time, mac: entry.mac?, host: entry.host.clone(), detail })
    }

    /// Returns the kind of the notification.
    pub fn kind(&self) -> NotificationKind {
        match self.detail {
            NotificationDetail::PhaseChanged { .. } => NotificationKind::PhaseChanged,
            NotificationDetail::Stalled { .. } => NotificationKind::Stalled,
            NotificationDetail::StallCleared { .. } => NotificationKind::StallCleared,
            NotificationDetail::FirstSeen { .. } => NotificationKind::FirstSeen,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn entry(event: Event) -> Entry {
        Entry::once(Timestamp::UNIX_EPOCH, Some(Mac([2, 0, 0, 0, 0, 1])), "vm".parse().ok(), event)
    }

    #[test]
    fn an_entry_becomes_a_notification_that_reads_back() {
        let stalled = Event::Stalled {
            stage: BootStage::Dhcp,
            reason: StallReason::Held,
            certainty: Certainty::Certain,
            message: "it asks to boot".into(),
            remedy: "assign an image".into(),
        };
        for (event, kind) in [
            (stalled, Some(NotificationKind::Stalled)),
            (Event::StallCleared { reason: StallReason::Held }, Some(NotificationKind::StallCleared)),
            (Event::FirstSeen { action: UnknownHostAction::Hold }, Some(NotificationKind::FirstSeen)),
            (Event::Held {}, None),
        ] {
            let notification = Notification::of_entry(Uuid::from_u128(7), &entry(event));
            assert_eq!(notification.as_ref().map(Notification::kind), kind);
            if let Some(notification) = notification {
                let text = serde_json::to_string(&notification).unwrap();
                assert_eq!(serde_json::from_str::<Notification>(&text).unwrap(), notification);
                let kind = kind.map(NotificationKind::code).unwrap_or_default();
                assert!(text.contains(&format!("\"kind\":\"{kind}\"")), "{text}");
            }
        }
        let mut of_the_server = entry(Event::StallCleared { reason: StallReason::Held });
        of_the_server.mac = None;
        assert_eq!(Notification::of_entry(Uuid::nil(), &of_the_server), None);
    }
}
