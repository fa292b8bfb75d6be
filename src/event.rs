//! What happened: one enum that the log, the counters, the timeline and the UI read.

use std::net::IpAddr;
use std::sync::atomic::{AtomicU64, Ordering};

use jiff::Timestamp;
use serde::{Deserialize, Serialize};

use crate::boot::{DropReason, Reason};
use crate::fleet::{Architecture, ImageStatus, Kind, Mac};

/// Is one line of a machine's timeline.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Entry {
    /// Is when it happened; the first time, where it happened again and again.
    pub time: Timestamp,
    /// Is when it happened last.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub last: Option<Timestamp>,
    /// Is how often it happened.
    #[serde(default = "once", skip_serializing_if = "is_once")]
    pub count: u32,
    pub mac: Option<Mac>,
    /// Is the host's name as it was then.
    pub host: Option<String>,
    #[serde(flatten)]
    pub event: Event,
}

fn once() -> u32 {
    1
}

fn is_once(count: &u32) -> bool {
    *count == 1
}

/// Is something that happened to a machine.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(tag = "event", content = "detail", rename_all = "kebab-case", rename_all_fields = "camelCase")]
pub enum Event {
    FirstSeen {
        treatment: String,
    },
    Assigned {
        image: String,
    },
    Released {},
    Held {},
    Offer {
        architecture: String,
        file: String,
    },
    TftpStart {
        file: String,
    },
    TftpDone {
        file: String,
        bytes: u64,
        milliseconds: u64,
        resent: u64,
    },
    Script {
        verdict: String,
    },
    IscsiLogin {
        initiator: String,
        target: String,
    },
    /// An initiator was sent on to the portal that serves its image.
    IscsiRedirect {
        initiator: String,
        target: String,
        portal: String,
    },
    ConfigFetched {
        config: String,
        address: String,
        /// Says what it was given by, where that is not the request for its main file.
        #[serde(default, skip_serializing_if = "String::is_empty")]
        by: String,
    },
    BootComplete {},
    /// The machine said that it is done where no install was under way: nothing came of it.
    BootCompleteUnheeded {
        phase: String,
    },
    LocalDisk {
        why: String,
    },
    Failed {
        message: String,
    },
    Refused {
        protocol: String,
        why: String,
    },
    /// Says what of an image is not as people may expect.
    Warning {
        image: String,
        message: String,
    },
    /// The machine's controller says that it runs now, or no longer does.
    Power {
        state: String,
    },
    /// The machine's controller was told so, for the sake of `spec.online`.
    Switched {
        reset: String,
    },
    ControllerFailed {
        message: String,
    },
    /// Says that a machine is told to ask again later: its image cannot be given now.
    Waiting {
        image: String,
        message: String,
    },
    /// Says that what a machine has attached cannot be read.
    Unreadable {
        unit: u8,
        message: String,
    },
    /// Says what became of an image's file under the running server.
    Image {
        image: String,
        phase: String,
        message: String,
    },
    /// Says that the disk that the state is on is nearly full: soon nothing can be written.
    NearlyFull {
        directory: String,
        free: u64,
    },
    /// Says that there is room again.
    RoomAgain {
        directory: String,
        free: u64,
    },
    OtherServer {
        interface: String,
        address: String,
        does: String,
    },
    /// A manifest was left out; the server serves without it.
    ManifestWrong {
        message: String,
    },
}

impl Event {
    /// Says whether the event waits for an operator.
    pub fn needs_attention(&self) -> bool {
        if let Self::Image { phase, .. } = self {
            return phase == ImageStatus::BROKEN;
        }
        matches!(
            self,
            Self::Failed { .. }
                | Self::ControllerFailed { .. }
                | Self::OtherServer { .. }
                | Self::NearlyFull { .. }
                | Self::Unreadable { .. }
        ) || self.is_error()
    }

    /// Says whether the event names an object that is no host: hosts' events are told by their machines.
    pub fn is_about(&self, kind: Kind, name: &str) -> bool {
        match (kind, self) {
            (Kind::IscsiCdrom, Self::Script { verdict }) => {
                let image = verdict.strip_prefix("boot ").or_else(|| verdict.strip_prefix("wait for "));
                image.is_some_and(|image| image.split(' ').next() == Some(name))
            }
            (Kind::IscsiCdrom, Self::IscsiLogin { target, .. }) => {
                target.rsplit_once(':').is_some_and(|(_, image)| image == name)
            }
            (
                Kind::IscsiCdrom,
                Self::Assigned { image }
                | Self::Warning { image, .. }
                | Self::Waiting { image, .. }
                | Self::Image { image, .. },
            ) => image == name,
            (Kind::BootConfig, Self::ConfigFetched { config, .. }) => config == name,
            _ => false,
        }
    }

    /// Says whether something is wrong with what the site wants of us, rather than with a machine.
    pub fn is_error(&self) -> bool {
        matches!(self, Self::ManifestWrong { .. })
    }

    /// Says whether the event changes what becomes of a machine: then it is a line of its own, and what happens
    /// after it is another story.
    pub fn is_milestone(&self) -> bool {
        matches!(
            self,
            Self::FirstSeen { .. }
                | Self::Assigned { .. }
                | Self::Released {}
                | Self::Held {}
                | Self::BootComplete {}
                | Self::Failed { .. }
                | Self::Power { .. }
                | Self::Switched { .. }
                | Self::Image { .. }
                | Self::NearlyFull { .. }
                | Self::RoomAgain { .. }
        )
    }

    /// Says whether another event is the same once more. How long a transfer took does not make it another.
    pub fn is_repeat_of(&self, other: &Self) -> bool {
        match (self, other) {
            (Self::TftpDone { file, bytes, .. }, Self::TftpDone { file: again, bytes: as_many, .. }) => {
                file == again && bytes == as_many
            }
            _ => self == other,
        }
    }
}

/// Spells an architecture for an event.
pub fn architecture(claimed: Option<Architecture>) -> String {
    claimed.map_or_else(|| "unknown".to_owned(), |architecture| architecture.to_string())
}

/// Names the protocols, for counters and refusals.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Protocol {
    Dhcp,
    Tftp,
    Http,
    Iscsi,
}

impl Protocol {
    pub const ALL: [Self; 4] = [Self::Dhcp, Self::Tftp, Self::Http, Self::Iscsi];

    pub fn as_str(self) -> &'static str {
        match self {
            Self::Dhcp => "dhcp",
            Self::Tftp => "tftp",
            Self::Http => "http",
            Self::Iscsi => "iscsi",
        }
    }
}

/// Counts every answer, refusal and drop by protocol and reason. One place, read by the metrics.
#[derive(Debug)]
pub struct Counters {
    answered: [AtomicU64; Protocol::ALL.len()],
    refused: [[AtomicU64; Reason::ALL.len()]; Protocol::ALL.len()],
    dropped: [[AtomicU64; DropReason::ALL.len()]; Protocol::ALL.len()],
    /// Counts packets that the kernel dropped because our socket's buffer was full.
    pub overflowed: AtomicU64,
    /// Counts the other boot servers that were found on our segments, each time they appear.
    pub other_servers: AtomicU64,
}

impl Default for Counters {
    fn default() -> Self {
        let zeros = |_| std::array::from_fn(|_| AtomicU64::new(0));
        Self {
            answered: std::array::from_fn(|_| AtomicU64::new(0)),
            refused: std::array::from_fn(zeros),
            dropped: std::array::from_fn(|_| std::array::from_fn(|_| AtomicU64::new(0))),
            overflowed: AtomicU64::new(0),
            other_servers: AtomicU64::new(0),
        }
    }
}

impl Counters {
    pub fn count_answered(&self, protocol: Protocol) {
        self.answered[protocol as usize].fetch_add(1, Ordering::Relaxed);
    }

    /// Counts a verdict that sends a machine away.
    pub fn count_refused(&self, protocol: Protocol, why: Reason, from: Option<IpAddr>) {
        tracing::debug!(protocol = protocol.as_str(), %why, ?from, "refused");
        self.refused[protocol as usize][why as usize].fetch_add(1, Ordering::Relaxed);
    }

    /// Counts a packet or request that never reached a decision.
    pub fn count_dropped(&self, protocol: Protocol, why: DropReason, from: Option<IpAddr>) {
        tracing::debug!(protocol = protocol.as_str(), %why, ?from, "dropped");
        self.dropped[protocol as usize][why as usize].fetch_add(1, Ordering::Relaxed);
    }

    /// Lists all counters that are not zero, as (name, protocol, reason, count).
    pub fn list(&self) -> Vec<(&'static str, &'static str, &'static str, u64)> {
        let mut rows = Vec::new();
        for protocol in Protocol::ALL {
            let (index, name) = (protocol as usize, protocol.as_str());
            rows.push(("answered", name, "", self.answered[index].load(Ordering::Relaxed)));
            for why in Reason::ALL {
                rows.push(("refused", name, why.as_str(), self.refused[index][*why as usize].load(Ordering::Relaxed)));
            }
            for why in DropReason::ALL {
                rows.push(("dropped", name, why.as_str(), self.dropped[index][*why as usize].load(Ordering::Relaxed)));
            }
        }
        rows.push(("dropped", "kernel", "receive buffer full", self.overflowed.load(Ordering::Relaxed)));
        rows.push(("found", "dhcp", "another boot server", self.other_servers.load(Ordering::Relaxed)));
        rows.retain(|row| row.3 > 0);
        rows
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_entry_reads_as_the_timeline_shows_it() {
        let entry = Entry {
            time: Timestamp::from_second(0).unwrap(),
            last: None,
            count: 1,
            mac: Some(Mac([2, 0, 0, 0, 0, 1])),
            host: Some("vm".into()),
            event: Event::TftpStart { file: "undionly.kpxe".into() },
        };
        let json = serde_json::to_string(&entry).unwrap();
        assert!(json.contains(r#""event":"tftp-start","detail":{"file":"undionly.kpxe"}"#), "{json}");
        assert_eq!(serde_json::from_str::<Entry>(&json).unwrap(), entry);
    }

    #[test]
    fn an_event_is_about_what_it_names() {
        let script = |verdict: &str| Event::Script { verdict: verdict.to_owned() };
        let login = |target: &str| Event::IscsiLogin { initiator: "live".into(), target: target.to_owned() };
        let rows = [
            (Event::Assigned { image: "live".into() }, true),
            (Event::Assigned { image: "live2".into() }, false),
            (script("boot live"), true),
            (script("boot live as a virtual medium"), true),
            (script("wait for live"), true),
            (script("boot live2"), false),
            (script("load live"), false),
            (login("iqn.2026-01.org.example:live"), true),
            (login("iqn.2026-01.org.example:other"), false),
            (Event::ConfigFetched { config: "live".into(), address: String::new(), by: String::new() }, false),
        ];
        for (event, expected) in rows {
            assert_eq!(event.is_about(Kind::IscsiCdrom, "live"), expected, "{event:?}");
        }
        let fetched = Event::ConfigFetched { config: "live".into(), address: String::new(), by: String::new() };
        assert!(fetched.is_about(Kind::BootConfig, "live") && !fetched.is_about(Kind::BootConfig, "li"));
    }

    #[test]
    fn every_reason_is_counted_by_itself() {
        let counters = Counters::default();
        for why in Reason::ALL {
            counters.count_refused(Protocol::Dhcp, *why, None);
        }
        for why in DropReason::ALL {
            counters.count_dropped(Protocol::Iscsi, *why, None);
        }
        assert_eq!(counters.list().len(), Reason::ALL.len() + DropReason::ALL.len());
        assert!(counters.list().iter().all(|row| row.3 == 1));
    }
}
