//! A ProxyDHCP responder that decides and records nothing: the floor below the servers that the benchmarks compare.
//!
//! `null-dhcp --interface lan0 --server 10.64.0.1 --program snponly.efi --script http://10.64.0.1/script` answers each
//! DISCOVER on port 67 and each REQUEST on port 4011 with a PXE offer, until it is stopped. iPXE (by its user class) is
//! offered the script, any other client the program.

use std::error::Error;
use std::io;
use std::net::{Ipv4Addr, SocketAddr, SocketAddrV4, UdpSocket};
use std::os::fd::AsFd;

use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use nix::sys::socket::{setsockopt, sockopt};
use socket2::{Domain, Protocol, Socket, Type};

use bootlatch_loadgen::arguments::Arguments;
use bootlatch_loadgen::dhcp_options::{FIXED, option};

/// What is offered.
struct Offers {
    server: Ipv4Addr,
    program: Vec<u8>,
    script: Vec<u8>,
}

fn main() -> Result<(), Box<dyn Error>> {
    let given = Arguments::read(&[])?;
    let interface = given.text("--interface")?;
    let offers = Offers {
        server: given.text("--server")?.parse()?,
        program: given.text("--program")?.into(),
        script: given.text("--script")?.into(),
    };
    let (first, second) = (open(interface, 67)?, open(interface, 4011)?);
    println!("ready");
    let mut buffer = vec![0; 1500];
    loop {
        let mut waiting = [&first, &second].map(|socket| PollFd::new(socket.as_fd(), PollFlags::POLLIN));
        poll(&mut waiting, PollTimeout::NONE)?;
        let everybody = SocketAddrV4::new(Ipv4Addr::BROADCAST, 68).into();
        answer_all(&first, Some(everybody), &mut buffer, &offers)?;
        answer_all(&second, None, &mut buffer, &offers)?;
    }
}

/// Opens a socket on one interface.
fn open(interface: &str, port: u16) -> io::Result<UdpSocket> {
    let socket = Socket::new(Domain::IPV4, Type::DGRAM.nonblocking(), Some(Protocol::UDP))?;
    socket.bind_device(Some(interface.as_bytes()))?;
    socket.set_broadcast(true)?;
    setsockopt(&socket, sockopt::RcvBufForce, &(16 << 20))?;
    socket.bind(&SocketAddrV4::new(Ipv4Addr::UNSPECIFIED, port).into())?;
    Ok(socket.into())
}

/// Answers all messages that wait on a socket: to one address, or each to its sender.
fn answer_all(socket: &UdpSocket, to: Option<SocketAddr>, buffer: &mut [u8], offers: &Offers) -> io::Result<()> {
    loop {
        let (length, from) = match socket.recv_from(buffer) {
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => return Ok(()),
            received => received?,
        };
        if let Some(reply) = offers.reply(&buffer[..length]) {
            socket.send_to(&reply, to.unwrap_or(from))?;
        }
    }
}

impl Offers {
    /// Returns the reply to a message, or nothing if it is no request.
    fn reply(&self, request: &[u8]) -> Option<Vec<u8>> {
        let kind = option(request, 53).and_then(|value| value.first())?;
        let is_ipxe = option(request, 77) == Some(b"iPXE");
        let file = if is_ipxe { &self.script } else { &self.program };
        let mut reply = request.get(..FIXED)?.to_vec();
        reply[0] = 2;
        reply[20..24].copy_from_slice(&self.server.octets());
        reply[44..236].fill(0);
        reply.get_mut(108..108 + file.len())?.copy_from_slice(file);
        let mut add = |code: u8, value: &[u8]| {
            reply.extend([code, value.len() as u8]);
            reply.extend(value);
        };
        add(53, &[if *kind == 3 { 5 } else { 2 }]);
        add(54, &self.server.octets());
        add(60, b"PXEClient");
        if let Some(uuid) = option(request, 97) {
            add(97, uuid);
        }
        reply.push(255);
        Some(reply)
    }
}
