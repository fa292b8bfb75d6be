//! The hardware address of a client: Ethernet's, or InfiniBand's (RFC 4390).
//!
//! The hardware address of an InfiniBand port has 20 octets and does not fit into a message. FlexBoot and iPXE send an
//! Ethernet-like address that they make of the port's GUID. Other clients send none: their client identifier tells them
//! apart.

use sha2::{Digest as _, Sha256};

use crate::boot::DropReason;
use crate::fleet::Mac;

/// Hardware type of Ethernet (IANA "Hardware Types").
const ETHERNET: u8 = 1;
/// Hardware type of InfiniBand.
const INFINIBAND: u8 = 32;
/// Length of an Ethernet address, in octets.
const MAC_LENGTH: u8 = 6;
/// Length of a port's GUID, in octets.
const GUID_LENGTH: usize = 8;

/// The form in which a client gives its hardware address.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum HardwareForm {
    /// An Ethernet address.
    Ethernet,
    /// InfiniBand with the Ethernet-like address that FlexBoot and iPXE make of the port's GUID.
    InfinibandMac,
    /// InfiniBand without an address. The client identifier has the port's GUID, of which the Ethernet-like address is
    /// made as FlexBoot does.
    InfinibandGuid,
    /// InfiniBand without an address, and with another client identifier. A MAC address stands for it in this server.
    InfinibandClient,
}

impl HardwareForm {
    /// Returns the hardware type and the length of the address, as the header has them.
    pub fn type_and_length(self) -> [u8; 2] {
        match self {
            Self::Ethernet => [ETHERNET, MAC_LENGTH],
            Self::InfinibandMac => [INFINIBAND, MAC_LENGTH],
            Self::InfinibandGuid | Self::InfinibandClient => [INFINIBAND, 0],
        }
    }

    /// Returns whether the header has the MAC address.
    pub fn is_in_header(self) -> bool {
        match self {
            Self::Ethernet | Self::InfinibandMac => true,
            Self::InfinibandGuid | Self::InfinibandClient => false,
        }
    }

    /// Returns whether the MAC address is the one that the machine's boot programs use as its name.
    pub fn names_machine(self) -> bool {
        match self {
            Self::Ethernet | Self::InfinibandMac | Self::InfinibandGuid => true,
            Self::InfinibandClient => false,
        }
    }

    /// Returns whether a frame to the MAC address reaches the client. An InfiniBand port is reached by a broadcast
    /// until it has its address (RFC 4390 2).
    pub fn is_reached_by_mac(self) -> bool {
        match self {
            Self::Ethernet => true,
            Self::InfinibandMac | Self::InfinibandGuid | Self::InfinibandClient => false,
        }
    }
}

/// Returns the MAC address of a client, from the type, the length and the address of its header, and its client
/// identifier (option 61).
///
/// # Errors
/// The client has no address that this server supports.
pub fn identify(
    [kind, length]: [u8; 2],
    address: [u8; 6],
    client: Option<&[u8]>,
) -> Result<(Mac, HardwareForm), DropReason> {
    let found = match (kind, length, client) {
        (ETHERNET, MAC_LENGTH, _) => (Mac(address), HardwareForm::Ethernet),
        (INFINIBAND, MAC_LENGTH, _) => (Mac(address), HardwareForm::InfinibandMac),
        (INFINIBAND, 0, Some(client @ [_, _, ..])) => match port_guid(client).map(mac_of_guid) {
            Some(mac) if is_usable(mac) => (mac, HardwareForm::InfinibandGuid),
            Some(_) | None => (stand_in(client), HardwareForm::InfinibandClient),
        },
        _ => return Err(DropReason::NoHardwareAddress),
    };
    if is_usable(found.0) { Ok(found) } else { Err(DropReason::NoHardwareAddress) }
}

/// Returns whether an interface may have an address: no group address, and not unset.
fn is_usable(mac: Mac) -> bool {
    mac.0[0] & 1 == 0 && mac.0 != [0; 6]
}

/// Returns the GUID of a port in a client identifier: of RFC 4390 (type 32, then the link-layer address), of RFC 4361
/// with a link-layer DUID of an InfiniBand port (RFC 8415 11.2 and 11.4), or in Mellanox's form of an enterprise DUID.
fn port_guid(client: &[u8]) -> Option<[u8; GUID_LENGTH]> {
    /// Length of the link-layer address of an InfiniBand port (RFC 4391 9.1.1).
    const LINK_LAYER: usize = 20;
    let link_layer = match client {
        [INFINIBAND, address @ ..] => address,
        // Type 255, IAID, DUID-LLT (with a time) or DUID-LL.
        [255, _, _, _, _, 0, 1, 0, INFINIBAND, _, _, _, _, address @ ..] => address,
        [255, _, _, _, _, 0, 3, 0, INFINIBAND, address @ ..] => address,
        [255, _, _, _, _, 0, 2, 0, 0, 2, 0xc9, 0, guid @ ..] if guid.len() == GUID_LENGTH => guid,
        _ => return None,
    };
    let is_complete = matches!(link_layer.len(), GUID_LENGTH | LINK_LAYER);
    link_layer.last_chunk().copied().filter(|_| is_complete)
}

/// Returns the Ethernet-like address of a GUID, without its two octets in the middle.
fn mac_of_guid([a, b, c, _, _, d, e, f]: [u8; GUID_LENGTH]) -> Mac {
    Mac([a, b, c, d, e, f])
}

/// Returns a locally administered MAC address that stands for a client identifier, the same after each restart.
fn stand_in(client: &[u8]) -> Mac {
    let [a, b, c, d, e, ..] = <[u8; 32]>::from(Sha256::digest(client));
    Mac([2, a, b, c, d, e])
}

#[cfg(test)]
mod tests {
    use super::*;

    const CARD: Mac = Mac([0xe4, 0x1d, 0x2d, 0xf8, 0xf0, 0x0c]);

    #[test]
    fn an_infiniband_port_has_the_address_that_its_boot_rom_uses() {
        let guid = [0xe4, 0x1d, 0x2d, 3, 0, 0xf8, 0xf0, 0x0c];
        let with = |head: &[u8]| [head, &guid].concat();
        for client in [
            with(&[32]),
            with(&[&[32, 0x80, 0, 4, 4, 0xfe, 0x80][..], &[0; 6]].concat()),
            with(&[255, 0, 0, 0, 9, 0, 3, 0, 32]),
            with(&[255, 0, 0, 0, 9, 0, 1, 0, 32, 1, 2, 3, 4]),
            with(&[255, 0, 0, 0, 0, 0, 2, 0, 0, 2, 0xc9, 0]),
        ] {
            let found = identify([32, 0], [0; 6], Some(&client));
            assert_eq!(found, Ok((CARD, HardwareForm::InfinibandGuid)), "{client:02x?}");
        }
        assert_eq!(identify([32, 6], CARD.0, None), Ok((CARD, HardwareForm::InfinibandMac)));
        assert_eq!(identify([1, 6], CARD.0, None), Ok((CARD, HardwareForm::Ethernet)));
    }

    #[test]
    fn another_client_identifier_has_an_address_of_its_own() {
        let of = |client: &[u8]| {
            let (mac, form) = identify([32, 0], [0; 6], Some(client)).unwrap();
            assert_eq!((form, mac.0[0]), (HardwareForm::InfinibandClient, 2), "{client:02x?}");
            mac
        };
        let short = [255, 0, 0, 0, 0, 0, 2, 0, 0, 2, 0, 0, 0x12, 0x34, 0x56, 0x78];
        let (machine_id, group) = ([255, 9, 9, 9, 9, 0, 2, 0, 0, 0xab, 0x11, 1, 2, 3, 4, 5, 6, 7, 8], [32, 1, 2, 3]);
        assert_eq!(of(&short), of(&short));
        assert_ne!(of(&short), of(&machine_id));
        assert_ne!(of(&short), of(&group));
        let zeros = [&[32][..], &[0; 8]].concat();
        assert_ne!(of(&zeros), of(&short), "a GUID that names no port is a client identifier like any other");
    }

    #[test]
    fn other_hardware_is_not_supported() {
        for (kind, client) in [
            ([32, 0], None),
            ([32, 0], Some(&[32][..])),
            ([32, 20], Some(&[32, 1][..])),
            ([1, 0], Some(&[1, 2][..])),
            ([1, 16], None),
            ([24, 8], None),
        ] {
            assert_eq!(identify(kind, CARD.0, client), Err(DropReason::NoHardwareAddress), "{kind:?}");
        }
        for address in [[0; 6], [1, 0, 0, 0, 0, 1], [0xff; 6]] {
            assert_eq!(identify([32, 6], address, None), Err(DropReason::NoHardwareAddress));
        }
    }
}
