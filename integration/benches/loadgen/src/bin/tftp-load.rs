//! TFTP clients in one thread, to be pinned to a core. Checks each byte of each
//! file against a copy, and prints one line of JSON.
//!
//! `tftp-load --server 10.0.0.1:69 --name f --copy /path/f --clients 64 --block-size 1468 --seconds 3`
//! keeps every client fetching for three seconds; `--once` lets each fetch one file and start at the same moment.
//! `--names N` appends 0..N to the name, a file for each client; the copies are `/path/f0`...

use std::error::Error;
use std::io::{self, IoSliceMut};
use std::net::{SocketAddr, UdpSocket};
use std::os::fd::{AsFd, AsRawFd};
use std::time::{Duration, Instant};

use nix::sys::epoll::{Epoll, EpollCreateFlags, EpollEvent, EpollFlags, EpollTimeout};
use nix::sys::socket::{MsgFlags, MultiHeaders, recvmmsg};

use bootlatch_loadgen::arguments::Arguments;

/// Time before a client repeats a packet, and the number of repetitions.
const PATIENCE: Duration = Duration::from_secs(1);
const TRIES: u32 = 10;
/// Number of datagrams of one system call.
const BATCH: usize = 64;

struct Load {
    server: SocketAddr,
    name: String,
    names: usize,
    block_size: usize,
    window: u64,
    /// Duration of the load; with zero each client fetches once.
    lasts: Duration,
    copies: Vec<Vec<u8>>,
}

struct Client {
    socket: UdpSocket,
    copy: usize,
    asked_at: Instant,
    heard_at: Instant,
    connected: bool,
    block_size: usize,
    window: u64,
    /// Number of the next block, not wrapped, and number of blocks since the last acknowledgement.
    next: u64,
    unacknowledged: u64,
    tries: u32,
    done: bool,
}

#[derive(Default)]
struct Tally {
    octets: u64,
    files: u64,
    failures: u64,
    repeats: u64,
    gaps: u64,
    /// From each request to the first reply.
    first_replies: Vec<Duration>,
    /// From each request to the last block.
    files_took: Vec<Duration>,
}

fn main() -> Result<(), Box<dyn Error>> {
    let (load, clients) = asked_for()?;
    let epoll = Epoll::new(EpollCreateFlags::EPOLL_CLOEXEC)?;
    let mut tally = Tally::default();
    let began = Instant::now();
    let mut all = Vec::new();
    for number in 0..clients {
        all.push(Client::new(&load, number, &epoll)?);
    }
    for client in &mut all {
        client.ask(&load)?;
    }
    run(&load, &epoll, &mut all, &mut tally, began)?;
    print(&tally, began.elapsed());
    if tally.failures > 0 { Err("some clients got no file, or a wrong one".into()) } else { Ok(()) }
}

fn run(load: &Load, epoll: &Epoll, all: &mut [Client], tally: &mut Tally, began: Instant) -> io::Result<()> {
    let mut events = vec![EpollEvent::empty(); 256];
    let mut datagrams = vec![vec![0u8; load.block_size + 64]; BATCH];
    let mut headers = MultiHeaders::<()>::preallocate(BATCH, None);
    let mut swept = began;
    while all.iter().any(|client| !client.done) {
        let ready = epoll.wait(&mut events, EpollTimeout::from(50u8))?;
        let now = Instant::now();
        let over = load.lasts > Duration::ZERO && now - began >= load.lasts;
        for event in events.iter().take(ready) {
            let number = event.data() as usize;
            if all[number].receive(load, &mut datagrams, &mut headers, tally, now)? {
                all[number].done = true;
                if !over && load.lasts > Duration::ZERO {
                    all[number] = Client::new(load, number, epoll)?;
                    all[number].ask(load)?;
                }
            }
        }
        if over {
            return Ok(());
        }
        if now - swept > Duration::from_millis(100) {
            swept = now;
            for client in all.iter_mut().filter(|client| !client.done && now - client.heard_at > PATIENCE) {
                client.repeat(load, tally, now)?;
            }
        }
    }
    Ok(())
}

impl Client {
    fn new(load: &Load, number: usize, epoll: &Epoll) -> io::Result<Self> {
        let any = if load.server.is_ipv4() { "0.0.0.0:0" } else { "[::]:0" };
        let socket = UdpSocket::bind(any)?;
        socket.set_nonblocking(true)?;
        epoll.add(socket.as_fd(), EpollEvent::new(EpollFlags::EPOLLIN, number as u64))?;
        let now = Instant::now();
        Ok(Client {
            socket,
            copy: number % load.copies.len(),
            asked_at: now,
            heard_at: now,
            connected: false,
            block_size: 512,
            window: 1,
            next: 1,
            unacknowledged: 0,
            tries: 0,
            done: false,
        })
    }

    fn ask(&mut self, load: &Load) -> io::Result<()> {
        if self.tries == 0 {
            self.asked_at = Instant::now();
        }
        let number = if load.names > 1 { self.copy.to_string() } else { String::new() };
        let mut request = format!("\0\u{1}{}{number}\0octet\0", load.name);
        if load.block_size != 512 {
            request += &format!("blksize\0{}\0", load.block_size);
        }
        if load.window != 1 {
            request += &format!("windowsize\0{}\0", load.window);
        }
        self.socket.send_to(request.as_bytes(), load.server).map(drop)
    }

    fn repeat(&mut self, load: &Load, tally: &mut Tally, now: Instant) -> io::Result<()> {
        self.heard_at = now;
        self.tries += 1;
        tally.repeats += 1;
        if self.tries > TRIES {
            self.done = true;
            tally.failures += 1;
            return Ok(());
        }
        if self.connected { self.acknowledge() } else { self.ask(load) }
    }

    /// Receives the available datagrams; returns whether the file is complete or has failed.
    fn receive(
        &mut self,
        load: &Load,
        datagrams: &mut [Vec<u8>],
        headers: &mut MultiHeaders<()>,
        tally: &mut Tally,
        now: Instant,
    ) -> io::Result<bool> {
        if !self.connected {
            let (octets, from) = match self.socket.recv_from(&mut datagrams[0]) {
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => return Ok(false),
                other => other?,
            };
            self.socket.connect(from)?;
            self.connected = true;
            tally.first_replies.push(now - self.asked_at);
            return self.hear(load, &datagrams[0][..octets], tally, now);
        }
        if self.window == 1 {
            let octets = match self.socket.recv(&mut datagrams[0]) {
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => return Ok(false),
                other => other?,
            };
            return self.hear(load, &datagrams[0][..octets], tally, now);
        }
        let lengths: Vec<usize> = {
            let mut slices: Vec<[IoSliceMut<'_>; 1]> = datagrams.iter_mut().map(|d| [IoSliceMut::new(d)]).collect();
            let fd = self.socket.as_raw_fd();
            match recvmmsg(fd, headers, slices.iter_mut(), MsgFlags::MSG_DONTWAIT, None) {
                Err(nix::Error::EAGAIN) => return Ok(false),
                other => other?.map(|message| message.bytes).collect(),
            }
        };
        for (datagram, octets) in datagrams.iter().zip(lengths) {
            if self.hear(load, &datagram[..octets], tally, now)? {
                return Ok(true);
            }
        }
        Ok(false)
    }

    fn hear(&mut self, load: &Load, datagram: &[u8], tally: &mut Tally, now: Instant) -> io::Result<bool> {
        self.heard_at = now;
        self.tries = 0;
        match datagram {
            [0, 3, high, low, bytes @ ..] => {
                let copy = &load.copies[self.copy];
                if u16::from_be_bytes([*high, *low]) != self.next as u16 {
                    tally.gaps += 1;
                    // RFC 7440: after a gap, acknowledge the last block in order.
                    return if self.window > 1 { self.acknowledge().map(|()| false) } else { Ok(false) };
                }
                let at = (self.next - 1) as usize * self.block_size;
                let end = (at + self.block_size).min(copy.len());
                if copy.get(at..end) != Some(bytes) {
                    tally.failures += 1;
                    return Ok(true);
                }
                tally.octets += bytes.len() as u64;
                self.next += 1;
                self.unacknowledged += 1;
                let last = bytes.len() < self.block_size;
                if last || self.unacknowledged == self.window {
                    self.acknowledge()?;
                }
                if last {
                    tally.files += 1;
                    tally.files_took.push(now - self.asked_at);
                }
                Ok(last)
            }
            [0, 6, options @ ..] => {
                let mut words = options.split(|&byte| byte == 0).map(String::from_utf8_lossy);
                while let (Some(name), Some(value)) = (words.next(), words.next()) {
                    match (name.as_ref(), value.parse::<u64>()) {
                        ("blksize", Ok(size)) => self.block_size = size as usize,
                        ("windowsize", Ok(size)) => self.window = size,
                        _ => {}
                    }
                }
                self.acknowledge().map(|()| false)
            }
            _ => {
                tally.failures += 1;
                Ok(true)
            }
        }
    }

    fn acknowledge(&mut self) -> io::Result<()> {
        self.unacknowledged = 0;
        let [high, low] = (((self.next - 1) & 0xffff) as u16).to_be_bytes();
        match self.socket.send(&[0, 4, high, low]) {
            // The server has closed the transfer, after the last acknowledgement.
            Err(error) if error.kind() == io::ErrorKind::ConnectionRefused => Ok(()),
            other => other.map(drop),
        }
    }
}

fn asked_for() -> Result<(Load, usize), Box<dyn Error>> {
    let given = Arguments::read(&["--once"])?;
    let number = |name, or: usize| given.number(name, or);
    let names = number("--names", 1)?;
    let path = given.text("--copy")?;
    let copies = match names {
        1 => vec![std::fs::read(path)?],
        _ => (0..names).map(|number| std::fs::read(format!("{path}{number}"))).collect::<io::Result<_>>()?,
    };
    let load = Load {
        server: given.text("--server")?.parse()?,
        name: given.text("--name")?.to_owned(),
        names,
        block_size: number("--block-size", 512)?,
        window: number("--window", 1)? as u64,
        lasts: match given.perhaps("--once") {
            Some(_) => Duration::ZERO,
            None => Duration::from_secs_f64(given.text("--seconds")?.parse()?),
        },
        copies,
    };
    Ok((load, number("--clients", 1)?))
}

fn print(tally: &Tally, took: Duration) {
    println!(
        "{{\"octets\": {}, \"seconds\": {:.4}, \"files\": {}, \"failures\": {}, \"repeats\": {}, \"gaps\": {}, \
         \"first_ms\": {}, \"file_ms\": {}}}",
        tally.octets,
        took.as_secs_f64(),
        tally.files,
        tally.failures,
        tally.repeats,
        tally.gaps,
        percentiles(&tally.first_replies),
        percentiles(&tally.files_took),
    );
}

/// Returns the median, the 99th percentile and the maximum in milliseconds, as a JSON object.
fn percentiles(times: &[Duration]) -> String {
    let mut sorted = times.to_vec();
    sorted.sort();
    let at = |part: usize| sorted.get((sorted.len() * part / 100).min(sorted.len().saturating_sub(1)));
    let milliseconds = |part| at(part).map_or(0.0, |time| time.as_secs_f64() * 1000.0);
    format!("{{\"p50\": {:.3}, \"p99\": {:.3}, \"max\": {:.3}}}", milliseconds(50), milliseconds(99), milliseconds(100))
}
