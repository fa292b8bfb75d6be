//! The UUID that firmware claims: the known machine that an unknown interface may belong to.
//!
//! The UUID is a claim, and boards share it: it may keep a machine from an install, and never starts one.

use uuid::{Uuid, uuid};

use crate::fleet::{BootTarget, Host};

/// UUIDs of boards that were never given one, as SMBIOS tools show them; each in both byte orders of its first three
/// parts, since some firmware sends them unswapped.
const VENDOR_DEFAULTS: [Uuid; 8] = [
    uuid!("03000200-0400-0500-0006-000700080009"),
    uuid!("00020003-0004-0005-0006-000700080009"),
    uuid!("12345678-1234-5678-90ab-cddeefaabbcc"),
    uuid!("78563412-3412-7856-90ab-cddeefaabbcc"),
    uuid!("12345678-1234-1234-1234-123456789abc"),
    uuid!("78563412-3412-3412-1234-123456789abc"),
    // A Dell board without a service tag.
    uuid!("4c4c4544-0000-2010-8020-80c04f202020"),
    uuid!("44454c4c-0000-1020-8020-80c04f202020"),
];

/// Returns whether a UUID distinguishes a machine: it is not blank, not one octet throughout, and no vendor's default.
pub fn identifies_machine(uuid: Uuid) -> bool {
    let octets = uuid.as_bytes();
    octets.iter().any(|octet| *octet != octets[0]) && !VENDOR_DEFAULTS.contains(&uuid)
}

/// Returns the known host that an unknown interface with a UUID belongs to. `hosts` are those with this UUID, each with
/// whether it boots an image. Several that do are several machines: their boards share the UUID, which then says nothing.
pub fn machine_of<T>(uuid: Uuid, hosts: impl Iterator<Item = (T, bool)>) -> Option<T> {
    if !identifies_machine(uuid) {
        return None;
    }
    let (mut known, mut images) = (None, 0);
    for (host, boots_image) in hosts {
        images += usize::from(boots_image);
        if images > 1 {
            return None;
        }
        // The host that boots an image is the machine's; the others are hosts of its further interfaces.
        if known.is_none() || boots_image {
            known = Some(host);
        }
    }
    known
}

/// Returns whether two hosts are interfaces of one machine: they claim the same UUID, and at most one of them boots an
/// image.
pub fn is_same_machine(one: &Host, other: &Host) -> bool {
    let boots_image = |host: &Host| host.spec.image != BootTarget::LocalDisk;
    let shared = one.status.uuid.filter(|uuid| other.status.uuid == Some(*uuid));
    shared.is_some_and(identifies_machine) && !(boots_image(one) && boots_image(other))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::fleet::{HostSpec, HostStatus, Mac, Meta};

    const BOARD: Uuid = uuid!("04030201-0605-0807-090a-0b0c0d0e0f10");

    fn host(last: u8, uuid: Uuid, image: &str) -> Host {
        let mut spec = HostSpec::for_mac(Mac([2, 0, 0, 0, 0, last]));
        spec.image = image.parse().unwrap();
        let status = HostStatus { uuid: Some(uuid), ..HostStatus::default() };
        Host { metadata: Meta::named(format!("h{last}").parse().unwrap(), None), spec, status }
    }

    #[test]
    fn blank_and_default_uuids_distinguish_no_machine() {
        let rows = [
            ("00000000-0000-0000-0000-000000000000", false),
            ("ffffffff-ffff-ffff-ffff-ffffffffffff", false),
            ("fefefefe-fefe-fefe-fefe-fefefefefefe", false),
            ("03000200-0400-0500-0006-000700080009", false),
            ("00020003-0004-0005-0006-000700080009", false),
            ("4c4c4544-0000-2010-8020-80c04f202020", false),
            ("4c4c4544-0042-4410-8033-b8c04f4d3432", true),
            ("04030201-0605-0807-090a-0b0c0d0e0f10", true),
        ];
        for (text, expected) in rows {
            assert_eq!(identifies_machine(text.parse().unwrap()), expected, "{text}");
        }
    }

    #[test]
    fn a_uuid_names_a_machine_that_alone_boots_an_image() {
        let rows: [(&[&str], Option<usize>); 7] = [
            (&[], None),
            (&["live"], Some(0)),
            (&["localboot"], Some(0)),
            (&["localboot", "live"], Some(1)),
            (&["live", "localboot", "localboot"], Some(0)),
            (&["live", "live"], None),
            (&["live", "menu", "localboot"], None),
        ];
        for (images, expected) in rows {
            let hosts = || images.iter().enumerate().map(|(index, image)| (index, *image != "localboot"));
            assert_eq!(machine_of(BOARD, hosts()), expected, "{images:?}");
            assert_eq!(machine_of(Uuid::nil(), hosts()), None);
        }
    }

    #[test]
    fn two_hosts_with_images_are_two_machines() {
        let other: Uuid = uuid!("04030201-0605-0807-090a-0b0c0d0e0f11");
        for (one, second, expected) in [
            (host(1, BOARD, "live"), host(2, BOARD, "localboot"), true),
            (host(1, BOARD, "localboot"), host(2, BOARD, "localboot"), true),
            (host(1, BOARD, "live"), host(2, BOARD, "live"), false),
            (host(1, BOARD, "live"), host(2, other, "localboot"), false),
            (host(1, Uuid::nil(), "live"), host(2, Uuid::nil(), "localboot"), false),
        ] {
            assert_eq!(is_same_machine(&one, &second), expected);
            assert_eq!(is_same_machine(&second, &one), expected);
        }
    }
}
