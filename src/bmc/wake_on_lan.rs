//! Wake-on-LAN: the power-on of a machine without a BMC.

use std::collections::BTreeSet;
use std::net::{Ipv4Addr, SocketAddr};

use tokio::net::UdpSocket;

use crate::fleet::Mac;

/// The port of magic packets (discard). Network cards look at the content only.
const PORT: u16 = 9;
/// Number of times that a packet is sent: it is not acknowledged.
const REPEATS: usize = 3;

/// Sends magic packets for a machine to these broadcast addresses, one of each network. Returns how many networks they
/// went to; no machine confirms that it was woken.
///
/// # Errors
/// The packet could be sent to none of them.
pub async fn wake(mac: Mac, broadcasts: &BTreeSet<Ipv4Addr>) -> std::io::Result<usize> {
    let socket = UdpSocket::bind((Ipv4Addr::UNSPECIFIED, 0)).await?;
    socket.set_broadcast(true)?;
    let packet = magic_packet(mac);
    let (mut count, mut last) = (0, None);
    for broadcast in broadcasts {
        let target = SocketAddr::from((*broadcast, PORT));
        let mut sent = Ok(0);
        for _ in 0..REPEATS {
            sent = socket.send_to(&packet, target).await;
        }
        match sent {
            Ok(_) => count += 1,
            Err(error) => {
                tracing::debug!(%mac, %broadcast, %error, "failed to send a magic packet");
                last = Some(error);
            }
        }
    }
    match last {
        Some(error) if count == 0 => Err(error),
        Some(_) | None => Ok(count),
    }
}

/// Returns the magic packet of a machine: six octets 0xff, then its address 16 times.
fn magic_packet(mac: Mac) -> [u8; 102] {
    let mut packet = [0xff; 102];
    for place in packet[6..].chunks_exact_mut(6) {
        place.copy_from_slice(&mac.0);
    }
    packet
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_magic_packet_repeats_the_address() {
        let packet = magic_packet(Mac([0x52, 0x54, 0, 1, 2, 3]));
        assert_eq!(packet[..6], [0xff; 6]);
        assert_eq!(packet[6..].chunks(6).filter(|place| *place == [0x52, 0x54, 0, 1, 2, 3]).count(), 16);
    }
}
