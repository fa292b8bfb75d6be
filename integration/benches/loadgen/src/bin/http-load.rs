//! HTTP clients in one thread, to be pinned to a core. Checks the status, the head and the
//! length of each reply, compares bytes with a copy, and prints one line of JSON.
//!
//! `http-load --server 10.0.0.1:80 --path /f --copy f --connections 1 --seconds 3` fetches a file again and again on
//! each connection; `--range 2048` fetches that many bytes from a random multiple of that size.
//! `--from ADDRESS` sets the source address. `--machines N` fetches scripts: `{mac}` in the path is the MAC address of
//! each of N machines in turn, and `--holds TEXT`, where
//! `{mac}` means the same, must be in each reply. `--names N` fetches N files of the same bytes in turn: `{n}` in the
//! path is the number of each.
//!
//! Each byte is compared. With `--compare N` only these are: what comes with the head of each reply (4 KiB with
//! it), and one of N parts of 64 KiB of the rest. The kernel drops the others without a copy: a
//! client that reads every byte is slower than the servers, and would be measured instead. The client never sleeps:
//! waking it would cost the server more than a small reply, which clients on other machines do not cost.

use std::error::Error;
use std::io::{self, ErrorKind, Read, Write};
use std::net::{IpAddr, SocketAddr, TcpStream};
use std::os::fd::{AsFd, AsRawFd};
use std::time::{Duration, Instant};

use nix::sys::epoll::{Epoll, EpollCreateFlags, EpollEvent, EpollFlags, EpollTimeout};
use nix::sys::socket::{MsgFlags, recv};
use socket2::{Domain, Socket, Type};

use bootlatch_loadgen::arguments::Arguments;

/// Maximum time without a byte.
const PATIENCE: Duration = Duration::from_secs(5);
/// Size of the read buffer in bytes.
const BUFFER: usize = 1 << 20;
/// Size of the first read of a reply in bytes: any head, and a short body with it.
const FIRST: usize = 4096;
/// Size of a compared part in bytes.
const PART: usize = 64 << 10;

struct Load {
    path: String,
    copy: Vec<u8>,
    range: Option<u64>,
    machines: u32,
    /// Number of files of the same bytes.
    names: u32,
    holds: String,
    /// Number of parts of which one is compared.
    compare: usize,
}

struct Client {
    stream: TcpStream,
    head: Vec<u8>,
    asked_at: Instant,
    /// Position of the next byte in the copy, and the number of bytes to come; none before the head is read.
    body: Option<(usize, usize)>,
    length: u64,
    wanted: (usize, usize),
    machine: u32,
    script: Vec<u8>,
}

#[derive(Default)]
struct Tally {
    answers: u64,
    octets: u64,
    times: Vec<u32>,
    next: u32,
    seed: u64,
    /// Bytes to skip before the next compared part, and the remaining bytes of that part.
    passing: usize,
    comparing: usize,
}

fn main() -> Result<(), Box<dyn Error>> {
    let given = Arguments::read(&[])?;
    let server: SocketAddr = given.text("--server")?.parse()?;
    let load = Load {
        path: given.text("--path")?.to_owned(),
        copy: given.perhaps("--copy").map_or(Ok(Vec::new()), std::fs::read)?,
        range: given.perhaps("--range").map(str::parse).transpose()?,
        machines: given.number("--machines", 0)?,
        names: given.number("--names", 0)?,
        holds: given.perhaps("--holds").unwrap_or_default().to_owned(),
        compare: given.number("--compare", 1)?,
    };
    let lasts = Duration::from_secs_f64(given.text("--seconds")?.parse()?);
    let epoll = Epoll::new(EpollCreateFlags::EPOLL_CLOEXEC)?;
    let mut tally = Tally { seed: 88_172_645_463_325_252, comparing: PART, ..Tally::default() };
    let mut clients = Vec::new();
    for place in 0..given.number("--connections", 1)? {
        clients.push(Client::connect(server, given.perhaps("--from"), &epoll, place)?);
    }
    let began = Instant::now();
    for client in &mut clients {
        client.ask(&load, &mut tally)?;
    }
    run(&load, &epoll, &mut clients, &mut tally, began + lasts)?;
    print(tally, began.elapsed());
    Ok(())
}

/// Runs until the time is over and every requested reply is complete, so that each byte counts.
fn run(load: &Load, epoll: &Epoll, clients: &mut [Client], tally: &mut Tally, until: Instant) -> io::Result<()> {
    let mut buffer = vec![0; BUFFER];
    let mut events = vec![EpollEvent::empty(); 256];
    let (mut open, mut heard) = (clients.len(), Instant::now());
    while open > 0 {
        let ready = epoll.wait(&mut events, EpollTimeout::ZERO)?;
        match ready {
            0 if heard.elapsed() > PATIENCE => return Err(io::Error::other("no answer for five seconds")),
            0 => continue,
            _ => heard = Instant::now(),
        }
        for event in events.iter().take(ready) {
            let client = &mut clients[event.data() as usize];
            if client.receive(load, &mut buffer, tally)? {
                match Instant::now() < until {
                    true => client.ask(load, tally)?,
                    false => open -= 1,
                }
            }
        }
    }
    Ok(())
}

impl Client {
    fn connect(server: SocketAddr, from: Option<&str>, epoll: &Epoll, place: u64) -> io::Result<Self> {
        let socket = Socket::new(Domain::for_address(server), Type::STREAM, None)?;
        if let Some(from) = from {
            let from: IpAddr = from.parse().map_err(io::Error::other)?;
            socket.bind(&SocketAddr::new(from, 0).into())?;
        }
        socket.connect(&server.into())?;
        let stream = TcpStream::from(socket);
        stream.set_nodelay(true)?;
        stream.set_nonblocking(true)?;
        epoll.add(stream.as_fd(), EpollEvent::new(EpollFlags::EPOLLIN, place))?;
        let (head, script, asked_at) = (Vec::new(), Vec::new(), Instant::now());
        Ok(Self { stream, head, asked_at, body: None, length: 0, wanted: (0, 0), machine: 0, script })
    }

    fn ask(&mut self, load: &Load, tally: &mut Tally) -> io::Result<()> {
        let mut request = match (load.machines, load.names) {
            (0, 0) => format!("GET {} HTTP/1.1\r\nHost: boot\r\n", load.path),
            (0, names) => {
                let path = load.path.replace("{n}", &(tally.next % names).to_string());
                tally.next += 1;
                format!("GET {path} HTTP/1.1\r\nHost: boot\r\n")
            }
            (machines, _) => {
                self.machine = tally.next % machines;
                tally.next += 1;
                let path = load.path.replace("{mac}", &mac(self.machine));
                format!("GET {path} HTTP/1.1\r\nHost: boot\r\n")
            }
        };
        self.wanted = (0, load.copy.len());
        if let Some(range) = load.range {
            tally.seed ^= tally.seed << 13;
            tally.seed ^= tally.seed >> 7;
            tally.seed ^= tally.seed << 17;
            let start = tally.seed % (load.copy.len() as u64 / range) * range;
            request += &format!("Range: bytes={start}-{}\r\n", start + range - 1);
            self.wanted = (start as usize, range as usize);
        }
        request += "\r\n";
        self.asked_at = Instant::now();
        self.body = None;
        self.head.clear();
        self.script.clear();
        self.stream.write_all(request.as_bytes())
    }

    /// Reads the available bytes; returns whether a reply is complete and correct.
    fn receive(&mut self, load: &Load, buffer: &mut [u8], tally: &mut Tally) -> io::Result<bool> {
        let left = match self.body {
            Some((_, left)) => left,
            None => {
                let Some(count) = self.arrived((&self.stream).read(&mut buffer[..FIRST]))? else { return Ok(false) };
                let known = self.head.len();
                self.head.extend_from_slice(&buffer[..count]);
                let Some(end) = self.head.windows(4).position(|end| end == b"\r\n\r\n") else { return Ok(false) };
                self.read_head(load, end)?;
                self.head.truncate(end);
                self.compare(load, &buffer[end + 4 - known..count])?;
                match self.body {
                    Some((_, left)) if left > 0 && count == FIRST => left,
                    _ => return self.ended(load, tally),
                }
            }
        };
        if load.machines == 0 && tally.passing > 0 {
            let length = left.min(tally.passing).min(buffer.len());
            // MSG_TRUNC on a TCP socket: tcp(7). The buffer is not written to.
            let passed = recv(self.stream.as_raw_fd(), &mut buffer[..length], MsgFlags::MSG_TRUNC);
            let Some(count) = self.arrived(passed.map_err(io::Error::from))? else { return Ok(false) };
            tally.passing -= count;
            self.advance(count)?;
        } else {
            let length = left.min(tally.comparing).min(buffer.len());
            let Some(count) = self.arrived((&self.stream).read(&mut buffer[..length]))? else { return Ok(false) };
            self.compare(load, &buffer[..count])?;
            tally.comparing -= count;
            if tally.comparing == 0 {
                (tally.passing, tally.comparing) = ((load.compare - 1) * PART, PART);
            }
        }
        self.ended(load, tally)
    }

    /// Returns the number of bytes read; none if there are none yet.
    fn arrived(&self, read: io::Result<usize>) -> io::Result<Option<usize>> {
        match read {
            Ok(0) => Err(self.wrong("the server closed the connection")),
            Err(error) if error.kind() == ErrorKind::WouldBlock => Ok(None),
            other => other.map(Some),
        }
    }

    fn wrong(&self, what: &str) -> io::Error {
        io::Error::other(format!("{what}: {}", String::from_utf8_lossy(&self.head)))
    }

    fn advance(&mut self, count: usize) -> io::Result<()> {
        let (at, left) = self.body.unwrap_or_default();
        let left = left.checked_sub(count).ok_or_else(|| self.wrong("more bytes than announced"))?;
        self.body = Some((at + count, left));
        Ok(())
    }

    /// Compares bytes of a body with the copy, or collects those of a script, which is checked when it is complete.
    fn compare(&mut self, load: &Load, bytes: &[u8]) -> io::Result<()> {
        let (at, _) = self.body.unwrap_or_default();
        self.advance(bytes.len())?;
        match load.machines {
            0 if load.copy.get(at..at + bytes.len()) != Some(bytes) => Err(self.wrong("other bytes than the copy's")),
            0 => Ok(()),
            _ => {
                self.script.extend_from_slice(bytes);
                Ok(())
            }
        }
    }

    /// Returns whether the reply is complete.
    fn ended(&mut self, load: &Load, tally: &mut Tally) -> io::Result<bool> {
        let Some((_, 0)) = self.body else { return Ok(false) };
        if load.machines > 0 {
            let holds = load.holds.replace("{mac}", &mac(self.machine));
            let text = String::from_utf8_lossy(&self.script);
            if !text.starts_with("#!ipxe\n") || !text.contains(&holds) {
                return Err(self.wrong(&format!("no {holds} in {text}")));
            }
        }
        tally.answers += 1;
        tally.octets += self.length;
        tally.times.push(self.asked_at.elapsed().as_micros() as u32);
        Ok(true)
    }

    fn read_head(&mut self, load: &Load, end: usize) -> io::Result<()> {
        let head = std::str::from_utf8(&self.head[..end]).map_err(io::Error::other)?;
        let field = |name: &str| {
            let mut fields = head.split("\r\n").filter_map(|line| line.split_once(':'));
            fields.find(|(found, _)| found.eq_ignore_ascii_case(name)).map(|(_, value)| value.trim())
        };
        let (start, length) = self.wanted;
        let announced: Option<usize> = field("content-length").and_then(|length| length.parse().ok());
        let range = format!("bytes {start}-{}/{}", (start + length).saturating_sub(1), load.copy.len());
        let good = match load.range {
            Some(_) => head.starts_with("HTTP/1.1 206 ") && field("content-range") == Some(&range),
            None => head.starts_with("HTTP/1.1 200 "),
        };
        match announced.filter(|announced| good && (load.machines > 0 || *announced == length)) {
            Some(announced) => (self.body, self.length) = (Some((start, announced)), announced as u64),
            None => return Err(io::Error::other(format!("not what was asked for ({range}): {head}"))),
        }
        Ok(())
    }
}

fn mac(machine: u32) -> String {
    let [a, b, c, d] = machine.to_be_bytes();
    format!("52-54-{a:02x}-{b:02x}-{c:02x}-{d:02x}")
}

fn print(mut tally: Tally, took: Duration) {
    tally.times.sort_unstable();
    let at = |part: usize| tally.times.get(tally.times.len() * part / 100).copied().unwrap_or_default();
    println!(
        r#"{{"answers": {}, "octets": {}, "seconds": {:.4}, "p50_us": {}, "p99_us": {}}}"#,
        tally.answers,
        tally.octets,
        took.as_secs_f64(),
        at(50),
        at(99),
    );
}
