//! The switch's port on a network interface: a packet socket (packet(7)), and the offloads of its peer, which are turned off:
//! a frame would come without its checksums.
#![allow(unsafe_code)]

use std::io;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, FromRawFd, OwnedFd};

use nix::net::if_::if_nametoindex;

/// Maximum time that frames wait in the socket's buffer is short; its size bounds a burst.
const BUFFER_BYTES: usize = 4 << 20;
/// Number of the request to ethtool (linux/sockios.h).
const SIOCETHTOOL: libc::Ioctl = 0x8946;
/// Requests that turn off the checksums of sent frames, TSO, GSO and scatter-gather (linux/ethtool.h).
const TURNED_OFF: [u32; 4] = [0x17, 0x1f, 0x24, 0x19];

/// A packet socket of one interface, with all frames that arrive there.
#[derive(Debug)]
pub struct PacketSocket(OwnedFd);

impl PacketSocket {
    /// Opens a socket. Frames that other programs send over the interface are not received.
    ///
    /// # Errors
    /// There is no such interface, or the kernel refuses.
    pub fn open(interface: &str) -> io::Result<Self> {
        let index = if_nametoindex(interface)?.cast_signed();
        // The protocol is in network order. Zero: nothing is received before the socket is bound to its interface.
        // SAFETY: socket(2) takes no pointers; the result is owned by nothing else.
        let fd = unsafe { libc::socket(libc::AF_PACKET, libc::SOCK_RAW | libc::SOCK_CLOEXEC | libc::SOCK_NONBLOCK, 0) };
        if fd < 0 {
            return Err(io::Error::last_os_error());
        }
        // SAFETY: the descriptor was just opened.
        let fd = unsafe { OwnedFd::from_raw_fd(fd) };
        nix::sys::socket::setsockopt(&fd, nix::sys::socket::sockopt::RcvBuf, &BUFFER_BYTES)?;
        let request = libc::packet_mreq {
            mr_ifindex: index,
            mr_type: libc::PACKET_MR_PROMISC as u16,
            mr_alen: 0,
            mr_address: [0; 8],
        };
        set_option(&fd, libc::PACKET_ADD_MEMBERSHIP, &request)?;
        set_option(&fd, libc::PACKET_IGNORE_OUTGOING, &1_i32)?;
        // SAFETY: zero is a valid value of every field.
        let mut address: libc::sockaddr_ll = unsafe { std::mem::zeroed() };
        address.sll_family = libc::AF_PACKET as u16;
        address.sll_protocol = (libc::ETH_P_ALL as u16).to_be();
        address.sll_ifindex = index;
        let length = size_of_val(&address) as libc::socklen_t;
        // SAFETY: the pointer is to an address of this length.
        check(unsafe { libc::bind(fd.as_raw_fd(), (&raw const address).cast(), length) })?;
        Ok(Self(fd))
    }
}

impl AsFd for PacketSocket {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.0.as_fd()
    }
}

/// Turns off what the kernel leaves to a network interface's hardware.
///
/// # Errors
/// There is no such interface, or the kernel refuses to turn off the checksums.
pub fn turn_off_offloads(interface: &str) -> io::Result<()> {
    let socket = std::net::UdpSocket::bind("127.0.0.1:0").or_else(|_| std::net::UdpSocket::bind("0.0.0.0:0"))?;
    for (position, command) in TURNED_OFF.into_iter().enumerate() {
        let mut value: [u32; 2] = [command, 0];
        // SAFETY: zero is a valid value of every field.
        let mut request: libc::ifreq = unsafe { std::mem::zeroed() };
        for (to, from) in request.ifr_name.iter_mut().zip(interface.bytes().take(libc::IFNAMSIZ - 1)) {
            *to = from as libc::c_char;
        }
        request.ifr_ifru.ifru_data = value.as_mut_ptr().cast();
        // SAFETY: the request names a value that is as long as these commands expect, and both outlive the call.
        let done = check(unsafe { libc::ioctl(socket.as_raw_fd(), SIOCETHTOOL, &raw mut request) });
        // The others follow from the first, or do not exist.
        if position == 0 {
            done?;
        }
    }
    Ok(())
}

fn set_option<T>(fd: &OwnedFd, option: libc::c_int, value: &T) -> io::Result<()> {
    let (pointer, length) = ((&raw const *value).cast(), size_of::<T>() as libc::socklen_t);
    // SAFETY: the pointer is to a value of this length.
    check(unsafe { libc::setsockopt(fd.as_raw_fd(), libc::SOL_PACKET, option, pointer, length) })
}

fn check(result: libc::c_int) -> io::Result<()> {
    if result < 0 { Err(io::Error::last_os_error()) } else { Ok(()) }
}
