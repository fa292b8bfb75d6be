//! Clients of the object API: two programs in one file, so that neither waits for the other. Each prints one
//! line of JSON.
//!
//! `api-load write --server 10.0.0.1:80 --token T --hosts 10000 --writes 5000 --connections 8 --pace 500` patches hosts
//! in turn, at the given pace a second, or as fast as replies come. Latencies count from the time when a write was due,
//! so that waiting for an earlier write counts.
//!
//! `api-load watch --server 10.0.0.1:80 --token T --watches 200 --deaf 1 --version 7` follows the hosts from a version,
//! prints `following`, and ends once each watch has received the version that is read from standard input. A watch must
//! receive every version once and in order; the deaf ones are opened and not read.

use std::collections::VecDeque;
use std::error::Error;
use std::io::{self, BufRead, ErrorKind, Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::os::fd::AsFd;
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use nix::sys::epoll::{Epoll, EpollCreateFlags, EpollEvent, EpollFlags, EpollTimeout};

use bootlatch_loadgen::arguments::Arguments;

/// Path of the hosts.
const HOSTS: &str = "/api/v1/namespaces/default/baremetalhosts";
/// Size of the read buffer in bytes.
const BUFFER: usize = 1 << 18;
/// Time limit of any step, in milliseconds.
const PATIENCE: u16 = 10_000;
/// The two numbers that every event has.
const VERSION: &[u8] = b"\"resourceVersion\":\"";
const SENT: &[u8] = b"\"sent\":\"";

fn main() -> Result<(), Box<dyn Error>> {
    let given = Arguments::read(&["write", "watch"])?;
    match (given.perhaps("write"), given.perhaps("watch")) {
        (Some(_), None) => write(&given),
        (None, Some(_)) => watch(&given),
        (None, None) | (Some(_), Some(_)) => Err("say write or watch".into()),
    }
}

fn connect(given: &Arguments, epoll: &Epoll, place: u64) -> Result<TcpStream, Box<dyn Error>> {
    let server: SocketAddr = given.text("--server")?.parse()?;
    let stream = TcpStream::connect(server)?;
    stream.set_nodelay(true)?;
    stream.set_nonblocking(true)?;
    epoll.add(stream.as_fd(), EpollEvent::new(EpollFlags::EPOLLIN, place))?;
    Ok(stream)
}

/// Returns the Unix time in microseconds, which all processes share.
fn clock() -> u64 {
    SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |since| since.as_micros() as u64)
}

fn quantile(times: &mut [u32], part: usize) -> u32 {
    times.sort_unstable();
    times.get(times.len() * part / 1000).copied().unwrap_or_default()
}

/// A connection for one write at a time.
struct Writer {
    stream: TcpStream,
    answer: Vec<u8>,
    due: Option<Instant>,
}

fn write(given: &Arguments) -> Result<(), Box<dyn Error>> {
    let (token, hosts, writes) = (given.text("--token")?, given.number("--hosts", 1)?, given.number("--writes", 1)?);
    let pace = given.number("--pace", 0)?;
    let epoll = Epoll::new(EpollCreateFlags::EPOLL_CLOEXEC)?;
    let mut writers = Vec::new();
    for place in 0..given.number("--connections", 1)? {
        writers.push(Writer { stream: connect(given, &epoll, place)?, answer: Vec::new(), due: None });
    }
    let mut idle: VecDeque<usize> = (0..writers.len()).collect();
    let (mut next, mut times, mut version) = (0, Vec::new(), 0);
    let mut events = vec![EpollEvent::empty(); 64];
    let mut buffer = vec![0; BUFFER];
    let begun = Instant::now();
    while times.len() < writes as usize {
        let due = |next: u64| match pace {
            0 => Instant::now(),
            pace => begun + Duration::from_nanos(next * 1_000_000_000 / pace),
        };
        while next < writes && !idle.is_empty() && due(next) <= Instant::now() {
            let Some(writer) = idle.pop_front().map(|place| &mut writers[place]) else { break };
            writer.ask(token, next % hosts, due(next))?;
            next += 1;
        }
        let wait = match next < writes && !idle.is_empty() {
            true => due(next).saturating_duration_since(Instant::now()).as_millis() as u16,
            false => PATIENCE,
        };
        let ready = epoll.wait(&mut events, EpollTimeout::from(wait))?;
        if ready == 0 && wait == PATIENCE {
            return Err("a write was not answered".into());
        }
        for event in events.iter().take(ready) {
            let place = event.data() as usize;
            if let Some((took, made)) = writers[place].receive(&mut buffer)? {
                times.push(took);
                version = version.max(made);
                idle.push_back(place);
            }
        }
    }
    let seconds = begun.elapsed().as_secs_f64();
    println!(
        r#"{{"writes": {writes}, "seconds": {seconds:.4}, "p50_us": {}, "p99_us": {}, "version": {version}}}"#,
        quantile(&mut times, 500),
        quantile(&mut times, 990),
    );
    Ok(())
}

impl Writer {
    fn ask(&mut self, token: &str, host: u64, due: Instant) -> io::Result<()> {
        let body = format!(r#"{{"metadata":{{"labels":{{"sent":"{}"}}}}}}"#, clock());
        let head = format!("PATCH {HOSTS}/host{host:06} HTTP/1.1\r\nHost: boot\r\nAuthorization: Bearer {token}\r\n");
        let length = body.len();
        self.answer.clear();
        self.due = Some(due);
        let kind = "Content-Type: application/merge-patch+json\r\n";
        self.stream.write_all(format!("{head}{kind}Content-Length: {length}\r\n\r\n{body}").as_bytes())
    }

    /// Reads the available bytes; returns the write's duration and version once its reply is complete.
    fn receive(&mut self, buffer: &mut [u8]) -> io::Result<Option<(u32, u64)>> {
        let Some(count) = read(&mut self.stream, buffer)? else { return Ok(None) };
        self.answer.extend_from_slice(&buffer[..count]);
        let Some(end) = self.answer.windows(4).position(|end| end == b"\r\n\r\n") else { return Ok(None) };
        let head = String::from_utf8_lossy(&self.answer[..end]).to_ascii_lowercase();
        let length = head.split("\r\n").find_map(|line| line.strip_prefix("content-length: "));
        let length: usize = length.and_then(|length| length.parse().ok()).unwrap_or_default();
        if self.answer.len() < end + 4 + length {
            return Ok(None);
        }
        let wrong = || io::Error::other(format!("a write was refused: {}", String::from_utf8_lossy(&self.answer)));
        if !head.starts_with("http/1.1 200 ") {
            return Err(wrong());
        }
        let version = after(&self.answer[end..], VERSION, &mut 0).ok_or_else(wrong)?;
        let took = self.due.take().ok_or_else(wrong)?.elapsed();
        Ok(Some((took.as_micros() as u32, version)))
    }
}

/// Reads the available bytes; returns none if there are none yet.
fn read(stream: &mut TcpStream, buffer: &mut [u8]) -> io::Result<Option<usize>> {
    match stream.read(buffer) {
        Ok(0) => Err(io::Error::other("the server closed the connection")),
        Ok(count) => Ok(Some(count)),
        Err(error) if error.kind() == ErrorKind::WouldBlock => Ok(None),
        Err(error) => Err(error),
    }
}

/// Parses the number after a mark; searches first where the last one was.
fn after(line: &[u8], mark: &[u8], place: &mut usize) -> Option<u64> {
    if !line.get(*place..).is_some_and(|rest| rest.starts_with(mark)) {
        *place = line.windows(mark.len()).position(|part| part == mark)?;
    }
    let digits = line[*place + mark.len()..].iter().take_while(|digit| digit.is_ascii_digit());
    Some(digits.fold(0, |number, digit| number * 10 + u64::from(digit - b'0')))
}

/// An open watch.
struct Watch {
    stream: TcpStream,
    /// The incomplete rest of a head, a chunk length or an event.
    head: Vec<u8>,
    line: Vec<u8>,
    /// Remaining bytes of the chunk and its line end; none before the head is read.
    chunk: Option<usize>,
    version: u64,
    events: u64,
}

/// Counters of all watches.
#[derive(Default)]
struct Tally {
    octets: u64,
    reads: u64,
    lags: Vec<u32>,
    /// The last positions of the marks.
    places: [usize; 2],
}

fn watch(given: &Arguments) -> Result<(), Box<dyn Error>> {
    let (token, watches, version) =
        (given.text("--token")?, given.number("--watches", 1)?, given.number("--version", 0)?);
    let deaf = given.number("--deaf", 0)?;
    let epoll = Epoll::new(EpollCreateFlags::EPOLL_CLOEXEC)?;
    let mut open = Vec::new();
    for place in 0..watches {
        let mut stream = connect(given, &epoll, place)?;
        let target = format!("{HOSTS}?watch=true&resourceVersion={version}");
        stream.write_all(
            format!("GET {target} HTTP/1.1\r\nHost: boot\r\nAuthorization: Bearer {token}\r\n\r\n").as_bytes(),
        )?;
        if place < watches - deaf {
            open.push(Watch { stream, head: Vec::new(), line: Vec::new(), chunk: None, version, events: 0 });
        } else {
            epoll.delete(stream.as_fd())?;
            // The connection stays open as long as this program runs.
            std::mem::forget(stream);
        }
    }
    let mut tally = Tally::default();
    let mut buffer = vec![0; BUFFER];
    turn(&epoll, &mut open, &mut buffer, &mut tally, |open| open.iter().all(|watch| watch.chunk.is_some()))?;
    println!("following");
    let stdin = io::stdin();
    epoll.add(stdin.as_fd(), EpollEvent::new(EpollFlags::EPOLLIN, u64::MAX))?;
    let mut last = None;
    turn(&epoll, &mut open, &mut buffer, &mut tally, |open| {
        if last.is_none() && ready(&stdin) {
            let mut line = String::new();
            last = stdin.lock().read_line(&mut line).ok().and_then(|_| line.trim().parse().ok()).or(Some(0));
            let _ = epoll.delete(stdin.as_fd());
        }
        last.is_some_and(|last| open.iter().all(|watch| watch.version >= last))
    })?;
    let (least, most) = (open.iter().map(|watch| watch.events).min(), open.iter().map(|watch| watch.events).max());
    println!(
        r#"{{"watches": {}, "least": {}, "most": {}, "octets": {}, "reads": {}, "lag_p50_us": {}, "lag_p99_us": {}}}"#,
        open.len(),
        least.unwrap_or_default(),
        most.unwrap_or_default(),
        tally.octets,
        tally.reads,
        quantile(&mut tally.lags, 500),
        quantile(&mut tally.lags, 990),
    );
    Ok(())
}

/// Returns whether standard input is readable.
fn ready(stdin: &io::Stdin) -> bool {
    use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
    poll(&mut [PollFd::new(stdin.as_fd(), PollFlags::POLLIN)], PollTimeout::ZERO).is_ok_and(|ready| ready > 0)
}

/// Reads the watches until a condition holds.
fn turn(
    epoll: &Epoll,
    open: &mut [Watch],
    buffer: &mut [u8],
    tally: &mut Tally,
    mut is_so: impl FnMut(&[Watch]) -> bool,
) -> io::Result<()> {
    let mut events = vec![EpollEvent::empty(); 256];
    let mut last = Instant::now();
    while !is_so(open) {
        let ready = epoll.wait(&mut events, EpollTimeout::from(1000u16))?;
        if ready > 0 {
            last = Instant::now();
        } else if last.elapsed() > Duration::from_millis(u64::from(PATIENCE)) {
            return Err(io::Error::other("the watches told nothing for long"));
        }
        let now = clock();
        for event in events.iter().take(ready) {
            if let Some(watch) = open.get_mut(event.data() as usize) {
                watch.receive(buffer, tally, now)?;
            }
        }
    }
    Ok(())
}

impl Watch {
    fn receive(&mut self, buffer: &mut [u8], tally: &mut Tally, now: u64) -> io::Result<()> {
        let Some(count) = read(&mut self.stream, buffer)? else { return Ok(()) };
        tally.octets += count as u64;
        tally.reads += 1;
        let mut bytes = &buffer[..count];
        if self.chunk.is_none() {
            let known = self.head.len();
            self.head.extend_from_slice(bytes);
            let Some(end) = self.head.windows(4).position(|end| end == b"\r\n\r\n") else { return Ok(()) };
            if !self.head.starts_with(b"HTTP/1.1 200 ") {
                return Err(io::Error::other(String::from_utf8_lossy(&self.head).into_owned()));
            }
            bytes = &bytes[end + 4 - known..];
            self.head.clear();
            self.chunk = Some(0);
        }
        while !bytes.is_empty() {
            let left = self.chunk.unwrap_or_default();
            if left == 0 {
                bytes = self.begin_chunk(bytes)?;
                continue;
            }
            let (now_here, rest) = bytes.split_at(left.min(bytes.len()));
            self.chunk = Some(left - now_here.len());
            bytes = rest;
            // The rest of the chunk ends with its line end.
            let told = now_here.len().min(left.saturating_sub(2));
            self.tell(&now_here[..told], tally, now)?;
        }
        Ok(())
    }

    /// Parses the line with a chunk's length.
    fn begin_chunk<'a>(&mut self, mut bytes: &'a [u8]) -> io::Result<&'a [u8]> {
        bytes.read_until(b'\n', &mut self.head)?;
        if self.head.ends_with(b"\n") {
            let length =
                std::str::from_utf8(&self.head).ok().and_then(|line| usize::from_str_radix(line.trim(), 16).ok());
            let length = length.filter(|length| *length > 0);
            self.chunk = Some(length.ok_or_else(|| io::Error::other("the watch ended"))? + 2);
            self.head.clear();
        }
        Ok(bytes)
    }

    fn tell(&mut self, mut bytes: &[u8], tally: &mut Tally, now: u64) -> io::Result<()> {
        while !bytes.is_empty() {
            bytes.read_until(b'\n', &mut self.line)?;
            if !self.line.ends_with(b"\n") {
                return Ok(());
            }
            let [version_place, sent_place] = &mut tally.places;
            let version = after(&self.line, VERSION, version_place);
            if version != Some(self.version + 1) || !self.line.starts_with(b"{\"type\":\"MODIFIED\"") {
                let line = String::from_utf8_lossy(&self.line);
                return Err(io::Error::other(format!("not the change after version {}: {line}", self.version)));
            }
            self.version += 1;
            self.events += 1;
            if let Some(sent) = after(&self.line, SENT, sent_place) {
                tally.lags.push(now.saturating_sub(sent) as u32);
            }
            self.line.clear();
        }
        Ok(())
    }
}
