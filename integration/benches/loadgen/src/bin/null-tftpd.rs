//! The least work with which a TFTP server can send a file: what is measured against it is what the rest costs.
//!
//! `null-tftpd ADDRESS:PORT FOLDER` reads the files of the folder at its start, and makes the packets of a file at the
//! first request for it. It has one socket and one thread, decides nothing, checks nothing, repeats nothing and has no
//! timers; block numbers do not wrap. All waiting packets are received in one call and answered in one (recvmmsg,
//! sendmmsg). A window is one message that the kernel divides into datagrams (UDP_SEGMENT).

use std::collections::HashMap;
use std::io::{IoSlice, IoSliceMut};
use std::net::{SocketAddr, SocketAddrV4, UdpSocket};
use std::ops::Range;
use std::os::fd::AsRawFd;
use std::path::Path;
use std::rc::Rc;

use anyhow::{Context, bail};
use nix::sys::socket::{
    ControlMessage, MsgFlags, MultiHeaders, SockaddrStorage, recvmmsg, sendmmsg, setsockopt, sockopt,
};

/// Number of packets of one system call.
const BATCH: usize = 64;
/// The header of a data packet, in octets.
const HEADER: usize = 4;

/// The transfer of one client.
struct Transfer {
    image: Rc<Image>,
    window: usize,
}

/// The packets of a file: each block with its header.
struct Image {
    octets: Vec<u8>,
    blocks: usize,
    /// The length of a packet.
    stride: usize,
}

/// The octets that a client is sent.
enum Answer {
    Acknowledgement(Vec<u8>),
    Window(Rc<Image>, Range<usize>),
}

fn main() -> anyhow::Result<()> {
    let words: Vec<String> = std::env::args().skip(1).collect();
    let [address, folder] = &words[..] else { bail!("usage: null-tftpd ADDRESS:PORT FOLDER") };
    let address: SocketAddr = address.parse().with_context(|| format!("{address} is not ADDRESS:PORT"))?;
    let files = read(Path::new(folder))?;
    let socket = UdpSocket::bind(address)?;
    setsockopt(&socket, sockopt::RcvBufForce, &(8 << 20))?;
    setsockopt(&socket, sockopt::SndBufForce, &(8 << 20))?;
    println!("ready");
    serve(&socket, &files)
}

fn read(folder: &Path) -> anyhow::Result<HashMap<String, Vec<u8>>> {
    let mut files = HashMap::new();
    for entry in std::fs::read_dir(folder)? {
        let entry = entry?;
        if entry.file_type()?.is_file() {
            files.insert(entry.file_name().to_string_lossy().into_owned(), std::fs::read(entry.path())?);
        }
    }
    Ok(files)
}

fn serve(socket: &UdpSocket, files: &HashMap<String, Vec<u8>>) -> anyhow::Result<()> {
    let mut transfers: HashMap<SocketAddrV4, Transfer> = HashMap::new();
    let mut images: HashMap<(String, usize), Rc<Image>> = HashMap::new();
    let mut packets = vec![[0u8; 512]; BATCH];
    let mut received = MultiHeaders::<SockaddrStorage>::preallocate(BATCH, None);
    // For single packets, and for windows.
    let mut to_send = [None, Some(nix::cmsg_space!(u16))].map(|room| MultiHeaders::preallocate(BATCH, room));
    loop {
        let peers: Vec<(SockaddrStorage, usize)> = {
            let mut slices: Vec<[IoSliceMut<'_>; 1]> = packets.iter_mut().map(|p| [IoSliceMut::new(p)]).collect();
            let flags = MsgFlags::MSG_WAITFORONE;
            let messages = recvmmsg(socket.as_raw_fd(), &mut received, slices.iter_mut(), flags, None)?;
            messages.filter_map(|message| Some((message.address?, message.bytes))).collect()
        };
        let mut answers: Vec<(SockaddrStorage, Answer)> = Vec::with_capacity(BATCH);
        for ((peer, length), packet) in peers.iter().zip(&packets) {
            let Some(v4) = peer.as_sockaddr_in().map(|v4| SocketAddrV4::new(v4.ip(), v4.port())) else { continue };
            match &packet[..*length] {
                [0, 1, request @ ..] => {
                    let Request { name, block, window } = Request::parse(request);
                    let Some(file) = files.get(&name) else { continue };
                    let image = images.entry((name, block)).or_insert_with(|| Rc::new(Image::new(file, block)));
                    transfers.insert(v4, Transfer { image: image.clone(), window });
                    let options = format!("\0\u{6}blksize\0{block}\0windowsize\0{window}\0");
                    answers.push((*peer, Answer::Acknowledgement(options.into_bytes())));
                }
                [0, 4, high, low] => {
                    let Some(Transfer { image, window }) = transfers.get(&v4) else { continue };
                    let block = usize::from(u16::from_be_bytes([*high, *low]));
                    if block < image.blocks {
                        let end = ((block + window) * image.stride).min(image.octets.len());
                        answers.push((*peer, Answer::Window(image.clone(), block * image.stride..end)));
                    }
                }
                _ => {}
            }
        }
        send(socket, &answers, &mut to_send)?;
    }
}

fn send(
    socket: &UdpSocket,
    answers: &[(SockaddrStorage, Answer)],
    [single, windows]: &mut [MultiHeaders<SockaddrStorage>; 2],
) -> anyhow::Result<()> {
    let mut rest = answers;
    while let Some((_, first)) = rest.first() {
        // nix sends all messages of a call with the same control messages.
        let segment = first.segment();
        let count = rest.iter().take_while(|(_, answer)| answer.segment() == segment).count();
        let (now, later) = rest.split_at(count);
        let slices: Vec<[IoSlice<'_>; 1]> = now.iter().map(|(_, answer)| [IoSlice::new(answer.octets())]).collect();
        let peers: Vec<Option<SockaddrStorage>> = now.iter().map(|(peer, _)| Some(*peer)).collect();
        let control: Vec<ControlMessage<'_>> = segment.iter().map(ControlMessage::UdpGsoSegments).collect();
        let headers = if segment.is_some() { &mut *windows } else { &mut *single };
        sendmmsg(socket.as_raw_fd(), headers, &slices, peers, control, MsgFlags::empty())?;
        rest = later;
    }
    Ok(())
}

impl Answer {
    fn octets(&self) -> &[u8] {
        match self {
            Answer::Acknowledgement(octets) => octets,
            Answer::Window(image, range) => &image.octets[range.clone()],
        }
    }

    /// Returns the length of a packet, if there are several.
    fn segment(&self) -> Option<u16> {
        match self {
            Answer::Window(image, range) if range.len() > image.stride => u16::try_from(image.stride).ok(),
            Answer::Window(..) | Answer::Acknowledgement(_) => None,
        }
    }
}

/// The request of a client.
struct Request {
    name: String,
    block: usize,
    window: usize,
}

impl Request {
    fn parse(octets: &[u8]) -> Self {
        let words: Vec<_> = octets.split(|octet| *octet == 0).map(String::from_utf8_lossy).collect();
        let option = |name: &str| {
            let at = words.iter().position(|word| word == name)?;
            words.get(at + 1)?.parse().ok()
        };
        Request {
            name: words.first().map_or_else(String::new, ToString::to_string),
            block: option("blksize").unwrap_or(512),
            window: option("windowsize").unwrap_or(1),
        }
    }
}

impl Image {
    fn new(file: &[u8], block: usize) -> Self {
        let (blocks, stride) = (file.len() / block + 1, HEADER + block);
        let mut octets = Vec::with_capacity(file.len() + blocks * HEADER);
        for number in 1..=blocks {
            let [.., high, low] = number.to_be_bytes();
            octets.extend([0, 3, high, low]);
            octets.extend(&file[(number - 1) * block..(number * block).min(file.len())]);
        }
        Image { octets, blocks, stride }
    }
}
