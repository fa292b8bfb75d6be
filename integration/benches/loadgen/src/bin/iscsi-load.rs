//! Reads from an iSCSI target as fast as it replies, checks the data, and prints the rate. Or logs in and out.
//!
//! iscsi-load ADDRESS TARGET LUN seq|random BYTES DEPTH SECONDS PID|-
//! iscsi-load logins ADDRESS TARGET INITIATOR CLIENTS SECONDS PID|-
//! Each 512 bytes of the image must begin with their own number (8 bytes, little endian): `iscsi-load make FILE BYTES`
//! writes such a file. PID is the server, whose CPU time is counted. Prints one line of JSON.
//!
//! A login is a TCP connection, a request in the security stage, a request in the operational stage, a logout, and the
//! end of the connection, which the target closes. Each client does one after the other.

use std::fs::File;
use std::io::{BufWriter, Read, Write};
use std::net::TcpStream;
use std::time::{Duration, Instant};

use anyhow::{Context, bail, ensure};

const BHS: usize = 48;
const SECTOR: u64 = 512;

fn main() -> anyhow::Result<()> {
    let words: Vec<String> = std::env::args().skip(1).collect();
    let words: Vec<&str> = words.iter().map(String::as_str).collect();
    match words[..] {
        ["make", file, bytes] => make(file, bytes.parse()?),
        ["logins", address, target, initiator, clients, seconds, pid] => {
            logins((address, target, initiator), clients.parse()?, Duration::from_secs_f64(seconds.parse()?), pid)
        }
        [address, target, lun, pattern, bytes, depth, seconds, pid] => {
            let mut client = Client::login(address, target, lun.parse()?)?;
            let load = Load {
                random: pattern == "random",
                bytes: bytes.parse()?,
                depth: depth.parse()?,
                time: Duration::from_secs_f64(seconds.parse()?),
            };
            client.capacity()?;
            let (spent, started) = (cpu(pid)?, Instant::now());
            let reads = client.run(&load)?;
            let (seconds, spent) = (started.elapsed().as_secs_f64(), cpu(pid)? - spent);
            println!(r#"{{"reads":{reads},"bytes":{},"seconds":{seconds:.4},"cpu":{spent:.6}}}"#, reads * load.bytes);
            Ok(())
        }
        _ => bail!("what load? See the head of this file."),
    }
}

fn make(path: &str, bytes: u64) -> anyhow::Result<()> {
    let mut file = BufWriter::with_capacity(1 << 20, File::create(path)?);
    for sector in 0..bytes / SECTOR {
        let mut block = [0u8; 512];
        for (at, word) in block.chunks_exact_mut(8).enumerate() {
            let value = if at == 0 { sector } else { sector.wrapping_mul(0x9e37_79b9_7f4a_7c15) ^ at as u64 };
            word.copy_from_slice(&value.to_le_bytes());
        }
        file.write_all(&block)?;
    }
    Ok(file.into_inner()?.sync_all()?)
}

/// Returns the CPU seconds of all threads of a process.
fn cpu(pid: &str) -> anyhow::Result<f64> {
    if pid == "-" {
        return Ok(0.0);
    }
    let mut nanoseconds = 0.0;
    for thread in std::fs::read_dir(format!("/proc/{pid}/task"))? {
        let text = std::fs::read_to_string(thread?.path().join("schedstat"))?;
        nanoseconds += text.split(' ').next().context("no schedstat")?.parse::<f64>()?;
    }
    Ok(nanoseconds / 1e9)
}

/// Logs in and out until the time is over, with one thread a client. Prints the number of logins.
fn logins(names: (&str, &str, &str), clients: u8, time: Duration, pid: &str) -> anyhow::Result<()> {
    let (spent, started) = (cpu(pid)?, Instant::now());
    let count = std::thread::scope(|scope| {
        let client = |number| {
            move || -> anyhow::Result<u64> {
                let mut count = 0;
                while started.elapsed() < time {
                    log_in_and_out(names, number)?;
                    count += 1;
                }
                Ok(count)
            }
        };
        let clients: Vec<_> = (0..clients).map(|number| scope.spawn(client(number))).collect();
        clients.into_iter().map(|client| client.join().expect("a client")).sum::<anyhow::Result<u64>>()
    })?;
    let (seconds, spent) = (started.elapsed().as_secs_f64(), cpu(pid)? - spent);
    println!(r#"{{"logins":{count},"seconds":{seconds:.4},"cpu":{spent:.6}}}"#);
    Ok(())
}

fn log_in_and_out((address, target, initiator): (&str, &str, &str), client: u8) -> anyhow::Result<()> {
    let mut stream = TcpStream::connect(address)?;
    stream.set_nodelay(true)?;
    stream.set_read_timeout(Some(Duration::from_secs(10)))?;
    let security = format!("InitiatorName={initiator}\0TargetName={target}\0SessionType=Normal\0AuthMethod=None\0");
    let operational = "HeaderDigest=None\0DataDigest=None\0MaxRecvDataSegmentLength=262144\0MaxBurstLength=262144\0\
                       FirstBurstLength=65536\0InitialR2T=Yes\0ImmediateData=No\0MaxConnections=1\0\
                       DefaultTime2Wait=2\0DefaultTime2Retain=0\0ErrorRecoveryLevel=0\0";
    let [a, b, c, d] = std::process::id().to_be_bytes();
    let mut answer = [0; 2048];
    // Opcode and flags of each request, its text, and the opcode and flags of its answer.
    let (logout, ended) = ((0x46, 0x80, ""), (0x26, 0x80));
    for ((opcode, flags, text), expected) in
        [((0x43, 0x81, security.as_str()), (0x23, 0x81)), ((0x43, 0x87, operational), (0x23, 0x87)), (logout, ended)]
    {
        let mut request = header(opcode, flags, text.len());
        if opcode == 0x43 {
            request[8..14].copy_from_slice(&[0x80, 0x62, a ^ b, c, d, client]);
        }
        request[24..28].copy_from_slice(&1u32.to_be_bytes());
        request.extend(text.as_bytes());
        request.resize(request.len().next_multiple_of(4), 0);
        stream.write_all(&request)?;
        stream.read_exact(&mut answer[..BHS])?;
        // The status of a login response, or the response code of a logout response.
        let status = if opcode == 0x43 { answer[36] } else { answer[2] };
        ensure!((answer[0], answer[1], status) == (expected.0, expected.1, 0), "answer {:02x?}", &answer[..BHS]);
        let size = length(&answer).next_multiple_of(4);
        ensure!(size <= answer.len(), "a text of {size} bytes");
        stream.read_exact(&mut answer[..size])?;
    }
    ensure!(stream.read(&mut answer)? == 0, "bytes after the logout");
    Ok(())
}

struct Load {
    random: bool,
    bytes: u64,
    depth: u32,
    time: Duration,
}

struct Client {
    stream: TcpStream,
    lun: u8,
    command: u32,
    block: u64,
    blocks: u64,
    input: Vec<u8>,
    start: usize,
    end: usize,
    seed: u64,
}

impl Client {
    fn login(address: &str, target: &str, lun: u8) -> anyhow::Result<Self> {
        let stream = TcpStream::connect(address)?;
        stream.set_nodelay(true)?;
        stream.set_read_timeout(Some(Duration::from_secs(10)))?;
        let input = vec![0; 4 << 20];
        let mut client = Self {
            stream,
            lun,
            command: 1,
            block: 0,
            blocks: 0,
            input,
            start: 0,
            end: 0,
            seed: 88_172_645_463_325_252,
        };
        let text = [
            "InitiatorName=iqn.2026-11.org.bootlatch:load",
            &format!("TargetName={target}"),
            "SessionType=Normal",
            "HeaderDigest=None",
            "DataDigest=None",
            "MaxRecvDataSegmentLength=262144",
            "MaxBurstLength=16776192",
            "InitialR2T=Yes",
            "ImmediateData=No",
            "ErrorRecoveryLevel=0",
        ]
        .map(|pair| format!("{pair}\0"))
        .concat();
        let mut request = header(0x43, 0x87, text.len());
        // A random ISID. tgtd rejects zeros, and a client with the ISID of another would take over its session.
        let [a, b, c, d] = std::process::id().to_be_bytes();
        request[8..14].copy_from_slice(&[0x80, 0x62, a ^ b, c, d, 1]);
        request[24..28].copy_from_slice(&1u32.to_be_bytes());
        request.extend(text.as_bytes());
        request.resize(request.len().next_multiple_of(4), 0);
        client.stream.write_all(&request)?;
        let (answer, _) = client.pdu()?;
        ensure!(answer[0] & 0x3f == 0x23 && answer[36] == 0, "login refused: {:02x}{:02x}", answer[36], answer[37]);
        ensure!(answer[1] & 0x83 == 0x83, "the login wants more than one round");
        Ok(client)
    }

    fn capacity(&mut self) -> anyhow::Result<()> {
        // A unit may report a reset first.
        for attempt in 0..3 {
            let mut cdb = [0; 16];
            cdb[0] = 0x25;
            let request = self.request(&cdb, 8, attempt);
            self.stream.write_all(&request)?;
            let (mut answer, data) = self.pdu()?;
            let data = data.to_vec();
            if answer[0] & 0x3f == 0x25 && answer[1] & 1 == 0 {
                (answer, _) = self.pdu()?;
            }
            // tgtd sends data even with a bad status.
            if answer[3] != 0 || data.len() < 8 {
                continue;
            }
            let field = |at: usize| u64::from(u32::from_be_bytes([data[at], data[at + 1], data[at + 2], data[at + 3]]));
            (self.blocks, self.block) = (field(0) + 1, field(4));
            return Ok(());
        }
        bail!("no capacity")
    }

    fn run(&mut self, load: &Load) -> anyhow::Result<u64> {
        let mut starts = vec![0; load.depth as usize];
        let mut received = vec![0u64; load.depth as usize];
        let mut next = 0;
        let mut batch = Vec::new();
        for tag in 0..load.depth {
            self.ask(load, tag, &mut starts, &mut next, &mut batch);
        }
        self.stream.write_all(&batch)?;
        let (until, mut reads, mut outstanding) = (Instant::now() + load.time, 0, load.depth);
        while outstanding > 0 {
            batch.clear();
            let more = Instant::now() < until;
            // Receive all available PDUs before the next commands are sent in one write.
            loop {
                let (tag, done) = self.data_in(&starts, &mut received)?;
                if done {
                    ensure!(received[tag as usize] == load.bytes, "a read of {} bytes", received[tag as usize]);
                    received[tag as usize] = 0;
                    reads += 1;
                    outstanding -= 1;
                    if more {
                        self.ask(load, tag, &mut starts, &mut next, &mut batch);
                        outstanding += 1;
                    }
                }
                if !self.has_pdu() {
                    break;
                }
            }
            self.stream.write_all(&batch)?;
        }
        Ok(reads)
    }

    fn ask(&mut self, load: &Load, tag: u32, starts: &mut [u64], next: &mut u64, batch: &mut Vec<u8>) {
        let count = load.bytes / self.block;
        let places = self.blocks / count;
        let place = if load.random {
            self.seed ^= self.seed << 13;
            self.seed ^= self.seed >> 7;
            self.seed ^= self.seed << 17;
            self.seed % places
        } else {
            *next += 1;
            (*next - 1) % places
        };
        starts[tag as usize] = place * load.bytes;
        let mut cdb = [0; 16];
        cdb[0] = 0x28;
        cdb[2..6].copy_from_slice(&u32::try_from(place * count).unwrap_or(0).to_be_bytes());
        cdb[7..9].copy_from_slice(&u16::try_from(count).unwrap_or(0).to_be_bytes());
        let request = self.request(&cdb, u32::try_from(load.bytes).unwrap_or(0), tag);
        batch.extend(request);
    }

    fn request(&mut self, cdb: &[u8; 16], expected: u32, tag: u32) -> Vec<u8> {
        let mut request = header(0x01, 0xc1, 0);
        request[9] = self.lun;
        request[16..20].copy_from_slice(&tag.to_be_bytes());
        request[20..24].copy_from_slice(&expected.to_be_bytes());
        request[24..28].copy_from_slice(&self.command.to_be_bytes());
        request[32..48].copy_from_slice(cdb);
        self.command = self.command.wrapping_add(1);
        request
    }

    /// Receives one PDU of a read and checks its data; returns its tag, and whether the read is done.
    fn data_in(&mut self, starts: &[u64], received: &mut [u64]) -> anyhow::Result<(u32, bool)> {
        let (answer, data) = self.pdu()?;
        let word = |at: usize| u32::from_be_bytes([answer[at], answer[at + 1], answer[at + 2], answer[at + 3]]);
        let tag = word(16);
        match answer[0] & 0x3f {
            0x25 => {}
            0x21 if answer[2] == 0 && answer[3] == 0 => return Ok((tag, true)),
            other => bail!("answer {other:02x} with status {:02x}", answer[3]),
        }
        let at = starts[tag as usize] + u64::from(word(40));
        for (sector, block) in data.chunks(512).enumerate() {
            let number = u64::from_le_bytes(block[..8].try_into()?);
            ensure!(number == at / SECTOR + sector as u64, "sector {} holds {number}", at / SECTOR + sector as u64);
        }
        received[tag as usize] += data.len() as u64;
        Ok((tag, answer[1] & 1 != 0))
    }

    fn has_pdu(&self) -> bool {
        let bytes = &self.input[self.start..self.end];
        bytes.len() >= BHS && bytes.len() >= BHS + length(bytes).next_multiple_of(4)
    }

    fn pdu(&mut self) -> anyhow::Result<([u8; BHS], &[u8])> {
        while !self.has_pdu() {
            if self.input.len() - self.start < 512 << 10 || self.start == self.end {
                self.input.copy_within(self.start..self.end, 0);
                self.end -= self.start;
                self.start = 0;
            }
            let count = self.stream.read(&mut self.input[self.end..])?;
            ensure!(count > 0, "the target closed the connection");
            self.end += count;
        }
        let bytes = &self.input[self.start..self.end];
        let (answer, size) = (bytes[..BHS].try_into()?, length(bytes));
        let data = self.start + BHS;
        self.start = data + size.next_multiple_of(4);
        Ok((answer, &self.input[data..data + size]))
    }
}

fn header(opcode: u8, flags: u8, length: usize) -> Vec<u8> {
    let mut bytes = vec![0; BHS];
    bytes[0] = opcode;
    bytes[1] = flags;
    bytes[5..8].copy_from_slice(&u32::try_from(length).unwrap_or(0).to_be_bytes()[1..]);
    bytes
}

fn length(bytes: &[u8]) -> usize {
    usize::from(bytes[5]) << 16 | usize::from(bytes[6]) << 8 | usize::from(bytes[7])
}
