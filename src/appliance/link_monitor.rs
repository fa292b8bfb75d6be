//! The kernel's notices (rtnetlink(7)) that an interface or an address has come, gone or changed. What they say is not read:
//! the interfaces are read anew, so that a lost notice does no harm.

use std::io;
use std::os::fd::AsRawFd;

use nix::libc::{RTMGRP_IPV4_IFADDR, RTMGRP_IPV6_IFADDR, RTMGRP_LINK};
use nix::sys::socket::{AddressFamily, MsgFlags, NetlinkAddr, SockFlag, SockProtocol, SockType, bind, recv, socket};
use tokio::io::Interest;
use tokio::net::UdpSocket;

/// Maximum number of notices that are taken at a time: other tasks have their turn in a storm.
const MAX_NOTICES: usize = 1024;

/// The socket of the notices. It receives like a datagram socket.
#[derive(Debug)]
pub struct LinkMonitor(UdpSocket);

impl LinkMonitor {
    /// Opens the socket. Changes from here on are noticed.
    ///
    /// # Errors
    /// Those of socket(2) and bind(2).
    pub fn open() -> io::Result<Self> {
        let flags = SockFlag::SOCK_CLOEXEC | SockFlag::SOCK_NONBLOCK;
        let socket = socket(AddressFamily::Netlink, SockType::Raw, flags, SockProtocol::NetlinkRoute)?;
        let groups = (RTMGRP_LINK | RTMGRP_IPV4_IFADDR | RTMGRP_IPV6_IFADDR).cast_unsigned();
        bind(socket.as_raw_fd(), &NetlinkAddr::new(0, groups))?;
        UdpSocket::from_std(socket.into()).map(Self)
    }

    /// Waits for a notice, and takes all that have come.
    pub async fn changed(&self) {
        if self.0.readable().await.is_err() {
            // The runtime is shutting down.
            return std::future::pending().await;
        }
        let mut buffer = [0; 64];
        for _ in 0..MAX_NOTICES {
            let taken = self.0.try_io(Interest::READABLE, || {
                recv(self.0.as_raw_fd(), &mut buffer, MsgFlags::MSG_TRUNC).map_err(io::Error::from)
            });
            // ENOBUFS: notices were lost. That says no more than that there was one.
            if taken.is_err_and(|error| error.kind() == io::ErrorKind::WouldBlock) {
                return;
            }
        }
    }
}
