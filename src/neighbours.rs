use std::net::IpAddr;

use crate::fleet::Mac;

/// Is the kernel's table of IPv4 neighbours, as this process's network namespace has it.
const TABLE: &str = "/proc/net/arp";
/// Marks an entry that is resolved (ATF_COM of `net/if_arp.h`).
const COMPLETE: u32 = 0x2;

/// Finds the hardware address that the kernel knows an address by.
pub fn look_up(address: IpAddr) -> Option<Mac> {
    let table = std::fs::read_to_string(TABLE).ok()?;
    find(&table, address)
}

/// Columns: address, hardware type, flags, hardware address, mask, device.
fn find(table: &str, address: IpAddr) -> Option<Mac> {
    let row = |line: &str| {
        let mut columns = line.split_ascii_whitespace();
        let (ip, _, flags, mac) = (columns.next()?, columns.next()?, columns.next()?, columns.next()?);
        let flags = u32::from_str_radix(flags.strip_prefix("0x")?, 16).ok()?;
        (ip.parse() == Ok(address) && flags & COMPLETE != 0).then(|| mac.parse().ok())?
    };
    table.lines().find_map(row)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_a_resolved_entry_names_a_machine() {
        let table = "IP address       HW type     Flags       HW address            Mask     Device\n\
                     10.77.0.9        0x1         0x0         00:00:00:00:00:00     *        br0\n\
                     10.77.0.10       0x1         0x2         52:54:00:12:34:56     *        br0\n";
        assert_eq!(find(table, "10.77.0.10".parse().unwrap()), Some(Mac([0x52, 0x54, 0, 0x12, 0x34, 0x56])));
        assert_eq!(find(table, "10.77.0.9".parse().unwrap()), None);
        assert_eq!(find(table, "10.77.0.1".parse().unwrap()), None);
    }
}
