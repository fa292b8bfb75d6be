//! Is a load of HTTP clients in one thread, to be pinned to a core of its own: it checks the status, the lengths and
//! each byte of each answer, and prints one line of JSON.
//!
//! `http-load --server 10.0.0.1:80 --path /f --copy f --connections 1 --seconds 3` fetches a file again and again on
//! each connection; `--range 2048` fetches that many bytes from a random place that is a multiple of it.
//! `--from ADDRESS` connects from that one. `--machines N` asks for scripts: `{mac}` in the path is that of one of N machines in turn, and `--holds TEXT`, where
//! `{mac}` means the same, must be in each answer.

use std::collections::BTreeMap;
use std::error::Error;
use std::io::{self, ErrorKind, Read, Write};
use std::net::{IpAddr, SocketAddr, TcpStream};
use std::os::fd::AsFd;
use std::time::{Duration, Instant};

use nix::sys::epoll::{Epoll, EpollCreateFlags, EpollEvent, EpollFlags, EpollTimeout};
use socket2::{Domain, Socket, Type};

/// Is what one read takes at most.
const BUFFER: usize = 1 << 20;
/// Bounds an answer's head.
const HEAD: usize = 8192;

struct Load {
    path: String,
    copy: Vec<u8>,
    range: Option<u64>,
    machines: u32,
    holds: String,
}

struct Client {
    stream: TcpStream,
    head: Vec<u8>,
    asked_at: Instant,
    /// Is the place in the copy of the next byte, and how many are to come; none before the head is read.
    body: Option<(usize, usize)>,
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
}

fn main() -> Result<(), Box<dyn Error>> {
    let given = arguments()?;
    let text = |name: &str| given.get(name).cloned().ok_or(format!("{name} is missing"));
    let number = |name: &str, or: u64| given.get(name).map_or(Ok(or), |value| value.parse());
    let server: SocketAddr = text("--server")?.parse()?;
    let load = Load {
        path: text("--path")?,
        copy: given.get("--copy").map_or(Ok(Vec::new()), std::fs::read)?,
        range: given.get("--range").map(|range| range.parse()).transpose()?,
        machines: u32::try_from(number("--machines", 0)?)?,
        holds: given.get("--holds").cloned().unwrap_or_default(),
    };
    let lasts = Duration::from_secs_f64(text("--seconds")?.parse()?);
    let epoll = Epoll::new(EpollCreateFlags::EPOLL_CLOEXEC)?;
    let mut tally = Tally { seed: 88_172_645_463_325_252, ..Tally::default() };
    let mut clients = Vec::new();
    for place in 0..number("--connections", 1)? {
        clients.push(Client::connect(server, given.get("--from"), &epoll, place)?);
    }
    let began = Instant::now();
    for client in &mut clients {
        client.ask(&load, &mut tally)?;
    }
    run(&load, &epoll, &mut clients, &mut tally, began + lasts)?;
    print(tally, began.elapsed());
    Ok(())
}

/// Goes on until the time is over and every answer that was asked for is whole, so that each byte counts.
fn run(load: &Load, epoll: &Epoll, clients: &mut [Client], tally: &mut Tally, until: Instant) -> io::Result<()> {
    let mut buffer = vec![0; BUFFER];
    let mut events = vec![EpollEvent::empty(); 256];
    let mut open = clients.len();
    while open > 0 {
        let ready = epoll.wait(&mut events, EpollTimeout::from(5000u16))?;
        if ready == 0 {
            return Err(io::Error::other("no answer for five seconds"));
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
    fn connect(server: SocketAddr, from: Option<&String>, epoll: &Epoll, place: u64) -> io::Result<Self> {
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
        Ok(Self { stream, head, asked_at, body: None, wanted: (0, 0), machine: 0, script })
    }

    fn ask(&mut self, load: &Load, tally: &mut Tally) -> io::Result<()> {
        let mut request = match load.machines {
            0 => format!("GET {} HTTP/1.1\r\nHost: boot\r\n", load.path),
            machines => {
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

    /// Takes what has arrived, and says whether an answer is whole and right.
    fn receive(&mut self, load: &Load, buffer: &mut [u8], tally: &mut Tally) -> io::Result<bool> {
        let count = match self.stream.read(buffer) {
            Ok(0) => return Err(io::Error::other("the server closed the connection")),
            Err(error) if error.kind() == ErrorKind::WouldBlock => return Ok(false),
            other => other?,
        };
        let mut bytes = &buffer[..count];
        if self.body.is_none() {
            let known = self.head.len();
            self.head.extend_from_slice(&bytes[..bytes.len().min(HEAD)]);
            let Some(end) = self.head.windows(4).position(|end| end == b"\r\n\r\n") else { return Ok(false) };
            self.read_head(load, end)?;
            bytes = &bytes[end + 4 - known..];
        }
        let Some((at, left)) = &mut self.body else { return Ok(false) };
        let wrong = |what: &str| Err(io::Error::other(format!("{what}: {}", String::from_utf8_lossy(&self.head))));
        if bytes.len() > *left {
            return wrong("more bytes than announced");
        }
        match load.machines {
            0 if load.copy.get(*at..*at + bytes.len()) != Some(bytes) => return wrong("other bytes than the copy's"),
            0 => {}
            _ => self.script.extend_from_slice(bytes),
        }
        (*at, *left) = (*at + bytes.len(), *left - bytes.len());
        tally.octets += bytes.len() as u64;
        if *left > 0 {
            return Ok(false);
        }
        if load.machines > 0 {
            let holds = load.holds.replace("{mac}", &mac(self.machine));
            if !self.script.starts_with(b"#!ipxe\n") || !String::from_utf8_lossy(&self.script).contains(&holds) {
                return wrong(&format!("no {holds} in {}", String::from_utf8_lossy(&self.script)));
            }
        }
        tally.answers += 1;
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
            Some(announced) => self.body = Some((start, announced)),
            None => return Err(io::Error::other(format!("not what was asked for ({range}): {head}"))),
        }
        Ok(())
    }
}

fn mac(machine: u32) -> String {
    let [a, b, c, d] = machine.to_be_bytes();
    format!("52-54-{a:02x}-{b:02x}-{c:02x}-{d:02x}")
}

fn arguments() -> Result<BTreeMap<String, String>, Box<dyn Error>> {
    let mut given = BTreeMap::new();
    let mut words = std::env::args().skip(1);
    while let Some(word) = words.next() {
        let value = words.next().ok_or(format!("{word} wants a value"))?;
        given.insert(word, value);
    }
    Ok(given)
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
