//! The composition root: bind everything, drop privileges, start, wait, stop in order.

mod listeners;
mod privileges;
mod state_dir;

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, Instant};

use anyhow::{Context, anyhow};
use sd_notify::NotifyState;
use tokio::signal::unix::{SignalKind, signal};
use tokio::sync::watch;
use tokio::task::JoinSet;

use crate::admission::prepare::Places;
use crate::api::auth;
use crate::api::state::{Folders, Shared};
use crate::boot::Site;
use crate::config::{self, BootFileIn, Config, Dhcp, DhcpMode, Flags, IscsiAccess, OnOtherServer};
use crate::controllers::{disk_space, image_watch, power};
use crate::event::Counters;
use crate::fleet::lifecycle::{InstallDeadlines, Transition};
use crate::gate::config_release::Releases;
use crate::gate::neighbours::Neighbours;
use crate::gate::tokens::BootTokens;
use crate::gate::{EventThrottle, Gate, RecentIpxeClients};
use crate::http::listener::{self, HttpListener, HttpSocket};
use crate::http::peer::Serves;
use crate::images::library::ImageLibrary;
use crate::iscsi::serve::admission;
use crate::store::{self, Change, Observation, Seal, Store};
use crate::tftp::serve::boot_files;
use crate::{dhcp, ndp};

use crate::appliance::listeners::Doors;
use crate::controllers::manifests::Manifests;

/// Is how often installs are looked at that may have run out of time.
const OVERDUE_EVERY: Duration = Duration::from_secs(1);

/// Runs the appliance until it is told to stop.
///
/// # Errors
/// What kept it from starting; nothing is answered then.
pub fn run(flags: Flags) -> anyhow::Result<()> {
    start_log();
    // What is made from here on is the owner's and the group's: the state holds secrets.
    nix::sys::stat::umask(nix::sys::stat::Mode::from_bits_truncate(0o027));
    let config = config::load(&flags)?;
    let user = privileges::choose(config.user.as_deref())?;
    let isos = config.state_dir.join("isos");
    make_directory(&config.state_dir)?;
    make_directory(&isos)?;
    make_directory(&config.files_dir)?;
    let lock = lock(&config.state_dir)?;
    let doors = Doors::open(&config, &dhcp_settings(&config))?;
    let wanted = config.programs.0.values().chain(config.overrides.iter().map(|other| &other.program));
    let programs = boot_files::read_programs(&config.firmware_dir, wanted)?;
    let key = config.encryption_key_file.as_deref().map(state_dir::read).transpose()?;
    let seal = key
        .map(|key| {
            Seal::new(&key)
                .ok_or_else(|| anyhow!("store.encryption_key_file: expected 32 octets, or 64 hexadecimal digits"))
        })
        .transpose()?;
    if let Some(user) = &user {
        user.own(&config.state_dir)?;
        user.become_it()?;
    }
    let (store, writer) = Store::open_sealed(&config.state_dir, config.install.clone(), seal)?;
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(workers()).enable_all().build()?;
    let ended = runtime.block_on(Appliance::new(config, doors, programs, store, isos)?.live());
    runtime.shutdown_timeout(Duration::from_secs(1));
    // The last handle is gone with the appliance: the writer ends once all that waits is on disk.
    writer.join().map_err(|_| anyhow!("the store's writer died"))?;
    drop(lock);
    ended
}

/// Writes the log to standard error; `BOOTLATCH_LOG` says how much, as in `bootlatch=debug`.
fn start_log() {
    let filter = tracing_subscriber::EnvFilter::try_from_env("BOOTLATCH_LOG").unwrap_or_else(|_| "info".into());
    let colours = std::io::IsTerminal::is_terminal(&std::io::stderr());
    let log = tracing_subscriber::fmt().with_env_filter(filter).with_writer(std::io::stderr).with_ansi(colours);
    // A second start within one process, as in a test, keeps the first log.
    let _ = log.with_target(false).try_init();
}

fn workers() -> usize {
    const MOST: usize = 4; // an appliance has 1 to 4 cores
    std::thread::available_parallelism().map_or(1, |cores| cores.get().min(MOST))
}

fn make_directory(path: &Path) -> anyhow::Result<()> {
    use std::os::unix::fs::DirBuilderExt;
    let made = std::fs::DirBuilder::new().recursive(true).mode(0o750).create(path);
    made.with_context(|| format!("making {}", path.display()))
}

/// Keeps a second appliance out of the same state.
fn lock(state_dir: &Path) -> anyhow::Result<nix::fcntl::Flock<std::fs::File>> {
    let path = state_dir.join("lock");
    let file = std::fs::File::create(&path).with_context(|| format!("state_dir: {}", path.display()))?;
    nix::fcntl::Flock::lock(file, nix::fcntl::FlockArg::LockExclusiveNonblock)
        .map_err(|(_, _)| anyhow!("state_dir: another bootlatch runs in {}", state_dir.display()))
}

struct Appliance {
    config: Config,
    doors: Doors,
    gate: Arc<Gate>,
    places: Places,
    programs: boot_files::ProgramCache,
    tokens: auth::Tokens,
}

impl Appliance {
    fn new(
        config: Config,
        doors: Doors,
        programs: boot_files::ProgramCache,
        store: Arc<Store>,
        isos: PathBuf,
    ) -> anyhow::Result<Self> {
        let tokens = auth::Tokens::open(&config.state_dir)?;
        let site = Arc::new(Site {
            unknown_hosts: config.unknown_hosts.clone(),
            install: config.install.clone(),
            programs: config.programs.clone(),
            overrides: config.overrides.clone(),
            namespace: config.namespace.clone(),
            address: doors.address.into(),
            nets: doors
                .nets
                .iter()
                .copied()
                .chain(config.dhcp.subnets.iter().map(|subnet| subnet.net.trunc()))
                .collect(),
            ours: doors.tftp.iter().map(|door| door.service_address.into()).collect(),
            http: (doors.address, config.http_port).into(),
            iscsi: (doors.address, config.iscsi.port).into(),
            iqn: config.iscsi.iqn.clone(),
            config_access: config.config_access.clone(),
            chap: config.iscsi.chap.clone(),
        });
        let places = Places { isos, site: site.clone() };
        let gate = Arc::new(Gate {
            site,
            store,
            counters: Arc::new(Counters::default()),
            ipxe_clients: RecentIpxeClients::default(),
            neighbours: Neighbours::default(),
            throttle: EventThrottle::default(),
            releases: Releases::default(),
            media: ImageLibrary::new(places.isos.clone()),
            tokens: BootTokens::open(&config.state_dir).context("state_dir: token.key")?,
        });
        Ok(Self { config, doors, gate, places, programs, tokens })
    }

    async fn live(self) -> anyhow::Result<()> {
        let mut hang_up = signal(SignalKind::hangup())?;
        let (mut terminate, mut interrupt) = (signal(SignalKind::terminate())?, signal(SignalKind::interrupt())?);
        let Self { config, doors, gate, places, programs, tokens } = self;
        let manifests = Manifests::new(&config)?;
        manifests.load(&places, &gate).await?;
        let (stop, stopped) = watch::channel(false);
        let mut services = JoinSet::new();
        let address = doors.address;
        let (wake, woken) = std::os::unix::net::UnixStream::pair()?;
        let runtime = tokio::runtime::Handle::current();
        let dhcp = dhcp::serve::spawn(doors.dhcp, dhcp_settings(&config), gate.clone(), runtime, woken.into())?;
        let (settings, progress) = (boot_file_settings(&config), dhcp.progress);
        let on_progress = move |mac| progress.report(mac);
        let files = boot_files::serve(doors.tftp, &settings, gate.clone(), programs, on_progress, stopped.clone());
        services.spawn(files);
        let policy = attach_policy(&config);
        for listener in doors.iscsi {
            services.spawn(admission::serve(listener, policy, gate.clone(), stopped.clone()));
        }
        let access = access(&config, tokens);
        let folders = folders(&config);
        let shared = Shared::new(gate.clone(), places.clone(), folders, access, manifests.faults());
        let door = |socket, serves| HttpListener { socket, serves };
        let machines = match doors.objects {
            Some(_) => Serves::Machines,
            None => Serves::Everything,
        };
        let mut http_doors: Vec<_> =
            doors.http.into_iter().map(|listener| door(HttpSocket::Tcp(listener), machines)).collect();
        let objects = doors.objects.into_iter().chain([HttpSocket::Unix(doors.api)]);
        http_doors.extend(objects.map(|socket| door(socket, Serves::Everything)));
        let until = stopped.clone();
        services.spawn(async move {
            listener::serve(http_doors, Arc::new(shared), until).await;
            Ok(())
        });
        for socket in doors.solicitations {
            let serve = ndp::serve::serve(socket, gate.clone(), stopped.clone());
            services.spawn(async move { serve.await.context("router solicitations") });
        }
        if config.interfaces.iter().any(|interface| interface.mode == DhcpMode::Server) {
            let path = config.state_dir.join("dhcp.leases");
            let export = dhcp::serve::export(gate.clone(), path, stopped.clone());
            services.spawn(async move { export.await.context("the leases file") });
        }
        look_after(&mut services, &gate, &places, stopped);
        tracing::info!(interface = config.interfaces[0].name, %address, "ready");
        let _ = sd_notify::notify(&[NotifyState::Ready]);
        let ended = loop {
            tokio::select! {
                _ = terminate.recv() => break Ok(()),
                _ = interrupt.recv() => break Ok(()),
                _ = hang_up.recv() => manifests.reload(&places, &gate).await,
                Some(ended) = services.join_next() => break service_ended(ended),
            }
        };
        let _ = sd_notify::notify(&[NotifyState::Stopping]);
        tracing::info!("stops");
        stop.send_replace(true);
        let all = async { while services.join_next().await.is_some() {} };
        if tokio::time::timeout(config.shutdown_timeout, all).await.is_err() {
            tracing::warn!(limit = ?config.shutdown_timeout, "what would not end in time was cut");
        }
        drop(wake);
        dhcp.thread.join().map_err(|_| anyhow!("the DHCP thread died"))?;
        ended
    }
}

/// Spawns what looks after hosts and ISOs whether anybody asks or not.
fn look_after(
    services: &mut JoinSet<anyhow::Result<()>>,
    gate: &Arc<Gate>,
    places: &Places,
    stopped: watch::Receiver<bool>,
) {
    services.spawn(ask_controllers(gate.clone(), stopped.clone()));
    services.spawn(image_watch::watch(gate.clone(), places.clone(), stopped.clone()));
    services.spawn(disk_space::watch(gate.clone(), places.isos.clone(), stopped.clone()));
    services.spawn(mark_overdue(gate.clone(), stopped));
}

fn folders(config: &Config) -> Folders {
    Folders {
        firmware: config.firmware_dir.clone(),
        files: config.files_dir.clone(),
        volumes: Arc::new(crate::store::volumes::Volumes::new(config.volumes.clone())),
    }
}

fn service_ended(ended: Result<anyhow::Result<()>, tokio::task::JoinError>) -> anyhow::Result<()> {
    ended.context("a service died")??;
    Err(anyhow!("a service ended by itself"))
}

fn access(config: &Config, tokens: auth::Tokens) -> auth::Access {
    let config::Api { trust_loopback, trust_socket, proxies, .. } = &config.api;
    auth::Access { tokens, trust_loopback: *trust_loopback, trust_socket: *trust_socket, proxies: proxies.clone() }
}

async fn ask_controllers(gate: Arc<Gate>, stopped: watch::Receiver<bool>) -> anyhow::Result<()> {
    power::serve(gate.store.clone(), stopped).await;
    Ok(())
}

/// Fails the installs whose time is up.
async fn mark_overdue(gate: Arc<Gate>, mut stopped: watch::Receiver<bool>) -> anyhow::Result<()> {
    let mut tick = tokio::time::interval(OVERDUE_EVERY);
    let mut vigil = InstallDeadlines::default();
    loop {
        tokio::select! {
            _ = tick.tick() => {}
            _ = stopped.wait_for(|stop| *stop) => return Ok(()),
        }
        let now = (store::now(), Instant::now());
        let state = gate.store.snapshot();
        let overdue = vigil.overdue(state.under_way().map(Arc::as_ref), now, &gate.site.install);
        for (mac, since) in overdue {
            let (change, sighting) = (Transition::TimeUp { since }, Observation::default());
            let change = Change::Advance { mac, change, sighting, event: None };
            if let Err(error) = gate.store.commit(change).await {
                tracing::error!(%error, %mac, "an install that ran out of time could not be marked");
            }
        }
    }
}

/// Returns the settings of the TFTP service.
fn boot_file_settings(config: &Config) -> boot_files::BootFileSettings {
    boot_files::BootFileSettings {
        max_block_size: config.tftp.max_block_size,
        drain: config.shutdown_timeout,
        folders: vec![config.firmware_dir.clone(), config.files_dir.clone()],
    }
}

/// Returns which images initiators may attach by the configuration.
fn attach_policy(config: &Config) -> admission::AttachPolicy {
    match config.iscsi.access {
        IscsiAccess::Assigned => admission::AttachPolicy::Assigned,
        IscsiAccess::Any => admission::AttachPolicy::Any,
    }
}

/// Returns the settings of the DHCP service.
fn dhcp_settings(config: &Config) -> dhcp::serve::DhcpSettings {
    use dhcp::quirks::BootFileLocation;
    let location = |chosen| match chosen {
        BootFileIn::Offer => BootFileLocation::Offer,
        BootFileIn::Port4011 => BootFileLocation::Port4011,
    };
    let boot_file_locations =
        config.boot_file_in.iter().map(|(who, chosen)| (who.clone(), location(*chosen))).collect();
    let Dhcp { subnets, authoritative, conflict_check, on_other_server, other_server_check_interval, .. } =
        &config.dhcp;
    dhcp::serve::DhcpSettings {
        boot_file_locations,
        subnets: subnets.clone(),
        authoritative: *authoritative,
        conflict_check: *conflict_check,
        stand_down: *on_other_server == OnOtherServer::StandDown,
        check_interval: *other_server_check_interval,
    }
}
