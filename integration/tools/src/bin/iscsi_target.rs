//! Serves files as an iSCSI target without the appliance, for the benchmark and the tests.
//!
//! iscsi_target LISTEN TARGET=KIND:FILE[,KIND:FILE...] ... [--chap NAME:SECRET[:OURNAME:OURSECRET]]
//!     [--redirect TARGET=HOST:PORT] [--only INITIATOR] [--threads N]
//! KIND is `cdrom` or `disk`. One thread serves all sessions, or tokio's pool of N. SIGTERM stops it.
//! Prints outcomes, one a line.

use std::collections::BTreeMap;
use std::fs::File;
use std::sync::Arc;

use anyhow::{Context, bail};
use bootlatch::iscsi::chap::ChapTerms;
use bootlatch::iscsi::login::LoginRefusal;
use bootlatch::iscsi::medium::{DeviceKind, Lun, UnitIdentity};
use bootlatch::iscsi::outcome::TargetEntry;
use bootlatch::iscsi::serve::{Admission, ConnectionHandler, Grant, GrantedUnit, LoginClaim, Target, serve};
use bootlatch::iso::{ImageFile, ReadAt};
use socket2::SockRef;
use tokio::net::TcpListener;
use tokio::runtime::Builder;
use tokio::signal::unix::{SignalKind, signal};
use tokio::sync::watch;

type Units = BTreeMap<u8, GrantedUnit>;

#[derive(Default)]
struct Site {
    targets: BTreeMap<String, Units>,
    redirects: BTreeMap<String, String>,
    chap: Option<ChapTerms>,
    only: Option<String>,
}

fn main() -> anyhow::Result<()> {
    let mut arguments = std::env::args().skip(1);
    let listen = arguments.next().context("no address to listen on")?;
    let mut site = Site::default();
    let mut runtime = Builder::new_current_thread();
    while let Some(argument) = arguments.next() {
        match argument.as_str() {
            "--chap" => site.chap = Some(chap(&arguments.next().context("--chap of what?")?)?),
            "--threads" => {
                let threads = arguments.next().context("--threads of what?")?.parse()?;
                runtime = Builder::new_multi_thread();
                runtime.worker_threads(threads);
            }
            "--only" => site.only = arguments.next(),
            "--redirect" => {
                let row = arguments.next().context("--redirect of what?")?;
                let (target, portal) = row.split_once('=').context("no portal")?;
                site.redirects.insert(target.to_owned(), portal.to_owned());
            }
            row => {
                let (target, files) = row.split_once('=').context("no files")?;
                site.targets.insert(target.to_owned(), units(target, files)?);
            }
        }
    }
    runtime.enable_all().build()?.block_on(async {
        let listener = TcpListener::bind(&listen).await?;
        // As the appliance does, whatever the system's own is, where the kernel has it.
        if let Err(error) = SockRef::from(&listener).set_tcp_congestion(b"cubic") {
            eprintln!("cubic: {error}");
        }
        println!("listening {}", listener.local_addr()?);
        let (stop, stopped) = watch::channel(false);
        let mut terminate = signal(SignalKind::terminate())?;
        tokio::spawn(async move {
            terminate.recv().await;
            stop.send(true)
        });
        let handler = ConnectionHandler {
            authorize: Box::new(move |login, _| Some(admit(&site, login))),
            report: Box::new(|report| println!("{report:?}")),
            is_known: Box::new(|_| true),
            per_source: usize::MAX,
        };
        let target = Target::new(Arc::new(handler));
        serve(listener, &target, std::future::pending(), stopped).await;
        Ok(())
    })
}

fn admit(site: &Site, login: &LoginClaim) -> Admission {
    if site.only.as_ref().is_some_and(|only| *only != login.claim.initiator) {
        return Admission::Refuse(LoginRefusal::Forbidden);
    }
    let entry = |name: &String| TargetEntry { name: name.clone(), portals: vec![login.local.to_string()] };
    let targets = site.targets.keys().map(entry).collect();
    let Some(name) = &login.claim.target else {
        return Admission::Admit(Grant { targets, chap: site.chap.clone(), ..Grant::default() });
    };
    if let Some(portal) = site.redirects.get(name) {
        return Admission::Redirect { portal: portal.clone(), permanent: false };
    }
    let Some(units) = site.targets.get(name) else {
        return Admission::Refuse(LoginRefusal::NotFound);
    };
    Admission::Admit(Grant { units: units.clone(), targets, chap: site.chap.clone() })
}

fn units(target: &str, files: &str) -> anyhow::Result<Units> {
    let mut units = Units::new();
    for (number, row) in files.split(',').enumerate() {
        let kind = match row.split_once(':') {
            Some(("cdrom", _)) => DeviceKind::Cdrom,
            Some(("disk", _)) => DeviceKind::Disk,
            _ => bail!("{row}: neither cdrom nor disk"),
        };
        let path = row.split_once(':').map_or(row, |(_, path)| path);
        let medium = ImageFile::new(File::open(path).with_context(|| path.to_owned())?)?;
        let identity = UnitIdentity::from_seed(format!("{target} {path}").as_bytes());
        let lun = Lun::new(kind, medium.len(), identity);
        units.insert(u8::try_from(number)?, GrantedUnit::new(lun, Arc::new(medium)));
    }
    Ok(units)
}

fn chap(row: &str) -> anyhow::Result<ChapTerms> {
    let words: Vec<&str> = row.split(':').collect();
    let (name, secret, ours) = match words[..] {
        [name, secret] => (name, secret, None),
        [name, secret, our_name, our_secret] => (name, secret, Some((our_name.to_owned(), our_secret.into()))),
        _ => bail!("{row}: not NAME:SECRET[:OURNAME:OURSECRET]"),
    };
    Ok(ChapTerms { name: name.to_owned(), secret: secret.into(), ours })
}
