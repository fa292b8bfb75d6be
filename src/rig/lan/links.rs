//! The network interfaces of a rig. Each server has one, whose other end is a port of the switch.

use std::io::{self, Write};
use std::process::{Child, Command, Stdio};

use nix::sched::{CloneFlags, unshare};

use super::packet_socket::turn_off_offloads;

/// The interface of a server.
pub const INTERFACE: &str = "lan0";
/// The address of the server that assigns the addresses.
pub const FIRST_ADDRESS: &str = "10.77.0.1";
/// The address of bootlatch in a LAN with another DHCP server.
pub const SECOND_ADDRESS: &str = "10.77.0.2";
/// The subnet.
pub const SUBNET: &str = "10.77.0.0/24";
/// The first and the last address that is assigned.
pub const POOL: (&str, &str) = ("10.77.0.100", "10.77.0.199");

/// Makes the interface of this network namespace, with the switch's end `port`.
///
/// # Errors
/// `ip` fails.
pub fn make(address: &str, port: &str) -> io::Result<()> {
    run_ip(&format!(
        "link set lo up\nlink add {INTERFACE} type veth peer name {port}\naddress add {address}/24 dev {INTERFACE}\n\
         link set {INTERFACE} up\nlink set {port} up\n"
    ))?;
    turn_off_offloads(INTERFACE)
}

/// Starts a program in a network namespace of its own, with an interface of its own whose other end `port` is in the network
/// namespace of process 1.
///
/// # Errors
/// The namespace, its interface or the program is not made.
pub fn start_beside(address: &str, port: &str, mut command: Command) -> io::Result<Child> {
    let (address, peer) = (address.to_owned(), port.to_owned());
    // A thread may have another network namespace than its process, and what it starts is born there.
    let started = std::thread::spawn(move || {
        unshare(CloneFlags::CLONE_NEWNET)?;
        run_ip(&format!(
            "link set lo up\nlink add {INTERFACE} type veth peer name {peer} netns 1\naddress add {address}/24 dev {INTERFACE}\n\
             link set {INTERFACE} up\n"
        ))?;
        turn_off_offloads(INTERFACE)?;
        command.spawn()
    });
    let child = started.join().map_err(|_| io::Error::other("the thread of the namespace panicked"))??;
    run_ip(&format!("link set {port} up\n"))?;
    Ok(child)
}

/// Runs commands of ip(8).
fn run_ip(commands: &str) -> io::Result<()> {
    let mut command = Command::new("ip");
    command.args(["-batch", "-"]).stdin(Stdio::piped()).stdout(Stdio::null()).stderr(Stdio::piped());
    let mut child = command.spawn()?;
    if let Some(mut input) = child.stdin.take() {
        input.write_all(commands.as_bytes())?;
    }
    let output = child.wait_with_output()?;
    match output.status.success() {
        true => Ok(()),
        false => Err(io::Error::other(format!("ip: {}", String::from_utf8_lossy(&output.stderr).trim()))),
    }
}
