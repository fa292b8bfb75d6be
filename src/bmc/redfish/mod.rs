pub mod client;
mod tls;
