//! The switch: learns addresses, and passes frames between the machines and the servers.

use std::collections::{BTreeMap, VecDeque};
use std::fs::File;
use std::io::{self, BufWriter, Write};
use std::os::fd::{AsFd, AsRawFd, OwnedFd};
use std::os::unix::net::{UnixDatagram, UnixStream};
use std::path::Path;
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use nix::errno::Errno;
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};

use super::fault::{Fate, Faults};
use super::frame::Frame;
use super::packet_socket::PacketSocket;
use super::pcapng;

/// Maximum length of a frame.
const MAX_FRAME: usize = 65_536;
/// Frames that are passed from one port before the others have their turn.
const TURN: usize = 64;
/// Maximum number of addresses that are remembered.
const MAX_ADDRESSES: usize = 4096;
/// Maximum number of frames that are delayed.
const MAX_DELAYED: usize = 16_384;
/// Size of the buffers towards a machine, in bytes.
const BUFFER_BYTES: usize = 1 << 20;
/// Time that the capture is behind by, when no frame comes.
const FLUSH: Duration = Duration::from_millis(500);

/// A port of the switch.
#[derive(Debug)]
enum Port {
    /// QEMU's end of a socket pair is the machine's network interface.
    Machine(UnixDatagram),
    /// The other end of a server's interface.
    Server(PacketSocket),
}

/// A switch that was not started yet.
#[derive(Debug)]
pub struct Switch {
    ports: Vec<Port>,
    /// Whether a port has its other end.
    is_open: Vec<bool>,
    addresses: BTreeMap<[u8; 6], usize>,
    faults: Faults,
    /// Delayed frames with their due times and destinations.
    delayed: VecDeque<(Instant, Vec<usize>, Vec<u8>)>,
    capture: BufWriter<File>,
    captured: u64,
}

impl Switch {
    /// Creates a switch that records all frames in a file.
    ///
    /// # Errors
    /// The file cannot be written.
    pub fn new(faults: Faults, capture: &Path) -> io::Result<Self> {
        let mut capture = BufWriter::with_capacity(1 << 18, File::create(capture)?);
        capture.write_all(&pcapng::header())?;
        let (addresses, delayed) = (BTreeMap::new(), VecDeque::new());
        Ok(Self { ports: Vec::new(), is_open: Vec::new(), addresses, faults, delayed, capture, captured: 0 })
    }

    /// Adds a port for the interface of a server.
    ///
    /// # Errors
    /// The interface does not exist.
    pub fn add_server(&mut self, interface: &str) -> io::Result<()> {
        self.ports.push(Port::Server(PacketSocket::open(interface)?));
        self.is_open.push(true);
        Ok(())
    }

    /// Adds a port for a machine; returns the machine's end.
    ///
    /// # Errors
    /// The kernel refuses another socket.
    pub fn add_machine(&mut self) -> io::Result<OwnedFd> {
        let (ours, theirs) = UnixDatagram::pair()?;
        for socket in [&ours, &theirs] {
            nix::sys::socket::setsockopt(socket, nix::sys::socket::sockopt::SndBuf, &BUFFER_BYTES)?;
        }
        ours.set_nonblocking(true)?;
        self.ports.push(Port::Machine(ours));
        self.is_open.push(true);
        Ok(theirs.into())
    }

    /// Passes frames until the other end of `stopped` is closed. The capture is whole then.
    pub fn run(mut self, stopped: &UnixStream) {
        let mut flushed = Instant::now();
        let mut buffer = vec![0; MAX_FRAME];
        loop {
            let timeout = self.delayed.front().map_or(FLUSH, |(due, ..)| due.saturating_duration_since(Instant::now()));
            // A millisecond more than what is left, in place of many turns within the last one.
            let timeout =
                PollTimeout::try_from(timeout.min(FLUSH) + Duration::from_millis(1)).unwrap_or(PollTimeout::ZERO);
            let open: Vec<_> = (0..self.ports.len()).filter(|port| self.is_open[*port]).collect();
            let waiting = open.iter().map(|port| PollFd::new(self.ports[*port].as_fd(), PollFlags::POLLIN));
            let stop = PollFd::new(stopped.as_fd(), PollFlags::POLLIN);
            let mut waiting: Vec<_> = waiting.chain([stop]).collect();
            match poll(&mut waiting, timeout) {
                Ok(_) | Err(Errno::EINTR) => {}
                Err(_) => return,
            }
            if waiting.pop().is_none_or(|stop| stop.any() != Some(false)) {
                // A full disk ends the capture, and not the rig.
                let _ = self.capture.flush();
                return;
            }
            let found = waiting.iter().map(|one| one.revents().unwrap_or(PollFlags::empty()));
            let found: Vec<_> = open.into_iter().zip(found).collect();
            // A machine that has ended.
            for (port, _) in
                found.iter().filter(|(_, events)| !events.is_empty() && !events.contains(PollFlags::POLLIN))
            {
                self.is_open[*port] = false;
            }
            let ready: Vec<_> =
                found.iter().filter(|(_, events)| events.contains(PollFlags::POLLIN)).map(|(port, _)| *port).collect();
            if flushed.elapsed() > FLUSH {
                // The capture is read while the rig runs.
                let _ = self.capture.flush();
                flushed = Instant::now();
            }
            for port in ready {
                for _ in 0..TURN {
                    let Some(length) = self.ports[port].receive(&mut buffer) else { break };
                    self.pass(port, &buffer[..length]);
                }
            }
            self.send_due();
        }
    }

    fn pass(&mut self, port: usize, bytes: &[u8]) {
        let Some(frame) = Frame::parse(bytes) else { return };
        self.record(&frame, bytes);
        if self.addresses.len() < MAX_ADDRESSES || self.addresses.contains_key(&frame.from) {
            self.addresses.insert(frame.from, port);
        }
        let known = self.addresses.get(&frame.to).filter(|_| !frame.is_multicast());
        let targets: Vec<usize> = match known {
            Some(target) => vec![*target],
            None => (0..self.ports.len()).collect(),
        };
        let targets: Vec<usize> = targets.into_iter().filter(|target| *target != port).collect();
        let is_to_machine = matches!(self.ports[port], Port::Server(_));
        match self.faults.fate(&frame, is_to_machine) {
            Fate::Pass => targets.iter().for_each(|target| self.ports[*target].send(bytes)),
            Fate::Delay(time) if self.delayed.len() < MAX_DELAYED => {
                let due = Instant::now() + time;
                let at = self.delayed.partition_point(|(earlier, ..)| *earlier <= due);
                self.delayed.insert(at, (due, targets, bytes.to_owned()));
            }
            Fate::Delay(_) | Fate::Drop => {}
        }
    }

    fn send_due(&mut self) {
        let now = Instant::now();
        while self.delayed.front().is_some_and(|(due, ..)| *due <= now)
            && let Some((_, targets, bytes)) = self.delayed.pop_front()
        {
            targets.iter().for_each(|target| self.ports[*target].send(&bytes));
        }
    }

    fn record(&mut self, frame: &Frame, bytes: &[u8]) {
        if self.captured > pcapng::MAX_BYTES {
            return;
        }
        let time = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
        let is_whole = frame.segment.is_some_and(|segment| segment.is_udp);
        let block = pcapng::frame(time, bytes, is_whole);
        self.captured += block.len() as u64;
        let _ = self.capture.write_all(&block);
    }
}

impl AsFd for Port {
    fn as_fd(&self) -> std::os::fd::BorrowedFd<'_> {
        match self {
            Self::Machine(socket) => socket.as_fd(),
            Self::Server(socket) => socket.as_fd(),
        }
    }
}

impl Port {
    /// Receives a frame; `None` if there is none now.
    fn receive(&self, buffer: &mut [u8]) -> Option<usize> {
        let length = nix::unistd::read(self.as_fd(), buffer).ok()?;
        (length > 0).then_some(length)
    }

    /// Sends a frame. One that does not fit into the buffer is lost, as on a switch of hardware.
    fn send(&self, bytes: &[u8]) {
        let _ = nix::sys::socket::send(self.as_fd().as_raw_fd(), bytes, nix::sys::socket::MsgFlags::MSG_NOSIGNAL);
    }
}
