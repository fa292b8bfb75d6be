//! Simulates machines that are switched on at once, in one thread to be pinned to a core: UEFI's
//! DHCP and port 4011, the program over TFTP, iPXE's DHCP, the script over HTTP. Checks every byte of the program
//! and the required content of each reply. Prints one line of JSON.
//!
//! `storm-load --interface lan0 --server 10.64.0.1 --own 10.64.0.2 --machines 500 --program FILE --script PATH --holds TEXT`
//! `{mac}` in the path and the text is the machine's own. Machine N has the address 10.192.0.0 + 16 + N, which must be
//! local here and reached through `--own` there.

use std::error::Error;
use std::io::{self, ErrorKind, Read, Write};
use std::net::{Ipv4Addr, SocketAddr, SocketAddrV4, TcpStream, UdpSocket};
use std::os::fd::AsFd;
use std::time::{Duration, Instant};

use nix::sys::epoll::{Epoll, EpollCreateFlags, EpollEvent, EpollFlags, EpollTimeout};
use nix::sys::socket::{setsockopt, sockopt};
use socket2::{Domain, Protocol, Socket, Type};

use bootlatch_loadgen::arguments::Arguments;
use bootlatch_loadgen::dhcp_options::option;

/// Time before a machine repeats a request, and the number of repetitions.
const PATIENCE: Duration = Duration::from_secs(1);
const TRIES: u32 = 8;
/// The steps whose requests are repeated.
const STEPS: [&str; 4] = ["offer", "4011", "program", "iPXE's offer"];
/// Event numbers of the shared sockets, after those of the machines.
const BROADCAST: u64 = 1 << 32;
const SECOND: u64 = 2 << 32;

struct Load {
    interface: String,
    server: Ipv4Addr,
    own: Ipv4Addr,
    program: Vec<u8>,
    script: String,
    holds: String,
}

/// The reply that a machine waits for.
enum Stage {
    Offer,
    Ack,
    Program { socket: UdpSocket, is_connected: bool, next: u64 },
    IpxeOffer,
    Script { stream: TcpStream, got: Vec<u8> },
    Done,
}

struct Machine {
    number: u32,
    stage: Stage,
    file: String,
    at: Instant,
    tries: u32,
}

struct Wire {
    epoll: Epoll,
    broadcast: Socket,
    second: Socket,
}

#[derive(Default)]
struct Tally {
    /// Repetitions by step: offer, 4011, program, iPXE's offer.
    repeats: [u64; 4],
    /// From the start of all machines to each one's script.
    times: Vec<Duration>,
    /// From each machine's request for its script to the script.
    scripts: Vec<Duration>,
}

fn main() -> Result<(), Box<dyn Error>> {
    let given = Arguments::read(&[])?;
    let load = Load {
        interface: given.text("--interface")?.to_owned(),
        server: given.text("--server")?.parse()?,
        own: given.text("--own")?.parse()?,
        program: std::fs::read(given.text("--program")?)?,
        script: given.text("--script")?.to_owned(),
        holds: given.text("--holds")?.to_owned(),
    };
    let wire = Wire::open(&load)?;
    let count: u32 = given.number("--machines", 500)?;
    let began = Instant::now();
    let machine = |number| Machine { number, stage: Stage::Offer, file: String::new(), at: began, tries: 0 };
    let mut machines: Vec<_> = (0..count).map(machine).collect();
    for machine in &mut machines {
        machine.say(&load, &wire)?;
    }
    let mut tally = Tally::default();
    run(&load, &wire, &mut machines, &mut tally, began)?;
    tally.times.sort_unstable();
    tally.scripts.sort_unstable();
    println!(
        r#"{{"machines": {count}, "seconds": {:.4}, "repeats": {}, "repeated": {{{}}}, "p50": {:.4}, "p99": {:.4}, "script_p99": {:.4}}}"#,
        percentile(&tally.times, 100),
        tally.repeats.iter().sum::<u64>(),
        STEPS
            .iter()
            .zip(tally.repeats)
            .map(|(step, count)| format!(r#""{step}": {count}"#))
            .collect::<Vec<_>>()
            .join(", "),
        percentile(&tally.times, 50),
        percentile(&tally.times, 99),
        percentile(&tally.scripts, 99)
    );
    Ok(())
}

/// Returns a percentile of sorted times, in seconds.
fn percentile(sorted: &[Duration], part: usize) -> f64 {
    sorted[(sorted.len() * part / 100).min(sorted.len() - 1)].as_secs_f64()
}

fn run(load: &Load, wire: &Wire, machines: &mut [Machine], tally: &mut Tally, began: Instant) -> io::Result<()> {
    let mut events = vec![EpollEvent::empty(); 256];
    let mut buffer = vec![0; 65_536];
    let mut swept = began;
    while tally.times.len() < machines.len() {
        let ready = wire.epoll.wait(&mut events, EpollTimeout::from(50u8))?;
        for event in events.iter().take(ready) {
            match event.data() {
                BROADCAST => hear_dhcp(load, wire, &wire.broadcast, machines, &mut buffer)?,
                SECOND => hear_dhcp(load, wire, &wire.second, machines, &mut buffer)?,
                number => {
                    let machine = &mut machines[number as usize];
                    if machine.receive(load, wire, &mut buffer)? {
                        machine.stage = Stage::Done;
                        tally.times.push(began.elapsed());
                        tally.scripts.push(machine.at.elapsed());
                    }
                }
            }
        }
        let now = Instant::now();
        if now - swept > Duration::from_millis(100) {
            swept = now;
            for machine in machines.iter_mut().filter(|machine| now - machine.at > PATIENCE) {
                let step = match machine.stage {
                    Stage::Offer => 0,
                    Stage::Ack => 1,
                    Stage::Program { .. } => 2,
                    Stage::IpxeOffer => 3,
                    Stage::Script { .. } | Stage::Done => continue,
                };
                tally.repeats[step] += 1;
                machine.tries += 1;
                if machine.tries > TRIES {
                    return Err(io::Error::other(format!("machine {} gave up", machine.number)));
                }
                machine.say(load, wire)?;
            }
        }
        if now - began > Duration::from_secs(60) {
            return Err(io::Error::other("not done within a minute"));
        }
    }
    Ok(())
}

/// Receives the available DHCP replies and passes each to its machine by the transaction number.
fn hear_dhcp(load: &Load, wire: &Wire, from: &Socket, machines: &mut [Machine], buffer: &mut [u8]) -> io::Result<()> {
    let mut from = from;
    loop {
        let length = match from.read(buffer) {
            Err(error) if error.kind() == ErrorKind::WouldBlock => return Ok(()),
            other => other?,
        };
        let bytes = &buffer[..length];
        let Some([a, b, c, d]) = bytes.get(4..8) else { continue };
        let transaction = u32::from_be_bytes([*a, *b, *c, *d]);
        if let Some(machine) = machines.get_mut((transaction & 0xffff) as usize) {
            machine.hear(load, wire, transaction >> 16, bytes)?;
        }
    }
}

impl Wire {
    fn open(load: &Load) -> io::Result<Self> {
        let epoll = Epoll::new(EpollCreateFlags::EPOLL_CLOEXEC)?;
        let open = |address: Ipv4Addr, port, tag| -> io::Result<Socket> {
            let socket = Socket::new(Domain::IPV4, Type::DGRAM.nonblocking(), Some(Protocol::UDP))?;
            socket.bind_device(Some(load.interface.as_bytes()))?;
            socket.set_broadcast(true)?;
            setsockopt(&socket, sockopt::RcvBufForce, &(16 << 20))?;
            setsockopt(&socket, sockopt::SndBufForce, &(16 << 20))?;
            socket.bind(&SocketAddrV4::new(address, port).into())?;
            epoll.add(socket.as_fd(), EpollEvent::new(EpollFlags::EPOLLIN, tag))?;
            Ok(socket)
        };
        let (broadcast, second) = (open(Ipv4Addr::UNSPECIFIED, 68, BROADCAST)?, open(load.own, 4011, SECOND)?);
        Ok(Self { epoll, broadcast, second })
    }
}

impl Machine {
    fn address(&self) -> Ipv4Addr {
        Ipv4Addr::from(u32::from(Ipv4Addr::new(10, 192, 0, 16)) + self.number)
    }

    fn mac(&self) -> [u8; 6] {
        let [a, b, c, d] = self.number.to_be_bytes();
        [0x56, 0x54, a, b, c, d]
    }

    fn dashed(&self) -> String {
        self.mac().map(|octet| format!("{octet:02x}")).join("-")
    }

    /// Returns the number of a stage that sends DHCP requests, so that a late reply is recognized.
    fn phase(&self) -> u32 {
        match self.stage {
            Stage::Offer => 1,
            Stage::Ack => 2,
            Stage::IpxeOffer => 3,
            Stage::Program { .. } | Stage::Script { .. } | Stage::Done => 0,
        }
    }

    /// Sends the first request of the stage, or repeats it.
    fn say(&mut self, load: &Load, wire: &Wire) -> io::Result<()> {
        self.at = Instant::now();
        let everybody = SocketAddrV4::new(Ipv4Addr::BROADCAST, 67);
        match &mut self.stage {
            Stage::Offer | Stage::IpxeOffer => {
                wire.broadcast.send_to(&self.message(load), &everybody.into())?;
            }
            Stage::Ack => {
                wire.second.send_to(&self.message(load), &SocketAddrV4::new(load.server, 4011).into())?;
            }
            Stage::Program { socket, is_connected: false, .. } => {
                let request = format!("\0\u{1}{}\0octet\0tsize\x000\0blksize\x001468\0", self.file);
                socket.send_to(request.as_bytes(), (load.server, 69))?;
            }
            Stage::Program { socket, next, .. } => {
                acknowledge(socket, *next)?;
            }
            Stage::Script { .. } | Stage::Done => {}
        }
        Ok(())
    }

    fn message(&self, load: &Load) -> Vec<u8> {
        let mut bytes = Vec::with_capacity(512);
        bytes.resize(240, 0);
        bytes[..4].copy_from_slice(&[1, 1, 6, 0]);
        bytes[4..8].copy_from_slice(&(self.phase() << 16 | self.number).to_be_bytes());
        bytes[28..34].copy_from_slice(&self.mac());
        bytes[236..240].copy_from_slice(&[99, 130, 83, 99]);
        let is_second = matches!(self.stage, Stage::Ack);
        match is_second {
            true => bytes[12..16].copy_from_slice(&load.own.octets()),
            false => bytes[10] = 0x80,
        }
        let mut option = |code: u8, value: &[u8]| {
            bytes.extend([code, value.len() as u8]);
            bytes.extend(value);
        };
        option(53, &[if is_second { 3 } else { 1 }]);
        option(57, &1472u16.to_be_bytes());
        option(55, &[1, 2, 3, 4, 5, 6, 12, 13, 15, 43, 54, 60, 66, 67, 97, 175]);
        let mut uuid = [7; 17];
        uuid[0] = 0;
        uuid[1..5].copy_from_slice(&self.number.to_be_bytes());
        option(97, &uuid);
        option(94, &[1, 3, 0]);
        option(93, &[0, 7]);
        option(60, b"PXEClient:Arch:00007:UNDI:003000");
        if matches!(self.stage, Stage::IpxeOffer) {
            option(77, b"iPXE");
            // iPXE's features: iSCSI, HTTP, EFI.
            option(175, &[17, 1, 1, 19, 1, 1, 36, 1, 1]);
        }
        bytes.push(255);
        bytes
    }

    /// Handles a DHCP reply to a request of a stage.
    fn hear(&mut self, load: &Load, wire: &Wire, phase: u32, bytes: &[u8]) -> io::Result<()> {
        if phase != self.phase() {
            return Ok(()); // the answer to what was said twice
        }
        let wrong = |what: &str| Err(io::Error::other(format!("machine {} in phase {phase}: {what}", self.number)));
        if bytes.len() < 240 || bytes[28..34] != self.mac() || bytes[16..20] != [0; 4] {
            return wrong("no answer of a proxy's");
        }
        let kind = option(bytes, 53).and_then(|kind| kind.first().copied());
        let is_right =
            kind == Some(if phase == 2 { 5 } else { 2 }) && option(bytes, 54) == Some(&load.server.octets()[..]);
        if !is_right || option(bytes, 60) != Some(b"PXEClient") {
            return wrong("type, server or class");
        }
        match phase {
            1 => self.stage = Stage::Ack,
            2 => {
                let file = bytes[108..236].split(|octet| *octet == 0).next().unwrap_or_default();
                self.file = String::from_utf8_lossy(file).into_owned();
                let socket = UdpSocket::bind((self.address(), 0))?;
                socket.set_nonblocking(true)?;
                wire.epoll.add(socket.as_fd(), EpollEvent::new(EpollFlags::EPOLLIN, self.number.into()))?;
                self.stage = Stage::Program { socket, is_connected: false, next: 1 };
            }
            _ => return self.ask_for_script(load, wire),
        }
        self.say(load, wire)
    }

    fn ask_for_script(&mut self, load: &Load, wire: &Wire) -> io::Result<()> {
        self.at = Instant::now();
        let socket = Socket::new(Domain::IPV4, Type::STREAM, Some(Protocol::TCP))?;
        socket.bind(&SocketAddrV4::new(self.address(), 0).into())?;
        socket.connect(&SocketAddr::from((load.server, 80)).into())?;
        let mut stream = TcpStream::from(socket);
        let path = load.script.replace("{mac}", &self.dashed());
        stream.write_all(
            format!("GET {path} HTTP/1.1\r\nHost: {}\r\nConnection: close\r\n\r\n", load.server).as_bytes(),
        )?;
        stream.set_nonblocking(true)?;
        wire.epoll.add(stream.as_fd(), EpollEvent::new(EpollFlags::EPOLLIN, self.number.into()))?;
        self.stage = Stage::Script { stream, got: Vec::new() };
        Ok(())
    }

    /// Reads the machine's own sockets; returns whether it has its script.
    fn receive(&mut self, load: &Load, wire: &Wire, buffer: &mut [u8]) -> io::Result<bool> {
        let holds = load.holds.replace("{mac}", &self.dashed());
        match &mut self.stage {
            Stage::Program { socket, is_connected, next } => {
                self.at = Instant::now();
                let (length, from) = socket.recv_from(buffer)?;
                if !*is_connected {
                    socket.connect(from)?;
                    *is_connected = true;
                }
                match &buffer[..length] {
                    [0, 6, ..] => acknowledge(socket, *next).map(|()| false),
                    [0, 3, high, low, bytes @ ..] if u16::from_be_bytes([*high, *low]) == *next as u16 => {
                        let at = (*next - 1) as usize * 1468;
                        let end = (at + 1468).min(load.program.len());
                        if load.program.get(at..end) != Some(bytes) {
                            return Err(io::Error::other(format!("block {next} is not the program's")));
                        }
                        *next += 1;
                        acknowledge(socket, *next)?;
                        if bytes.len() < 1468 {
                            self.stage = Stage::IpxeOffer;
                            self.say(load, wire)?;
                        }
                        Ok(false)
                    }
                    [0, 3, ..] => Ok(false),
                    other => Err(io::Error::other(format!("TFTP: {:?}", String::from_utf8_lossy(other)))),
                }
            }
            Stage::Script { stream, got } => loop {
                match stream.read(buffer) {
                    Ok(0) => return Err(io::Error::other(format!("cut: {}", String::from_utf8_lossy(got)))),
                    Ok(count) => got.extend_from_slice(&buffer[..count]),
                    Err(error) if error.kind() == ErrorKind::WouldBlock => return Ok(false),
                    Err(error) => return Err(error),
                }
                let text = String::from_utf8_lossy(got);
                if !is_whole(&text) {
                    continue;
                }
                if !text.starts_with("HTTP/1.1 200") || !text.contains("\r\n\r\n#!ipxe") || !text.contains(&holds) {
                    return Err(io::Error::other(format!("no {holds} in {text}")));
                }
                return Ok(true);
            },
            Stage::Offer | Stage::Ack | Stage::IpxeOffer | Stage::Done => Ok(false),
        }
    }
}

/// Returns whether a response has the number of octets that its head announces.
fn is_whole(response: &str) -> bool {
    let Some((head, body)) = response.split_once("\r\n\r\n") else { return false };
    let length = head
        .lines()
        .filter_map(|line| line.split_once(": "))
        .find(|(name, _)| name.eq_ignore_ascii_case("content-length"));
    length.is_some_and(|(_, length)| length.parse().is_ok_and(|length: usize| body.len() >= length))
}

/// Acknowledges the block before the next one.
fn acknowledge(socket: &UdpSocket, next: u64) -> io::Result<()> {
    let [high, low] = ((next - 1) as u16).to_be_bytes();
    socket.send(&[0, 4, high, low]).map(drop)
}
