//! A TFTP server made of the crate async-tftp with its defaults, for the comparison in `integration/bench tftp`.
//!
//! `async-tftpd ADDRESS:PORT FOLDER` serves the folder for reading until it is stopped.

use std::net::SocketAddr;

use anyhow::{Context, bail};
use async_tftp::server::TftpServerBuilder;

fn main() -> anyhow::Result<()> {
    let words: Vec<String> = std::env::args().skip(1).collect();
    let [address, folder] = &words[..] else { bail!("usage: async-tftpd ADDRESS:PORT FOLDER") };
    let address: SocketAddr = address.parse().with_context(|| format!("{address} is not ADDRESS:PORT"))?;
    async_io::block_on(async {
        let server = TftpServerBuilder::with_dir_ro(folder)?.bind(address).build().await?;
        server.serve().await
    })
    .with_context(|| format!("cannot serve {folder} on {address}"))
}
