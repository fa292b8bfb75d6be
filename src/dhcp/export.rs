//! The text of the leases file, in the format of dnsmasq's leases file, which operators and their scripts know.

use std::fmt::Write;

use jiff::Timestamp;

use crate::fleet::Lease;

/// Returns a line for each lease in force: end, MAC address, address, name and client identifier.
pub fn lines<'a>(leases: impl Iterator<Item = &'a Lease>, now: Timestamp) -> String {
    let mut text = String::new();
    for lease in leases.filter(|lease| lease.is_bound_at(now)) {
        let Lease { address, mac, client, hostname, until, .. } = lease;
        let name = hostname.as_deref().unwrap_or("*");
        // Writing to a String does not fail.
        let _ = write!(text, "{} {mac} {address} {name} ", until.as_second());
        let _ = match client {
            None => write!(text, "01:{mac}"),
            Some(id) => id.iter().enumerate().try_for_each(|(place, octet)| match place {
                0 => write!(text, "{octet:02x}"),
                _ => write!(text, ":{octet:02x}"),
            }),
        };
        text.push('\n');
    }
    text
}

/// Returns the time at which the next lease in force ends and its line goes.
pub fn next_end<'a>(leases: impl Iterator<Item = &'a Lease>, now: Timestamp) -> Option<Timestamp> {
    leases.filter(|lease| lease.is_bound_at(now)).map(|lease| lease.until).min()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::fleet::{LeaseState, Mac};

    #[test]
    fn a_lease_has_the_format_of_dnsmasq() {
        let lease = |last, held, until| Lease {
            address: [10, 0, 0, last].into(),
            mac: Mac([0x52, 0x54, 0, 0, 0, last]),
            client: (last == 2).then(|| Box::from([255, 0, 10])),
            hostname: (last == 2).then(|| "node2".into()),
            held,
            until: Timestamp::from_second(until).unwrap(),
        };
        let leases = [
            lease(1, LeaseState::Bound, 500),
            lease(2, LeaseState::Bound, 500),
            lease(3, LeaseState::Bound, 100),
            lease(4, LeaseState::Declined, 500),
            lease(5, LeaseState::Released, 500),
        ];
        let at = |second| Timestamp::from_second(second).unwrap();
        assert_eq!(next_end(leases.iter(), at(99)), Some(at(100)));
        assert_eq!(next_end(leases.iter(), at(100)), Some(at(500)));
        assert_eq!(next_end(leases.iter(), at(500)), None);
        let text = lines(leases.iter(), at(100));
        let expected =
            "500 52:54:00:00:00:01 10.0.0.1 * 01:52:54:00:00:00:01\n500 52:54:00:00:00:02 10.0.0.2 node2 ff:00:0a\n";
        assert_eq!(text, expected);
    }
}
