//! IPMI 2.0 over LAN (RMCP+): what power needs of it. Sessions are encrypted and signed, with cipher suite 17 or 3. `client`
//! does I/O; the rest is pure.

mod chassis;
pub mod cipher;
pub mod client;
pub mod login;
pub mod packet;
pub mod session;
pub mod sol;
