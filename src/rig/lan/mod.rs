//! The LAN of a rig: a switch in user space between the machines and the servers, which records all frames and applies
//! faults.

pub mod fault;
mod frame;
pub mod links;
mod packet_socket;
mod pcapng;
pub mod switch;
