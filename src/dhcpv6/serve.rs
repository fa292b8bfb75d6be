//! The I/O of DHCPv6: one socket an interface, which only receives.

use std::io;
use std::net::{Ipv6Addr, SocketAddr, SocketAddrV6};
use std::sync::Arc;
use std::time::{Duration, Instant};

use socket2::{Domain, Protocol as IpProtocol, Socket, Type};
use tokio::net::UdpSocket;
use tokio::sync::watch;

use crate::boot::DropReason;
use crate::boot::diagnosis::Step;
use crate::bounds::{Rate, TokenBuckets};
use crate::dhcpv6::message::{FirmwareMessage, MessageKind, interface_mac};
use crate::event::Protocol;
use crate::fleet::Mac;
use crate::fleet::machine_uuid::machine_of;
use crate::gate::Gate;
use crate::gate::boot_traces::MessageOrigin;
use crate::store::Snapshot;

/// All DHCPv6 servers and relays of a link (RFC 8415 7.1).
const ALL_SERVERS: Ipv6Addr = Ipv6Addr::new(0xff02, 0, 0, 0, 0, 0, 1, 2);
/// Port of DHCPv6 servers.
const PORT: u16 = 547;
/// Maximum size of a received datagram, in octets.
const MAX_DATAGRAM_BYTES: usize = 1500;
/// Messages of one host in a time. Firmware sends four in half a minute.
const HOST_RATE: Rate = Rate { tokens: 1, per: Duration::from_secs(1), burst: 20 };
/// Maximum number of hosts with a rate of their own.
const MAX_HOSTS: usize = 8192;
/// Messages of all other machines of an interface in a time.
const STRANGER_RATE: Rate = Rate { tokens: 100, per: Duration::from_secs(1), burst: 1000 };
/// Pause after a failed receive: it may fail again at once.
const RETRY_INTERVAL: Duration = Duration::from_secs(1);

/// A socket, and the interface that it receives on.
#[derive(Debug)]
pub struct FirmwareListener {
    socket: Socket,
    /// The interface by its index among those with DHCP; `None` without DHCP there.
    interface: Option<usize>,
}

impl FirmwareListener {
    /// Opens the socket of an interface. It receives what is sent to all servers, and leaves a DHCPv6 server on this
    /// machine its own port.
    ///
    /// # Errors
    /// The interface has no IPv6, or another program has the port to itself.
    pub fn open(name: &str, interface: Option<usize>) -> io::Result<Self> {
        let index = nix::net::if_::if_nametoindex(name)?;
        // The kernel lets such an interface join, and receives nothing on it.
        let disabled = std::fs::read_to_string(format!("/proc/sys/net/ipv6/conf/{name}/disable_ipv6"));
        if disabled.is_ok_and(|flag| flag.trim() == "1") {
            return Err(io::Error::new(io::ErrorKind::AddrNotAvailable, "IPv6 is switched off on the interface"));
        }
        let socket = Socket::new(Domain::IPV6, Type::DGRAM.nonblocking(), Some(IpProtocol::UDP))?;
        socket.set_only_v6(true)?;
        socket.set_reuse_address(true)?;
        socket.bind_device(Some(name.as_bytes()))?;
        socket.bind(&SocketAddrV6::new(ALL_SERVERS, PORT, 0, index).into())?;
        socket.join_multicast_v6(&ALL_SERVERS, index)?;
        Ok(Self { socket, interface })
    }

    /// Records what firmware asks for, until `stopped` turns true.
    ///
    /// # Errors
    /// The socket cannot be waited for.
    pub async fn serve(self, gate: Arc<Gate>, mut stopped: watch::Receiver<bool>) -> io::Result<()> {
        let socket = UdpSocket::from_std(self.socket.into())?;
        let mut recorder = Recorder::new(gate, self.interface);
        let mut buffer = [0; MAX_DATAGRAM_BYTES];
        loop {
            let received = tokio::select! {
                received = socket.recv_from(&mut buffer) => received,
                _ = stopped.wait_for(|stop| *stop) => return Ok(()),
            };
            match received {
                Ok((length, SocketAddr::V6(from))) => {
                    recorder.take(*from.ip(), buffer.get(..length).unwrap_or_default(), Instant::now());
                }
                Ok((_, SocketAddr::V4(_))) => {}
                Err(error) => {
                    tracing::debug!(%error, "DHCPv6 receive failed");
                    tokio::time::sleep(RETRY_INTERVAL).await;
                }
            }
        }
    }
}

/// Records messages of firmware with the machines that they are of, within their rates.
struct Recorder {
    gate: Arc<Gate>,
    interface: Option<usize>,
    hosts: TokenBuckets<Mac>,
    strangers: TokenBuckets<()>,
}

impl Recorder {
    fn new(gate: Arc<Gate>, interface: Option<usize>) -> Self {
        let (hosts, strangers) = (TokenBuckets::new(HOST_RATE, MAX_HOSTS), TokenBuckets::new(STRANGER_RATE, 1));
        Self { gate, interface, hosts, strangers }
    }

    /// Records a message, or counts why it is dropped.
    fn take(&mut self, from: Ipv6Addr, message: &[u8], now: Instant) {
        if let Err(reason) = self.record(from, message, now) {
            self.gate.counters.count_dropped(Protocol::Dhcp, reason, Some(from.into()));
        }
    }

    fn record(&mut self, from: Ipv6Addr, message: &[u8], now: Instant) -> Result<(), DropReason> {
        let message = FirmwareMessage::parse(message)?;
        let (mac, is_host) = {
            let state = self.gate.store.load();
            let mac = machine(&state, interface_mac(from), &message).ok_or(DropReason::NoHardwareAddress)?;
            (mac, state.has_host(mac))
        };
        let has_token = if is_host { self.hosts.take(mac, now) } else { self.strangers.take((), now) };
        if !has_token {
            return Err(DropReason::RateLimit);
        }
        let step = match message.kind {
            MessageKind::Solicit => Step::SolicitV6,
            MessageKind::Request => Step::RequestV6,
        };
        match self.interface {
            Some(interface) => {
                let uuid = message.uuids.first().copied();
                self.gate.trace_from(mac, step, MessageOrigin { interface, uuid, at: None });
            }
            None => self.gate.trace(mac, step),
        }
        Ok(())
    }
}

/// Returns the machine that a message is of: the host with the MAC address of the interface or of the DUID, the declared
/// host with its UUID, or a machine that is not known.
fn machine(state: &Snapshot, interface: Option<Mac>, message: &FirmwareMessage) -> Option<Mac> {
    let claimed = || interface.into_iter().chain(message.mac);
    let by_uuid = || {
        let known = message.uuids.iter().find_map(|uuid| machine_of(*uuid, state.hosts_by_uuid(*uuid)));
        known.filter(|mac| state.is_declared(*mac))
    };
    claimed().find(|mac| state.has_host(*mac)).or_else(by_uuid).or_else(|| claimed().next())
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;
    use crate::gate::fixture::{Fixture, VM};
    use crate::store::{Change, Observation};

    const INTERFACE: Ipv6Addr = Ipv6Addr::new(0xfe80, 0, 0, 0, 0x5054, 0xff, 0xfe12, 0x3456);
    const OTHER: Ipv6Addr = Ipv6Addr::new(0xfe80, 0, 0, 0, 0x5054, 0xff, 0xfe12, 0x9999);
    const STRANGER: Mac = Mac([0x52, 0x54, 0, 0x12, 0x99, 0x99]);
    const UUID: [u8; 16] = [1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15, 16];

    fn message(kind: u8, duid: &[u8]) -> Vec<u8> {
        let option = |code: u8, data: &[u8]| [&[0, code, 0, data.len() as u8][..], data].concat();
        let class = [&[0, 0, 1, 0x57, 0, 9][..], b"PXEClient"].concat();
        [vec![kind, 0, 0, 0], option(61, &[0, 7]), option(16, &class), option(1, duid)].concat()
    }

    fn seen(fixture: &Fixture, mac: Mac) -> Vec<(Step, u32)> {
        let steps = fixture.gate.traces.look_up(mac).map(|machine| machine.steps).unwrap_or_default();
        steps.into_iter().map(|evidence| (evidence.step, evidence.count)).collect()
    }

    #[tokio::test]
    async fn a_message_is_of_the_machine_that_its_addresses_name() {
        let fixture = Fixture::new("hold");
        fixture.put_vm(json!({})).await;
        let mut recorder = Recorder::new(fixture.gate.clone(), Some(0));
        let now = Instant::now();
        let by_uuid = [&[0, 4][..], &UUID].concat();
        let by_mac = [&[0, 3, 0, 1][..], &VM.0].concat();
        recorder.take(INTERFACE, &message(1, &by_uuid), now);
        recorder.take(Ipv6Addr::new(0xfe80, 0, 0, 0, 1, 2, 3, 4), &message(1, &by_mac), now);
        recorder.take(OTHER, &message(1, &by_mac), now);
        assert_eq!(seen(&fixture, VM), [(Step::SolicitV6, 3)]);
        // Nobody has the UUID yet; then the machine has it.
        recorder.take(OTHER, &message(1, &by_uuid), now);
        assert_eq!(seen(&fixture, STRANGER), [(Step::SolicitV6, 1)]);
        let uuid = Some(uuid::Uuid::from_bytes_le(UUID));
        let observation = Observation { firmware: None, address: None, uuid };
        fixture.gate.store.commit(Change::Observe { mac: VM, observation }).await.unwrap();
        recorder.take(OTHER, &message(3, &by_uuid), now);
        assert_eq!(seen(&fixture, VM), [(Step::SolicitV6, 3), (Step::RequestV6, 1)]);
        assert_eq!(seen(&fixture, STRANGER), [(Step::SolicitV6, 1)]);
    }

    #[tokio::test]
    async fn what_is_dropped_is_counted() {
        let fixture = Fixture::new("hold");
        fixture.put_vm(json!({})).await;
        let mut recorder = Recorder::new(fixture.gate.clone(), None);
        let now = Instant::now();
        let dropped = |reason| fixture.gate.counters.dropped(Protocol::Dhcp, reason);
        recorder.take(INTERFACE, &[1, 0], now);
        recorder.take(INTERFACE, &[1, 0, 0, 0], now);
        recorder.take(Ipv6Addr::LOCALHOST, &message(1, &[0, 2, 0, 0]), now);
        assert_eq!(
            [DropReason::Truncated, DropReason::NotABootRequest, DropReason::NoHardwareAddress].map(dropped),
            [1, 1, 1]
        );
        let flood = message(1, &[0, 2]);
        (0..100).for_each(|_| recorder.take(INTERFACE, &flood, now));
        assert_eq!((seen(&fixture, VM), dropped(DropReason::RateLimit)), (vec![(Step::SolicitV6, 20)], 80));
        (0..3000).for_each(|_| recorder.take(OTHER, &flood, now));
        assert_eq!(seen(&fixture, STRANGER), [(Step::SolicitV6, 1000)]);
        assert_eq!(dropped(DropReason::RateLimit), 80 + 2000);
        // A second later each may say one more.
        recorder.take(INTERFACE, &flood, now + Duration::from_secs(1));
        assert_eq!(seen(&fixture, VM), [(Step::SolicitV6, 21)]);
    }
}
