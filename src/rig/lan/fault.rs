//! Faults of the LAN: which frames are dropped or delayed. Pure; chance is a generator with a fixed seed, so that a run
//! repeats.

use std::collections::{BTreeMap, VecDeque};
use std::time::Duration;

use crate::fleet::Mac;

use super::frame::{Frame, Segment};

/// Maximum number of TFTP sessions that are followed.
const MAX_SESSIONS: usize = 256;
/// TFTP's port.
const TFTP: u16 = 69;
/// The seed of the generator.
const SEED: u64 = 0x9e37_79b9_7f4a_7c15;

/// A fault. `macs` are those of the machine that it is for; `None` for all.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Fault {
    /// Packets are dropped once a machine got more than `after` bytes.
    Drop {
        /// The packets.
        traffic: Traffic,
        /// Bytes that each machine gets before.
        after: u64,
        /// Addresses of the machine.
        macs: Option<Vec<Mac>>,
    },
    /// Frames are lost at random.
    Lose {
        /// Number of lost frames in a million.
        millionths: u32,
        /// Addresses of the machine.
        macs: Option<Vec<Mac>>,
    },
    /// Frames are delayed.
    Delay {
        /// The time.
        time: Duration,
        /// Addresses of the machine.
        macs: Option<Vec<Mac>>,
    },
}

impl std::fmt::Display for Fault {
    fn fmt(&self, to: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let macs = match self {
            Self::Drop { traffic, after, macs } => {
                write!(to, "drop {traffic}")?;
                if *after > 0 {
                    write!(to, " after {after} octets")?;
                }
                macs
            }
            Self::Lose { millionths, macs } => {
                write!(to, "lose {} % of the frames", f64::from(*millionths) / 10_000.0)?;
                macs
            }
            Self::Delay { time, macs } => {
                write!(to, "delay frames by {} ms", time.as_millis())?;
                macs
            }
        };
        macs.iter().flatten().try_for_each(|mac| write!(to, " of {mac}"))
    }
}

/// Packets between a machine and a server's port.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Traffic {
    /// TFTP: requests to port 69, and the transfers that follow from other ports.
    Tftp,
    /// UDP or TCP with this port of the server.
    Port(u16),
}

impl std::fmt::Display for Traffic {
    fn fmt(&self, to: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match (Self::NAMES.iter().find(|(_, known)| known == self), self) {
            (Some((name, _)), _) => to.write_str(name),
            (None, Self::Port(port)) => write!(to, "port {port}"),
            (None, Self::Tftp) => write!(to, "port {TFTP}"),
        }
    }
}

impl Traffic {
    /// Names of the protocols.
    pub const NAMES: [(&str, Self); 5] = [
        ("dhcp", Self::Port(67)),
        ("proxydhcp", Self::Port(4011)),
        ("tftp", Self::Tftp),
        ("http", Self::Port(80)),
        ("iscsi", Self::Port(3260)),
    ];

    /// Parses a protocol's name or a port.
    pub fn parse(word: &str) -> Option<Self> {
        let named = Self::NAMES.iter().find(|(name, _)| *name == word).map(|(_, traffic)| *traffic);
        named.or_else(|| match word.parse().ok().filter(|port| *port != 0)? {
            TFTP => Some(Self::Tftp),
            port => Some(Self::Port(port)),
        })
    }
}

/// What becomes of a frame.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Fate {
    /// It is sent on.
    Pass,
    /// It is sent on later.
    Delay(Duration),
    /// It is dropped.
    Drop,
}

/// The faults of a LAN, and what they remember.
#[derive(Debug)]
pub struct Faults {
    faults: Vec<Fault>,
    /// Bytes that a machine got of the traffic of a fault.
    given: BTreeMap<(usize, [u8; 6]), u64>,
    /// Machines' ports of TFTP sessions, the oldest first.
    sessions: VecDeque<([u8; 6], u16)>,
    random: u64,
}

impl Faults {
    /// Creates the state of faults.
    pub fn new(faults: Vec<Fault>) -> Self {
        Self { faults, given: BTreeMap::new(), sessions: VecDeque::new(), random: SEED }
    }

    /// Returns what becomes of a frame, of a machine or to one.
    pub fn fate(&mut self, frame: &Frame, is_to_machine: bool) -> Fate {
        let machine = if is_to_machine { frame.to } else { frame.from };
        if let Some(Segment { is_udp: true, from, to: TFTP, .. }) = frame.segment.filter(|_| !is_to_machine)
            && !self.sessions.contains(&(machine, from))
        {
            self.sessions.truncate(MAX_SESSIONS - 1);
            self.sessions.push_front((machine, from));
        }
        let mut delay = Duration::ZERO;
        for index in 0..self.faults.len() {
            match &self.faults[index] {
                Fault::Drop { traffic, after, macs } => {
                    let (traffic, after) = (*traffic, *after);
                    let is_meant = is_for(macs.as_ref(), machine);
                    if is_meant && self.drops(index, traffic, after, frame, machine, is_to_machine) {
                        return Fate::Drop;
                    }
                }
                Fault::Lose { millionths, macs } => {
                    let millionths = *millionths;
                    if is_for(macs.as_ref(), machine) && self.next_random() % 1_000_000 < u64::from(millionths) {
                        return Fate::Drop;
                    }
                }
                Fault::Delay { time, macs } => {
                    if is_for(macs.as_ref(), machine) {
                        delay += *time;
                    }
                }
            }
        }
        if delay.is_zero() { Fate::Pass } else { Fate::Delay(delay) }
    }

    /// Returns whether a fault drops a frame; counts what the machine gets.
    fn drops(
        &mut self,
        index: usize,
        traffic: Traffic,
        after: u64,
        frame: &Frame,
        machine: [u8; 6],
        is_to_machine: bool,
    ) -> bool {
        let Some(segment) = frame.segment else { return false };
        let (own, servers) = if is_to_machine { (segment.to, segment.from) } else { (segment.from, segment.to) };
        let is_meant = match traffic {
            Traffic::Tftp => segment.is_udp && (servers == TFTP || self.sessions.contains(&(machine, own))),
            Traffic::Port(port) => servers == port,
        };
        if !is_meant {
            return false;
        }
        let given = self.given.entry((index, machine)).or_default();
        if *given >= after {
            return true;
        }
        if is_to_machine {
            *given += segment.length as u64;
        }
        false
    }

    /// Returns the next number of a xorshift generator.
    fn next_random(&mut self) -> u64 {
        self.random ^= self.random << 13;
        self.random ^= self.random >> 7;
        self.random ^= self.random << 17;
        self.random >> 11
    }
}

fn is_for(macs: Option<&Vec<Mac>>, machine: [u8; 6]) -> bool {
    macs.is_none_or(|macs| macs.contains(&Mac(machine)))
}

#[cfg(test)]
mod tests {
    use super::*;

    const VM: [u8; 6] = [2, 0, 0, 0, 0, 1];
    const SERVER: [u8; 6] = [2, 0, 0, 0, 0, 9];

    fn udp(from: u16, to: u16, length: usize, is_to_machine: bool) -> Frame {
        let segment = Some(Segment { is_udp: true, from, to, length });
        let (from, to) = if is_to_machine { (SERVER, VM) } else { (VM, SERVER) };
        Frame { from, to, segment }
    }

    #[test]
    fn tftp_is_dropped_after_its_bytes_and_nothing_else() {
        let traffic = Traffic::parse("tftp").unwrap();
        let mut faults = Faults::new(vec![Fault::Drop { traffic, after: 1000, macs: None }]);
        assert_eq!(faults.fate(&udp(2070, 69, 30, false), false), Fate::Pass);
        for (length, expected) in [(516, Fate::Pass), (516, Fate::Pass), (516, Fate::Drop)] {
            assert_eq!(faults.fate(&udp(40_000, 2070, length, true), true), expected);
        }
        assert_eq!(faults.fate(&udp(2070, 40_000, 4, false), false), Fate::Drop);
        assert_eq!(faults.fate(&udp(2071, 69, 30, false), false), Fate::Drop);
        assert_eq!(faults.fate(&udp(68, 67, 300, false), false), Fate::Pass);
    }

    #[test]
    fn a_fault_is_named_in_words() {
        let macs = Some(vec![Mac(VM)]);
        let rows = [
            (Fault::Drop { traffic: Traffic::Port(4011), after: 0, macs: None }, "drop proxydhcp"),
            (
                Fault::Drop { traffic: Traffic::Tftp, after: 40_000, macs },
                "drop tftp after 40000 octets of 02:00:00:00:00:01",
            ),
            (Fault::Drop { traffic: Traffic::Port(443), after: 0, macs: None }, "drop port 443"),
            (Fault::Lose { millionths: 25_000, macs: None }, "lose 2.5 % of the frames"),
            (Fault::Delay { time: Duration::from_millis(20), macs: None }, "delay frames by 20 ms"),
        ];
        for (fault, expected) in rows {
            assert_eq!(fault.to_string(), expected);
        }
    }

    #[test]
    fn a_fault_is_for_its_machine_only() {
        let macs = Some(vec![Mac(SERVER)]);
        let mut faults = Faults::new(vec![Fault::Drop { traffic: Traffic::Port(4011), after: 0, macs }]);
        assert_eq!(faults.fate(&udp(68, 4011, 300, false), false), Fate::Pass);
        let mut faults =
            Faults::new(vec![Fault::Drop { traffic: Traffic::Port(4011), after: 0, macs: Some(vec![Mac(VM)]) }]);
        assert_eq!(faults.fate(&udp(68, 4011, 300, false), false), Fate::Drop);
    }

    #[test]
    fn the_lost_share_is_the_configured_one() {
        let mut faults = Faults::new(vec![Fault::Lose { millionths: 50_000, macs: None }]);
        let frame = udp(68, 67, 300, false);
        let lost = (0..100_000).filter(|_| faults.fate(&frame, false) == Fate::Drop).count();
        assert!((4_500..5_500).contains(&lost), "{lost}");
        let delay = Duration::from_millis(20);
        let mut faults =
            Faults::new(vec![Fault::Delay { time: delay, macs: None }, Fault::Delay { time: delay, macs: None }]);
        assert_eq!(faults.fate(&frame, true), Fate::Delay(delay * 2));
    }

    #[test]
    fn the_followed_sessions_are_bounded() {
        let mut faults = Faults::new(Vec::new());
        for port in 1..2000 {
            faults.fate(&udp(port, 69, 30, false), false);
        }
        assert_eq!((faults.sessions.len(), faults.sessions[0]), (MAX_SESSIONS, (VM, 1999)));
    }
}
