//! The least that an HTTP server can cost: one thread that answers each request with the same bytes.
//!
//! `null-http --listen 10.0.0.1:81 --file f` looks for the ends of heads only, and sends a fixed 200 with the bytes of
//! the file in one call. The difference of a server's cost and this one's is what the server decides.

use std::error::Error;
use std::io::{self, ErrorKind, Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::os::fd::AsFd;

use nix::sys::epoll::{Epoll, EpollCreateFlags, EpollEvent, EpollFlags, EpollTimeout};
use socket2::{Domain, Socket, Type};

use bootlatch_loadgen::arguments::Arguments;

/// Maximum number of connections that wait to be accepted.
const BACKLOG: i32 = 4096;
/// Size of the read buffer in bytes.
const BUFFER: usize = 16 << 10;

fn main() -> Result<(), Box<dyn Error>> {
    let given = Arguments::read(&[])?;
    let body = std::fs::read(given.text("--file")?)?;
    let mut reply = format!("HTTP/1.1 200 OK\r\nContent-Length: {}\r\n\r\n", body.len()).into_bytes();
    reply.extend(body);
    let listener = listen(given.text("--listen")?.parse()?)?;
    let epoll = Epoll::new(EpollCreateFlags::EPOLL_CLOEXEC)?;
    epoll.add(listener.as_fd(), EpollEvent::new(EpollFlags::EPOLLIN, 0))?;
    println!("ready");
    serve(&listener, &epoll, &reply)?;
    Ok(())
}

fn listen(address: SocketAddr) -> io::Result<TcpListener> {
    let socket = Socket::new(Domain::for_address(address), Type::STREAM, None)?;
    socket.set_reuse_address(true)?;
    socket.bind(&address.into())?;
    socket.listen(BACKLOG)?;
    Ok(socket.into())
}

/// Accepts and answers until it is killed. The connection at place N of the list has the event N + 1.
fn serve(listener: &TcpListener, epoll: &Epoll, reply: &[u8]) -> io::Result<()> {
    let mut clients: Vec<Option<TcpStream>> = Vec::new();
    let (mut events, mut buffer) = (vec![EpollEvent::empty(); 256], vec![0; BUFFER]);
    loop {
        let ready = epoll.wait(&mut events, EpollTimeout::NONE)?;
        for event in events.iter().take(ready) {
            let Some(place) = (event.data() as usize).checked_sub(1) else {
                let (client, _) = listener.accept()?;
                client.set_nodelay(true)?;
                client.set_nonblocking(true)?;
                clients.push(Some(client));
                let at = clients.len();
                let client = clients[at - 1].as_ref().ok_or(ErrorKind::NotFound)?;
                epoll.add(client.as_fd(), EpollEvent::new(EpollFlags::EPOLLIN, at as u64))?;
                continue;
            };
            let is_open = clients[place].as_ref().is_some_and(|client| answer(client, &mut buffer, reply).is_ok());
            if !is_open {
                clients[place] = None;
            }
        }
    }
}

/// Answers the requests that are there. The load generator sends each head in one segment.
fn answer(mut client: &TcpStream, buffer: &mut [u8], reply: &[u8]) -> io::Result<()> {
    let count = match client.read(buffer) {
        Ok(0) => return Err(ErrorKind::UnexpectedEof.into()),
        Err(error) if error.kind() == ErrorKind::WouldBlock => return Ok(()),
        count => count?,
    };
    for _ in buffer[..count].windows(4).filter(|end| *end == b"\r\n\r\n") {
        client.write_all(reply)?;
    }
    Ok(())
}
