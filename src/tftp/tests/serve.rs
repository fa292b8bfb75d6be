//! The server on loopback, with Debian's clients and with a client that sends single packets.

use super::super::packet::Packet;
use super::super::transfer::Ending;
use super::*;
use crate::iso::ReadAt;
use bytes::Bytes;
use std::net::UdpSocket;
use std::path::Path;
use std::process::Command;
use std::sync::mpsc::Receiver;
use std::sync::{Condvar, Mutex};
use std::thread::JoinHandle;

type Held = Arc<Mutex<Vec<Responder>>>;

/// A disk whose octets are never in memory. It answers once it is told to.
#[derive(Debug, Clone, Default)]
struct Disk(Arc<(Mutex<bool>, Condvar)>);

impl Disk {
    fn answer(&self) {
        *self.0.0.lock().unwrap() = true;
        self.0.1.notify_all();
    }
}

/// A file on a disk.
#[derive(Debug)]
struct FileOnDisk(Bytes, Disk);

impl ReadAt for FileOnDisk {
    fn len(&self) -> u64 {
        self.0.len() as u64
    }

    fn read_at(&self, offset: u64, into: &mut [u8]) -> io::Result<()> {
        let (answers, changed) = &*self.1.0;
        drop(changed.wait_while(answers.lock().unwrap(), |answers| !*answers).unwrap());
        let start = usize::try_from(offset).unwrap();
        into.copy_from_slice(&self.0[start..start + into.len()]);
        Ok(())
    }
}

struct ServerTestbed {
    address: SocketAddr,
    /// The disk of the files `disk-SIZE`.
    disk: Disk,
    reports: Receiver<TransferReport>,
    /// Responders of requests for `later`, kept unanswered.
    held: Held,
    stop: Option<tokio::sync::oneshot::Sender<()>>,
    thread: Option<JoinHandle<io::Result<()>>>,
}

fn bytes(size: usize) -> Bytes {
    (0..size).map(|at| (at * 7 + at / 251) as u8).collect::<Vec<u8>>().into()
}

impl ServerTestbed {
    fn new((address, ports): (&str, PortUse), settings: TftpSettings) -> ServerTestbed {
        let listener = Listener::bind(address.parse().unwrap(), None, ports).unwrap();
        let address = listener.address().unwrap();
        let (told, reports) = mpsc::channel();
        let (stop, stopped) = tokio::sync::oneshot::channel();
        let held = Held::default();
        let kept = held.clone();
        let disk = Disk::default();
        let on_disk = disk.clone();
        let content = move |request: TransferRequest, responder: Responder| {
            let super::super::path::FileName::Plain(path) = &request.asked.file else { return };
            match path.as_str() {
                "missing" => responder.answer(FileAnswer::NotFound),
                "held" => responder.answer(FileAnswer::Refused("held by an operator")),
                "silent" => responder.answer(FileAnswer::NoAnswer),
                "later" => kept.lock().unwrap().push(responder),
                "text" => responder.answer(FileAnswer::Content(FileContent::Shared("one\ntwo\r\n".into()))),
                name => {
                    let size = |text: &str| bytes(text.parse().unwrap());
                    responder.answer(FileAnswer::Content(match name.strip_prefix("disk-") {
                        Some(text) => FileContent::Medium(Arc::new(FileOnDisk(size(text), on_disk.clone()))),
                        None => FileContent::Shared(size(name)),
                    }));
                }
            }
        };
        let thread = std::thread::spawn(move || {
            let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
            let shutdown = async { stopped.await.unwrap_or_default() };
            let report = move |report| told.send(report).unwrap_or_default();
            runtime.block_on(async {
                let (control, changes) = ListenerControl::new().unwrap();
                control.add(0, listener).await;
                serve(changes, settings, content, report, |_| false, shutdown).await
            })
        });
        ServerTestbed { address, disk, reports, held, stop: Some(stop), thread: Some(thread) }
    }

    /// Waits for the next report that is no drop.
    fn report(&self) -> TransferReport {
        loop {
            match self.reports.recv_timeout(Duration::from_secs(20)).unwrap() {
                TransferReport::Dropped { .. }
                | TransferReport::Requested { .. }
                | TransferReport::Silent { .. }
                | TransferReport::Slow { .. }
                | TransferReport::Resumed { .. } => {}
                other => return other,
            }
        }
    }

    fn dropped(&self) -> String {
        loop {
            if let TransferReport::Dropped { why, .. } = self.reports.recv_timeout(Duration::from_secs(20)).unwrap() {
                return format!("{why:?}");
            }
        }
    }

    fn ended(&self) -> (String, u64) {
        loop {
            if let TransferReport::Ended { how, octets, .. } = self.report() {
                return (format!("{how:?}"), octets);
            }
        }
    }

    fn client(&self) -> Client {
        let any = if self.address.is_ipv4() { "127.0.0.1:0" } else { "[::1]:0" };
        let socket = UdpSocket::bind(any).unwrap();
        socket.set_read_timeout(Some(Duration::from_secs(20))).unwrap();
        Client { socket, server: self.address }
    }
}

impl Drop for ServerTestbed {
    fn drop(&mut self) {
        drop(self.stop.take());
        self.disk.answer();
        let ended = self.thread.take().unwrap().join();
        if !std::thread::panicking() {
            ended.unwrap().unwrap();
        }
    }
}

/// A client that sends single packets and returns the replies.
struct Client {
    socket: UdpSocket,
    server: SocketAddr,
}

impl Client {
    fn ask(&self, name: &str, options: &[u8]) {
        let request = [b"\0\x01", name.as_bytes(), b"\0octet\0", options].concat();
        self.socket.send_to(&request, self.server).unwrap();
    }

    fn send(&self, packet: Packet<'_>, to: SocketAddr) {
        let mut out = Vec::new();
        packet.emit(&mut out);
        self.socket.send_to(&out, to).unwrap();
    }

    fn hear(&self) -> (Vec<u8>, SocketAddr) {
        let mut datagram = vec![0; 70_000];
        let (octets, from) = self.socket.recv_from(&mut datagram).unwrap();
        datagram.truncate(octets);
        (datagram, from)
    }

    fn read(&self, name: &str, options: &[u8], mut window: u64) -> Vec<u8> {
        self.ask(name, options);
        let (mut file, mut next, mut block_size) = (Vec::new(), 1u64, 512);
        loop {
            let (datagram, from) = self.hear();
            match Packet::parse(&datagram).unwrap() {
                Packet::OptionAck(pairs) => {
                    let granted = RequestedOptions::read(pairs);
                    block_size = granted.block_size.map_or(512, usize::from);
                    window = granted.window.map_or(1, u64::from);
                    self.send(Packet::Ack(0), from);
                }
                Packet::Data { block, bytes } => {
                    if block != next as u16 {
                        // On a busy machine a block is lost or repeated: the client acknowledges the last one in order.
                        self.send(Packet::Ack((next - 1) as u16), from);
                        continue;
                    }
                    file.extend(bytes);
                    if bytes.len() < block_size || next.is_multiple_of(window) {
                        self.send(Packet::Ack(block), from);
                    }
                    if bytes.len() < block_size {
                        return file;
                    }
                    next += 1;
                }
                other => panic!("{other:?}"),
            }
        }
    }
}

fn run(program: &str, arguments: &[&str], folder: &Path) -> String {
    let run = Command::new(program).args(arguments).current_dir(folder).output();
    let run = run.unwrap_or_else(|error| panic!("{program} (Debian's tftp-hpa, atftp, curl, busybox): {error}"));
    let said = format!("{}{}", String::from_utf8_lossy(&run.stdout), String::from_utf8_lossy(&run.stderr));
    assert!(run.status.success(), "{program} {arguments:?}: {said}");
    said
}

const OWN: (&str, PortUse) = ("127.0.0.1:0", PortUse::Own);

fn every_way() -> [(&'static str, PortUse); 4] {
    [OWN, ("127.0.0.1:0", PortUse::Single), ("[::1]:0", PortUse::Own), ("[::1]:0", PortUse::Single)]
}

#[test]
fn debians_clients_read_complete_files() {
    let folder = tempfile::tempdir().unwrap();
    let size = 3_000_000;
    let name = size.to_string();
    for path in every_way() {
        let testbed = ServerTestbed::new(path, TftpSettings::default());
        let (host, port) = (testbed.address.ip().to_string(), testbed.address.port().to_string());
        let url = format!("tftp://{}/{name}", testbed.address);
        let clients: [&[&str]; 7] = [
            &["tftp", "-m", "octet", &host, &port, "-c", "get", &name, "out"],
            &["atftp", "--get", "-r", &name, "-l", "out", &host, &port],
            &[
                "atftp",
                "--option",
                "blksize 1428",
                "--option",
                "tsize",
                "--get",
                "-r",
                &name,
                "-l",
                "out",
                &host,
                &port,
            ],
            &[
                "atftp",
                "--option",
                "windowsize 16",
                "--option",
                "blksize 1428",
                "--get",
                "-r",
                &name,
                "-l",
                "out",
                &host,
                &port,
            ],
            &["curl", "-sS", "-o", "out", &url],
            &["curl", "-sS", "--tftp-blksize", "8192", "-o", "out", &url],
            &["busybox", "tftp", "-g", "-b", "1468", "-r", &name, "-l", "out", &host, &port],
        ];
        for client in clients {
            if client[0] == "busybox" && host == "::1" {
                continue; // it takes no IPv6 address
            }
            let said = run(client[0], &client[1..], folder.path());
            let got = std::fs::read(folder.path().join("out")).unwrap_or_else(|_| panic!("{client:?}: {said}"));
            assert!(got == bytes(size), "{client:?} got {} octets", got.len());
            assert_eq!(testbed.ended(), ("Peer(Complete)".into(), size as u64), "{client:?}");
            std::fs::remove_file(folder.path().join("out")).unwrap();
        }
    }
}

#[test]
fn a_file_may_have_more_blocks_than_there_are_numbers() {
    for path in every_way() {
        let testbed = ServerTestbed::new(path, TftpSettings::default());
        let size = 8 * 70_000 + 3;
        assert!(testbed.client().read(&size.to_string(), b"blksize\x008\0windowsize\x0020\0", 20) == bytes(size));
    }
}

#[test]
fn windows_of_blocks_larger_than_one_call_sends_arrive_whole() {
    for path in every_way() {
        let testbed = ServerTestbed::new(path, TftpSettings::default());
        for (options, window) in
            [(&b"blksize\x001468\0windowsize\x0064\0"[..], 64), (b"blksize\x0016384\0windowsize\x006\0", 6)]
        {
            assert!(testbed.client().read("1468000", options, window) == bytes(1_468_000));
        }
    }
}

#[test]
fn a_configured_block_size_beyond_the_mtu_is_sent_in_fragments() {
    for path in every_way() {
        let settings = TftpSettings { block_size: Some(65464), ..TftpSettings::default() };
        let testbed = ServerTestbed::new(path, settings);
        assert!(testbed.client().read("300000", b"blksize\x0065464\0windowsize\x002\0", 2) == bytes(300_000));
    }
}

#[test]
fn ovmf_probes_the_size_and_reads_with_a_second_request() {
    let testbed = ServerTestbed::new(OWN, TftpSettings::default());
    let probe = testbed.client();
    probe.ask("300000", b"tsize\x000\0blksize\x001468\0windowsize\x004\0");
    let (answer, from) = probe.hear();
    assert_eq!(answer, b"\0\x06blksize\x001468\0tsize\x00300000\0windowsize\x004\0");
    assert_ne!(from.port(), testbed.address.port());
    probe.send(Packet::Error { code: 0, message: b"User aborted the transfer" }, from);
    assert_eq!(testbed.ended(), ("Peer(Probed)".into(), 0));
    assert!(testbed.client().read("300000", b"blksize\x001468\0windowsize\x004\0", 4) == bytes(300_000));
    assert!(matches!(testbed.report(), TransferReport::Started { size: 300_000, .. }));
    assert_eq!(testbed.ended(), ("Peer(Complete)".into(), 300_000));
}

#[test]
fn unreadable_files_and_writes_are_refused_with_a_message() {
    for path in every_way() {
        let testbed = ServerTestbed::new(path, TftpSettings::default());
        let client = testbed.client();
        for (request, answer) in [
            (&b"\0\x01missing\0octet\0"[..], &b"\0\x05\0\x01no such file\0"[..]),
            (b"\0\x01held\0octet\0", b"\0\x05\0\x02held by an operator\0"),
            (b"\0\x01../x\0octet\0", b"\0\x05\0\x02file name leaves the directory\0"),
            (b"\0\x02new\0octet\0", b"\0\x05\0\x02writing is not supported\0"),
            (b"\0\x012000000\0netascii\0", b"\0\x05\0\0file too large for netascii: request octet mode\0"),
        ] {
            client.socket.send_to(request, client.server).unwrap();
            assert_eq!(client.hear().0, answer);
        }
        client.socket.send_to(b"\0\x01text\0netascii\0tsize\x000\0", client.server).unwrap();
        let (answer, from) = client.hear();
        assert_eq!(answer, b"\0\x06tsize\x0012\0");
        client.send(Packet::Ack(0), from);
        assert_eq!(client.hear().0, b"\0\x03\0\x01one\r\ntwo\r\0\r\n");
        client.send(Packet::Ack(1), from);
    }
}

#[test]
fn invalid_packets_are_dropped_with_their_reason() {
    let testbed = ServerTestbed::new(OWN, TftpSettings::default());
    let client = testbed.client();
    for (datagram, why) in [
        (&b""[..], "Malformed(Truncated)"),
        (b"\0\x09", "Malformed(UnknownOpcode(9))"),
        (b"\0\x01x\0mail\0", "Malformed(UnknownMode)"),
        (&[0xff; 2000], "Malformed(UnknownOpcode(65535))"),
        (b"\0\x04\0\x01", "Stray"),
        (b"\0\x03\0\x01data", "Stray"),
        (b"\0\x01silent\0octet\0", "NoAnswer"),
    ] {
        client.socket.send_to(datagram, client.server).unwrap();
        assert_eq!(testbed.dropped(), why);
    }
    client.ask("missing", b"");
    assert!(client.hear().0.starts_with(b"\0\x05\0\x01"), "the first reply of all");
}

#[test]
fn replies_leave_from_the_address_that_was_addressed() {
    for ports in [PortUse::Own, PortUse::Single] {
        let testbed = ServerTestbed::new(("0.0.0.0:0", ports), TftpSettings::default());
        for host in ["127.0.0.1", "127.0.0.2", "127.8.9.10"] {
            let server = SocketAddr::new(host.parse().unwrap(), testbed.address.port());
            let client = Client { server, ..testbed.client() };
            for name in ["5", "missing"] {
                client.ask(name, b"tsize\x000\0");
                let (_, from) = client.hear();
                assert_eq!(from.ip(), server.ip());
                assert!(ports == PortUse::Own || from == server, "one port for all");
                assert!(ports == PortUse::Single || name == "missing" || from.port() != server.port());
                client.send(Packet::Error { code: 0, message: b"" }, from);
            }
        }
    }
}

#[test]
fn a_repeated_request_gets_the_first_answer_again_and_begins_no_second_transfer() {
    for path in every_way() {
        let testbed = ServerTestbed::new(path, TftpSettings::default());
        let client = testbed.client();
        client.ask("600", b"");
        let (first, from) = client.hear();
        client.ask("600", b"");
        assert_eq!(client.hear(), (first, from));
        client.send(Packet::Ack(1), from);
        let (last, _) = client.hear();
        assert_eq!(last.len(), 4 + 600 - 512);
        client.send(Packet::Ack(2), from);
        let TransferReport::Started { .. } = testbed.report() else { panic!("a start") };
        let TransferReport::Ended { resent: 1, octets: 600, .. } = testbed.report() else { panic!("an end") };
    }
}

#[test]
fn another_file_from_the_same_port_replaces_the_first() {
    for path in every_way() {
        let testbed = ServerTestbed::new(path, TftpSettings::default());
        let client = testbed.client();
        client.ask("600", b"");
        client.hear();
        assert_eq!(client.read("5", b"", 1), bytes(5).to_vec());
        assert_eq!(testbed.ended(), ("Replaced".into(), 0));
        assert_eq!(testbed.ended(), ("Peer(Complete)".into(), 5));
    }
}

#[test]
fn a_lost_packet_is_sent_again_and_a_silent_client_is_given_up() {
    let settings = TftpSettings { patience: Duration::from_millis(1200), ..TftpSettings::default() };
    let testbed = ServerTestbed::new(OWN, settings);
    let client = testbed.client();
    client.ask("600", b"");
    let first = client.hear();
    assert_eq!(client.hear(), first);
    assert_eq!(testbed.ended(), ("Peer(Silent)".into(), 0));
}

#[test]
fn concurrent_transfers_share_ports_that_are_drawn_by_chance() {
    let testbed = ServerTestbed::new(OWN, TftpSettings::default());
    let clients: Vec<Client> = (0..40).map(|_| testbed.client()).collect();
    let ask = |client: &Client| {
        client.ask("600", b"");
        client.hear().1
    };
    let from: Vec<SocketAddr> = clients.iter().map(ask).collect();
    let different = |from: &[SocketAddr]| from.iter().collect::<std::collections::BTreeSet<_>>().len();
    assert!((8..=16).contains(&different(&from)), "{from:?}");
    // An acknowledgement from another client or to another port has no effect.
    let another = from.iter().find(|port| **port != from[0]).unwrap();
    clients[0].send(Packet::Ack(1), *another);
    assert_eq!(testbed.dropped(), "Stray");
    testbed.client().send(Packet::Ack(1), from[0]);
    assert_eq!(testbed.dropped(), "Stray");
    for (client, from) in clients.iter().zip(from) {
        client.send(Packet::Ack(1), from);
        assert_eq!(client.hear().0.len(), 4 + 600 - 512);
        client.send(Packet::Ack(2), from);
        assert_eq!(testbed.ended().0, "Peer(Complete)");
    }
}

#[test]
fn requests_beyond_the_limit_are_dropped_until_a_transfer_ends() {
    for path in every_way() {
        let testbed = ServerTestbed::new(path, TftpSettings { transfers: 3, ..TftpSettings::default() });
        let clients: Vec<Client> = (0..4).map(|_| testbed.client()).collect();
        let ask = |client: &Client| {
            client.ask("600", b"");
            client.hear().1
        };
        let from: Vec<SocketAddr> = clients.iter().take(3).map(ask).collect();
        for (client, from) in clients.iter().zip(&from) {
            client.send(Packet::Ack(1), *from);
            client.hear();
        }
        clients[3].ask("600", b"");
        assert_eq!(testbed.dropped(), "Overload");
        for (client, from) in clients.iter().zip(from) {
            client.send(Packet::Error { code: 0, message: b"" }, from);
            assert_eq!(testbed.ended().0, "Peer(Aborted(0))");
        }
        assert_eq!(clients[3].read("5", b"", 1), bytes(5).to_vec());
    }
}

#[test]
fn a_client_that_acknowledged_nothing_gives_its_place_to_a_newer_one() {
    for path in every_way() {
        let settings = TftpSettings { transfers_per_source: 2, ..TftpSettings::default() };
        let testbed = ServerTestbed::new(path, settings);
        let forged: Vec<Client> = (0..20).map(|_| testbed.client()).collect();
        for client in &forged {
            client.ask("600", b"");
            client.hear();
        }
        assert_eq!(testbed.dropped(), "SourceLimit");
        assert_eq!(testbed.client().read("600", b"", 1), bytes(600).to_vec());
    }
}

#[test]
fn a_transfer_with_a_window_has_a_port_of_its_own_that_is_new() {
    let testbed = ServerTestbed::new(OWN, TftpSettings::default());
    let mut ports = std::collections::BTreeSet::new();
    for _ in 0..20 {
        let client = testbed.client();
        client.ask("300000", b"windowsize\x0016\0");
        let (answer, from) = client.hear();
        assert_eq!(answer, b"\0\x06windowsize\x0016\0");
        ports.insert(from.port());
        client.send(Packet::Error { code: 0, message: b"" }, from);
        assert_eq!(testbed.ended().0, "Peer(Probed)");
    }
    assert!(ports.len() > 15, "{ports:?}");
    // Four guesses of the port by somebody who receives nothing end the transfer.
    let (client, other) = (testbed.client(), testbed.client());
    client.ask("300000", b"windowsize\x0016\0");
    let (_, from) = client.hear();
    other.ask("300000", b"");
    let (_, shared) = other.hear();
    (0..4).for_each(|_| client.send(Packet::Ack(0), shared));
    assert_eq!(testbed.ended().0, "Peer(Forged)");
    client.send(Packet::Ack(0), from);
    assert_eq!(testbed.dropped(), "Stray");
}

#[test]
fn a_single_port_grants_no_window() {
    let testbed = ServerTestbed::new(("127.0.0.1:0", PortUse::Single), TftpSettings::default());
    let client = testbed.client();
    client.ask("300000", b"windowsize\x0016\0");
    assert_eq!(client.hear().0, b"\0\x06windowsize\x001\0");
}

#[test]
fn an_answer_may_come_later_and_from_another_thread() {
    let testbed = ServerTestbed::new(OWN, TftpSettings::default());
    let client = testbed.client();
    client.ask("later", b"");
    client.ask("later", b"");
    client.ask("missing", b"");
    let others = testbed.client();
    others.ask("missing", b"");
    others.hear();
    assert!(client.hear().0.starts_with(b"\0\x05"), "another question takes the place of the first");
    client.ask("later", b"");
    let responder = loop {
        // The responder of the first request is void with its session.
        let mut held = testbed.held.lock().unwrap();
        if held.len() == 2 {
            break held.pop().unwrap();
        }
        drop(held);
        std::thread::yield_now();
    };
    responder.answer(FileAnswer::Content(FileContent::Shared("late".into())));
    assert_eq!(client.hear().0, b"\0\x03\0\x01late");
}

#[test]
fn open_transfers_finish_before_the_server_stops() {
    for (drain, finishes) in [(Duration::from_secs(20), true), (Duration::ZERO, false)] {
        let mut testbed = ServerTestbed::new(OWN, TftpSettings { drain, ..TftpSettings::default() });
        let (client, other) = (testbed.client(), testbed.client());
        client.ask("600", b"");
        let (_, from) = client.hear();
        drop(testbed.stop.take());
        if finishes {
            loop {
                other.ask("missing", b"");
                let heard = testbed.reports.recv_timeout(Duration::from_secs(20)).unwrap();
                if matches!(heard, TransferReport::Dropped { why: DropCause::Stopping, .. }) {
                    break;
                }
            }
            client.send(Packet::Ack(1), from);
            client.hear();
            client.send(Packet::Ack(2), from);
            while !matches!(testbed.report(), TransferReport::Ended { how: TransferEnd::Peer(Ending::Complete), .. }) {}
        } else {
            assert!(client.hear().0.starts_with(b"\0\x05\0\0the server is stopping"));
            assert_eq!(testbed.ended(), ("Stopped".into(), 0));
        }
    }
}

#[path = "serve_disk.rs"]
mod disk;
