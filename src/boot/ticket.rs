//! Tickets: what a script carries in the URLs that it names, so that a later request proves to come from
//! the machine that the script was given to. A ticket holds no state: it is the machine's address and the
//! time, signed. It ends with its window, with the next install, and when the machine is held.

use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use jiff::Timestamp;
use ring::hmac;

use crate::fleet::{Host, Mac, Phase};

/// Is the signature's length in octets: half of HMAC-SHA-256 (RFC 2104, 5).
const TAG: usize = 16;
/// Is how long before a script's serving its ticket may have been made, in seconds: both are rounded.
const ROUNDING: i64 = 1;

/// Signs tickets, and knows its own.
pub struct Tickets(hmac::Key);

impl std::fmt::Debug for Tickets {
    fn fmt(&self, out: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        out.write_str("Tickets")
    }
}

impl Tickets {
    pub fn new(secret: &[u8; 32]) -> Self {
        Self(hmac::Key::new(hmac::HMAC_SHA256, secret))
    }

    /// Makes the ticket of a machine's script.
    pub fn issue(&self, mac: Mac, now: Timestamp) -> String {
        let mut text = signed(mac, now.as_second());
        let tag = hmac::sign(&self.0, &text);
        text.extend_from_slice(&tag.as_ref()[..TAG]);
        URL_SAFE_NO_PAD.encode(text)
    }

    /// Reads a ticket of ours: whose it is, and from when. Anything else is nobody's.
    pub fn read(&self, text: &str) -> Option<(Mac, Timestamp)> {
        let bytes = URL_SAFE_NO_PAD.decode(text).ok()?;
        let (claim, tag) = bytes.split_at_checked(6 + 8)?;
        let (mac, second) = claim.split_first_chunk::<6>()?;
        let second = i64::from_be_bytes(second.try_into().ok()?);
        let wanted = hmac::sign(&self.0, claim);
        let same = tag.len() == TAG && tag.iter().zip(wanted.as_ref()).fold(0, |differ, (a, b)| differ | (a ^ b)) == 0;
        same.then(|| Timestamp::from_second(second).ok().map(|at| (Mac(*mac), at)))?
    }
}

fn signed(mac: Mac, second: i64) -> Vec<u8> {
    let mut claim = mac.0.to_vec();
    claim.extend_from_slice(&second.to_be_bytes());
    claim
}

/// Says whether a ticket from a time still speaks for a host: within its window, and of its present install.
pub fn is_good(host: &Host, issued: Timestamp, now: Timestamp, window: std::time::Duration) -> bool {
    let age = now.as_second() - issued.as_second();
    let within = age >= -ROUNDING && u64::try_from(age.max(0)).is_ok_and(|age| age <= window.as_secs());
    let first = host.status.install.as_ref().and_then(|install| install.first_offer);
    let present = first.is_some_and(|first| issued.as_second() + ROUNDING >= first.as_second());
    within && present && host.status.phase != Phase::Held
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::fleet::{HostSpec, HostStatus, Install, Meta};
    use std::time::Duration;

    const VM: Mac = Mac([0x52, 0x54, 0, 0, 0, 1]);

    fn at(second: i64) -> Timestamp {
        Timestamp::from_second(1_800_000_000 + second).unwrap()
    }

    #[test]
    fn only_our_own_tickets_are_read() {
        let ours = Tickets::new(&[7; 32]);
        let ticket = ours.issue(VM, at(0));
        assert_eq!(ours.read(&ticket), Some((VM, at(0))));
        assert_eq!(Tickets::new(&[8; 32]).read(&ticket), None);
        for (place, _) in ticket.char_indices() {
            let mut other = ticket.clone();
            let letter = if &ticket[place..=place] == "A" { "B" } else { "A" };
            other.replace_range(place..=place, letter);
            assert_eq!(ours.read(&other), None, "{place}");
        }
        for text in ["", "x", &ticket[1..], &format!("{ticket}AAAA")] {
            assert_eq!(ours.read(text), None, "{text}");
        }
    }

    #[test]
    fn a_ticket_speaks_for_one_install_within_its_window() {
        let host = |first_offer: Option<i64>, phase| {
            let install = Some(Install { first_offer: first_offer.map(at), ..Install::default() });
            let status = HostStatus { phase, install, ..HostStatus::default() };
            Host { metadata: Meta::named("h".parse().unwrap(), None), spec: HostSpec::for_mac(VM), status }
        };
        let window = Duration::from_secs(600);
        let good = |host: &Host, issued, now| is_good(host, at(issued), at(now), window);
        assert!(good(&host(Some(0), Phase::Offered), 0, 600));
        assert!(!good(&host(Some(0), Phase::Offered), 0, 601));
        assert!(!good(&host(Some(0), Phase::Held), 0, 1));
        assert!(!good(&host(Some(100), Phase::Offered), 0, 110));
        assert!(!good(&host(None, Phase::Assigned), 0, 1));
        assert!(good(&host(Some(0), Phase::Installed), 5, 10));
    }
}
