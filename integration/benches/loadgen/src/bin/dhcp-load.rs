//! Simulates many DHCP clients, checks every field of every reply, and prints one line of JSON.
//!
//! dhcp-load MODE --interface IF --own IP --server IP [--outstanding N] [--seconds S | --machines N] [--file SUFFIX]
//!   proxy        DISCOVER, OFFER, then REQUEST and ACK on port 4011, as UEFI firmware does
//!   first        as `proxy`, until N machines are done; no machine was ever seen before
//!   storm        one DISCOVER of each of N machines, as fast as they can be sent; each is sent once
//!   lease        DISCOVER to ACK, a new machine each time, which does not boot from the network
//!   first-lease  as `lease`, of machines that boot from the network, until N machines are done

use std::collections::HashSet;
use std::io::{IoSlice, IoSliceMut};
use std::net::{Ipv4Addr, SocketAddrV4};
use std::os::fd::{AsFd, AsRawFd};
use std::time::{Duration, Instant};

use anyhow::{Context, bail, ensure};
use nix::errno::Errno;
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use nix::sys::socket::{ControlMessage, MsgFlags, MultiHeaders, SockaddrIn, recvmmsg, sendmmsg};
use socket2::{Domain, Protocol, Socket, Type};

const BATCH: usize = 64;
const RETRY: Duration = Duration::from_millis(1000);

#[derive(Clone, Copy, PartialEq, Eq)]
enum Mode {
    Proxy,
    First,
    Storm,
    Lease,
    FirstLease,
}

impl Mode {
    /// Returns whether the server gives boot offers only, and no addresses.
    fn is_proxy(self) -> bool {
        matches!(self, Self::Proxy | Self::First | Self::Storm)
    }

    /// Returns whether the second exchange goes to port 4011.
    fn asks_port_4011(self) -> bool {
        matches!(self, Self::Proxy | Self::First)
    }

    /// Returns whether each exchange is one of a machine that was never used before.
    fn is_of_new_machines(self) -> bool {
        matches!(self, Self::First | Self::Lease | Self::FirstLease)
    }

    /// Returns whether the load ends after a number of machines, and not after a time.
    fn ends_by_count(self) -> bool {
        matches!(self, Self::First | Self::FirstLease)
    }
}

struct Plan {
    mode: Mode,
    interface: String,
    own: Ipv4Addr,
    server: Ipv4Addr,
    outstanding: usize,
    seconds: f64,
    machines: usize,
    file: String,
}

/// An exchange of one machine in progress.
#[derive(Clone, Copy)]
struct Slot {
    machine: u32,
    serial: u32,
    is_second: bool,
    offered: Ipv4Addr,
    begun: Instant,
    sent: Instant,
}

fn plan() -> anyhow::Result<Plan> {
    let mut words = std::env::args().skip(1);
    let mode = match words.next().as_deref() {
        Some("proxy") => Mode::Proxy,
        Some("first") => Mode::First,
        Some("storm") => Mode::Storm,
        Some("lease") => Mode::Lease,
        Some("first-lease") => Mode::FirstLease,
        other => bail!("{other:?} is no mode: proxy, first, storm, lease, first-lease"),
    };
    let nowhere = Ipv4Addr::UNSPECIFIED;
    let mut plan = Plan {
        mode,
        interface: "lan0".into(),
        own: nowhere,
        server: nowhere,
        outstanding: 64,
        seconds: 3.0,
        machines: 1000,
        file: String::new(),
    };
    while let Some(word) = words.next() {
        let value = words.next().with_context(|| format!("{word} wants a value"))?;
        match word.as_str() {
            "--interface" => plan.interface = value,
            "--own" => plan.own = value.parse()?,
            "--server" => plan.server = value.parse()?,
            "--outstanding" => plan.outstanding = value.parse()?,
            "--seconds" => plan.seconds = value.parse()?,
            "--machines" => plan.machines = value.parse()?,
            "--file" => plan.file = value,
            _ => bail!("{word}?"),
        }
    }
    Ok(plan)
}

fn open(plan: &Plan, address: Ipv4Addr, port: u16) -> anyhow::Result<Socket> {
    let socket = Socket::new(Domain::IPV4, Type::DGRAM.nonblocking(), Some(Protocol::UDP))?;
    socket.bind_device(Some(plan.interface.as_bytes()))?;
    socket.set_broadcast(true)?;
    let size = 16 << 20;
    let _ = nix::sys::socket::setsockopt(&socket, nix::sys::socket::sockopt::RcvBufForce, &size);
    let _ = nix::sys::socket::setsockopt(&socket, nix::sys::socket::sockopt::SndBufForce, &size);
    socket.bind(&SocketAddrV4::new(address, port).into())?;
    Ok(socket)
}

fn mac(machine: u32) -> [u8; 6] {
    let [a, b, c, d] = machine.to_be_bytes();
    [0x52, 0x54, a, b, c, d]
}

fn uuid(machine: u32) -> [u8; 17] {
    let mut uuid = [7; 17];
    uuid[0] = 0;
    uuid[1..5].copy_from_slice(&machine.to_be_bytes());
    uuid
}

fn message(plan: &Plan, slot: &Slot, kind: u8, xid: u32) -> Vec<u8> {
    let mut bytes = Vec::with_capacity(512);
    bytes.resize(240, 0);
    bytes[..4].copy_from_slice(&[1, 1, 6, 0]);
    bytes[4..8].copy_from_slice(&xid.to_be_bytes());
    bytes[10] = 0x80;
    bytes[28..34].copy_from_slice(&mac(slot.machine));
    bytes[236..240].copy_from_slice(&[99, 130, 83, 99]);
    let mut option = |code: u8, value: &[u8]| {
        bytes.extend([code, u8::try_from(value.len()).expect("short")]);
        bytes.extend(value);
    };
    option(53, &[kind]);
    if plan.mode.is_proxy() {
        option(57, &1472u16.to_be_bytes());
        option(
            55,
            &[
                1, 2, 3, 4, 5, 6, 12, 13, 15, 17, 18, 22, 23, 28, 40, 41, 42, 43, 50, 51, 54, 58, 59, 60, 66, 67, 97,
                128,
            ],
        );
    } else {
        option(55, &[1, 3, 6, 15, 51, 54]);
        if slot.is_second {
            option(50, &slot.offered.octets());
            option(54, &plan.server.octets());
        }
    }
    if plan.mode != Mode::Lease {
        option(97, &uuid(slot.machine));
        option(94, &[1, 3, 0]);
        option(93, &[0, 7]);
        option(60, b"PXEClient:Arch:00007:UNDI:003000");
    }
    if plan.mode.asks_port_4011() && slot.is_second {
        // The client has an address in the second exchange.
        bytes[10] = 0;
        bytes[12..16].copy_from_slice(&plan.own.octets());
    }
    bytes.push(255);
    bytes.resize(bytes.len().max(300), 0);
    bytes
}

/// Checks every field of a reply; returns the offered address.
fn check(plan: &Plan, slot: &Slot, bytes: &[u8]) -> anyhow::Result<Ipv4Addr> {
    let address = |at: usize| Ipv4Addr::from(<[u8; 4]>::try_from(&bytes[at..at + 4]).expect("four"));
    ensure!(bytes.len() >= 240 && bytes[236..240] == [99, 130, 83, 99], "no cookie");
    ensure!(bytes[..3] == [2, 1, 6], "op, htype, hlen");
    ensure!(bytes[28..34] == mac(slot.machine), "chaddr");
    let wants_broadcast = !(plan.mode.asks_port_4011() && slot.is_second);
    ensure!((bytes[10] == 0x80) == wants_broadcast, "flags");
    const CHECKED: [u8; 6] = [1, 51, 53, 54, 60, 97];
    let place = |code: u8| CHECKED.iter().position(|checked| *checked == code);
    let mut found = [None; CHECKED.len()];
    let mut rest = &bytes[240..];
    while let [code, length, tail @ ..] = rest {
        if *code == 255 {
            break;
        }
        if *code == 0 {
            rest = &rest[1..];
            continue;
        }
        ensure!(tail.len() >= usize::from(*length), "an option is cut");
        if let Some(place) = place(*code) {
            found[place] = Some(&tail[..usize::from(*length)]);
        }
        rest = &tail[usize::from(*length)..];
    }
    let kind = if slot.is_second { 5 } else { 2 };
    let option = |code: u8| place(code).and_then(|place| found[place]);
    ensure!(option(53) == Some(&[kind][..]), "message type {:?}", option(53));
    ensure!(option(54) == Some(&plan.server.octets()[..]), "server identifier");
    let yiaddr = address(16);
    match plan.mode {
        Mode::Proxy | Mode::First | Mode::Storm => {
            ensure!(option(60) == Some(b"PXEClient"), "vendor class");
            ensure!(option(97) == Some(&uuid(slot.machine)[..]), "uuid");
            ensure!(yiaddr.is_unspecified(), "a proxy gives no address");
            if slot.is_second {
                let file = bytes[108..236].split(|octet| *octet == 0).next().unwrap_or_default();
                ensure!(address(20) == plan.server, "siaddr");
                ensure!(file.ends_with(plan.file.as_bytes()), "boot file {:?}", String::from_utf8_lossy(file));
            }
        }
        Mode::Lease | Mode::FirstLease => {
            ensure!(!yiaddr.is_unspecified(), "no address");
            ensure!(!slot.is_second || yiaddr == slot.offered, "another address than the offer's");
            ensure!(option(51).is_some_and(|time| time.len() == 4), "lease time");
            ensure!(option(1).is_some_and(|mask| mask.len() == 4), "subnet mask");
        }
    }
    Ok(yiaddr)
}

struct Load {
    plan: Plan,
    broadcast: Socket,
    second: Socket,
    slots: Vec<Slot>,
    next: u32,
    done: u64,
    wrong: u64,
    resent: u64,
    times: Vec<u32>,
    given: HashSet<Ipv4Addr>,
    first_wrong: Option<String>,
    /// Buffers, reused by each call.
    headers: MultiHeaders<()>,
}

impl Load {
    fn xid(slot: usize, serial: u32) -> u32 {
        u32::try_from(slot).expect("few slots") | serial << 12
    }

    fn begin(&mut self, slot: usize, now: Instant) {
        let machine = match self.plan.mode {
            Mode::Proxy | Mode::Storm => self.next % u32::try_from(self.plan.machines).expect("fits"),
            Mode::First | Mode::Lease | Mode::FirstLease => self.next,
        };
        self.next = self.next.wrapping_add(1);
        let serial = self.slots[slot].serial.wrapping_add(1) & 0xf_ffff;
        let offered = Ipv4Addr::UNSPECIFIED;
        self.slots[slot] = Slot { machine, serial, is_second: false, offered, begun: now, sent: now };
    }

    /// Sends the next request of each slot.
    fn send(&mut self, which: &[usize]) -> anyhow::Result<()> {
        for is_second in [false, true] {
            let slots: Vec<_> = which.iter().copied().filter(|slot| self.slots[*slot].is_second == is_second).collect();
            let kind = if is_second { 3 } else { 1 };
            let write = |slot: &usize| {
                message(&self.plan, &self.slots[*slot], kind, Self::xid(*slot, self.slots[*slot].serial))
            };
            let messages: Vec<_> = slots.iter().map(write).collect();
            let (socket, to) = match self.plan.mode.asks_port_4011() && is_second {
                true => (&self.second, SocketAddrV4::new(self.plan.server, 4011)),
                false => (&self.broadcast, SocketAddrV4::new(Ipv4Addr::BROADCAST, 67)),
            };
            for messages in messages.chunks(BATCH) {
                let slices: Vec<_> = messages.iter().map(|message| [IoSlice::new(message)]).collect();
                let to = vec![Some(SockaddrIn::from(to)); slices.len()];
                let mut headers = MultiHeaders::<SockaddrIn>::preallocate(slices.len(), None);
                let none: [ControlMessage<'_>; 0] = [];
                sendmmsg(socket.as_raw_fd(), &mut headers, &slices, to, none, MsgFlags::empty()).context("sending")?;
            }
        }
        Ok(())
    }

    /// Receives the available replies; returns the slots that send next.
    fn receive(
        &mut self,
        from_second: bool,
        buffers: &mut [[u8; 1500]],
        begin_new: bool,
    ) -> anyhow::Result<Vec<usize>> {
        let socket = if from_second { &self.second } else { &self.broadcast };
        let mut slices: Vec<_> = buffers.iter_mut().map(|buffer| [IoSliceMut::new(buffer)]).collect();
        let headers = &mut self.headers;
        let lengths: Vec<usize> =
            match recvmmsg(socket.as_raw_fd(), headers, slices.iter_mut(), MsgFlags::MSG_DONTWAIT, None) {
                Ok(messages) => messages.map(|message| message.bytes).collect(),
                Err(Errno::EAGAIN | Errno::EINTR) => Vec::new(),
                Err(error) => return Err(error).context("receiving"),
            };
        let mut again = Vec::new();
        let now = Instant::now();
        for (length, buffer) in lengths.into_iter().zip(buffers.iter()) {
            again.extend(self.take(&buffer[..length], now, begin_new));
        }
        Ok(again)
    }

    fn take(&mut self, bytes: &[u8], now: Instant, begin_new: bool) -> Option<usize> {
        let xid = u32::from_be_bytes(bytes.get(4..8)?.try_into().ok()?);
        let index = (xid & 0xfff) as usize;
        let slot = *self.slots.get(index)?;
        let is_ack = bytes.get(242) == Some(&5);
        if slot.serial != xid >> 12 || slot.is_second != is_ack {
            return None; // an answer to a message that was sent again
        }
        match check(&self.plan, &slot, bytes) {
            Ok(offered) if !slot.is_second && self.plan.mode != Mode::Storm => {
                self.slots[index] = Slot { is_second: true, offered, sent: now, ..slot };
                return Some(index);
            }
            Ok(address) => {
                self.done += 1;
                self.times.push(u32::try_from((now - slot.begun).as_micros()).unwrap_or(u32::MAX));
                if !self.plan.mode.is_proxy() && !self.given.insert(address) {
                    self.fail(format!("{address} was given to two machines"));
                }
            }
            Err(error) => self.fail(error.to_string()),
        }
        if !begin_new || self.plan.mode == Mode::Storm {
            self.slots[index].serial ^= 0x8_0000; // nothing more is awaited here
            return None;
        }
        self.begin(index, now);
        Some(index)
    }

    fn fail(&mut self, why: String) {
        self.wrong += 1;
        self.first_wrong.get_or_insert(why);
    }

    fn wait(&self, time: Duration) {
        let watch = |socket| PollFd::new(socket, PollFlags::POLLIN);
        let mut ready = [watch(self.broadcast.as_fd()), watch(self.second.as_fd())];
        let _ = poll(&mut ready, PollTimeout::try_from(time).unwrap_or(PollTimeout::ZERO));
    }

    fn exchange(&mut self) -> anyhow::Result<f64> {
        let mut buffers = vec![[0; 1500]; BATCH];
        let start = Instant::now();
        let end = start + Duration::from_secs_f64(self.plan.seconds);
        let all: Vec<_> = (0..self.slots.len()).collect();
        all.iter().for_each(|slot| self.begin(*slot, start));
        self.send(&all)?;
        let mut looked = start;
        loop {
            let now = Instant::now();
            let is_over = match self.plan.mode.ends_by_count() {
                true => self.done + self.wrong >= self.plan.machines as u64,
                false => now >= end,
            };
            if is_over {
                return Ok((now - start).as_secs_f64());
            }
            let mut again = self.receive(false, &mut buffers, true)?;
            again.extend(self.receive(true, &mut buffers, true)?);
            if now - looked > RETRY / 4 {
                looked = now;
                let late = all.iter().filter(|slot| now - self.slots[**slot].sent > RETRY);
                let late: Vec<_> = late.copied().collect();
                self.resent += late.len() as u64;
                late.iter().for_each(|slot| self.slots[*slot].sent = now);
                again.extend(late);
            }
            match again.is_empty() {
                true => self.wait(Duration::from_millis(50)),
                false => self.send(&again)?,
            }
        }
    }

    /// Sends all requests, then waits until no reply has come for a second.
    fn storm(&mut self) -> anyhow::Result<f64> {
        let mut buffers = vec![[0; 1500]; BATCH];
        let start = Instant::now();
        let all: Vec<_> = (0..self.slots.len()).collect();
        all.iter().for_each(|slot| self.begin(*slot, start));
        self.send(&all)?;
        let mut last = Instant::now();
        let mut taken = last - start;
        while self.done + self.wrong < all.len() as u64 && last.elapsed() < Duration::from_secs(1) {
            let before = self.done;
            self.receive(false, &mut buffers, false)?;
            match self.done == before {
                true => self.wait(Duration::from_millis(50)),
                false => {
                    last = Instant::now();
                    taken = last - start;
                }
            }
        }
        Ok(taken.as_secs_f64())
    }
}

fn main() -> anyhow::Result<()> {
    let plan = plan()?;
    let count = if plan.mode == Mode::Storm { plan.machines } else { plan.outstanding };
    ensure!(count <= 4096, "at most 4096 at once");
    let now = Instant::now();
    let none = Ipv4Addr::UNSPECIFIED;
    let slot =
        Slot { machine: 0, serial: std::process::id() & 0x7ff, is_second: false, offered: none, begun: now, sent: now };
    let mut load = Load {
        broadcast: open(&plan, none, 68)?,
        second: open(&plan, plan.own, 4011)?,
        slots: vec![slot; count],
        plan,
        next: 0,
        done: 0,
        wrong: 0,
        resent: 0,
        times: Vec::new(),
        given: HashSet::new(),
        first_wrong: None,
        headers: MultiHeaders::preallocate(BATCH, None),
    };
    if load.plan.mode.is_of_new_machines() {
        // Each run uses other machines.
        load.next = std::process::id() << 16;
    }
    let seconds = match load.plan.mode {
        Mode::Proxy | Mode::First | Mode::Lease | Mode::FirstLease => load.exchange()?,
        Mode::Storm => load.storm()?,
    };
    load.times.sort_unstable();
    let at = |share: f64| load.times.get((load.times.len() as f64 * share) as usize).copied().unwrap_or(0);
    let lost = match load.plan.mode {
        Mode::Storm => count as u64 - load.done - load.wrong,
        Mode::Proxy | Mode::First | Mode::Lease | Mode::FirstLease => load.resent,
    };
    println!(
        "{{\"done\": {}, \"seconds\": {seconds:.4}, \"lost\": {lost}, \"wrong\": {}, \"p50_us\": {}, \"p99_us\": {}, \"why\": {:?}}}",
        load.done,
        load.wrong,
        at(0.5),
        at(0.99),
        load.first_wrong.unwrap_or_default(),
    );
    Ok(())
}
