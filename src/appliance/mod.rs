//! The composition root: reads the configuration, binds all sockets, drops privileges, starts the services, and stops
//! them in order.

mod capabilities;
mod doctor;
mod interfaces;
mod link_monitor;
mod listeners;
mod local_sockets;
mod log;
mod memory;
mod privileges;
mod queries;
mod reload;
mod settings;
mod state_dir;
mod status;
mod supervisor;
mod watchdog;
mod webhooks;

use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context, anyhow};
use arc_swap::ArcSwap;
use sd_notify::NotifyState;
use tokio::signal::unix::{SignalKind, signal};
use tokio::sync::watch;
use tokio::task::JoinSet;

use crate::admission::prepare::Places;
use crate::api::auth;
use crate::api::settings::Setting;
use crate::api::state::Shared;
use crate::config::{self, Config, DhcpMode, Flags, Logged, StartRefused};
use crate::controllers::manifests::{Manifests, ReloadConfig};
use crate::controllers::webhooks as deliveries;
use crate::controllers::webhooks::WebhookTarget;
use crate::controllers::{
    cleanup, clock, console, disk_space, first_seen, image_watch, install_deadlines, inventory, power, stalls,
};
use crate::dhcp;
use crate::gate::tokens::BootTokens;
use crate::gate::{EnrolmentBounds, Gate, InstallerLines};
use crate::http::listener::{HttpListener, HttpServer, HttpSocket};
use crate::http::peer::Serves;
use crate::http::tls::ServerTls;
use crate::images::library::ImageLibrary;
use crate::images::uploads;
use crate::iscsi::serve::admission;
use crate::provision;
use crate::store::{OpenOptions, OutboxReader, Seal, Store};
use crate::syslog::serve::SyslogReceiver;
use crate::tftp::serve::ListenerControl;
use crate::tftp::serve::boot_files::{self, BootFiles};

pub use doctor::examine;
use listeners::{BoundEndpoint, Endpoint};
use reload::InterfaceChosen;
use settings::dhcp_settings;
use supervisor::{Protocols, Supervisor};

/// Time for blocking tasks to end after all services have ended.
const RUNTIME_SHUTDOWN_TIMEOUT: Duration = Duration::from_secs(1);
/// Time after which an idle thread for blocking tasks ends. It is below the interval of the check of the ISO files, which
/// would keep every thread of a burst.
const BLOCKING_THREAD_KEEP_ALIVE: Duration = Duration::from_secs(1);
/// Number of tasks that a worker runs before it polls the sockets, if tasks are left. A worker's own queue holds 256; the
/// others wait until it is empty. With tokio's 61 it never was while 1,000 connections were busy: the slowest hundredth
/// waited 160 ms where all took 17 ms on average.
const EVENT_INTERVAL: u32 = 1024;

/// The services; each ends when it is stopped.
type Services = JoinSet<anyhow::Result<()>>;

/// Runs the appliance until SIGTERM or SIGINT.
///
/// # Errors
/// The reason why the start failed (no request was answered then), or why a service ended.
pub fn run(flags: Flags) -> anyhow::Result<()> {
    let config = config::load(&flags);
    // A broken file does not name the format of the log.
    let format = config.as_ref().map_or_else(|_| flags.log_format.unwrap_or_default(), |config| config.log_format);
    let is_text = log::start(format);
    let mut ended = config.map_err(anyhow::Error::from).and_then(|config| serve(config, &flags));
    while let Ok(Ended::InterfaceChosen) = ended {
        ended = config::load(&flags).map_err(anyhow::Error::from).and_then(|config| serve(config, &flags));
    }
    match ended.map(|_| ()) {
        Err(error) if !is_text => {
            tracing::error!(error = format!("{error:#}"), "the server ended");
            Err(error.context(Logged))
        }
        ended => ended,
    }
}

/// Why the appliance ended without an error.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Ended {
    /// A signal said so.
    Stopped,
    /// The configuration named no interface, and a reload found one: the same process starts again.
    InterfaceChosen,
}

/// Runs the appliance with a configuration.
fn serve(config: Config, flags: &Flags) -> anyhow::Result<Ended> {
    // 1. The allocator, and the mode of new files. The state holds secrets: no access for others.
    memory::limit_arenas();
    nix::sys::stat::umask(nix::sys::stat::Mode::from_bits_truncate(0o027));
    // 2. The directories.
    let user = privileges::choose(config.user.as_deref())?;
    let isos = config.state_dir.join("isos");
    if user.is_none() {
        state_dir::check_access(&config.state_dir)?;
    }
    state_dir::create_directory(&config.state_dir, "state_dir")?;
    let lock = state_dir::lock(&config.state_dir)?;
    let taken = state_dir::take(&config.state_dir)?;
    if !config.files_dir.starts_with(&config.state_dir) {
        state_dir::create_directory(&config.files_dir, "files_dir")?;
    }
    // 3. Everything that needs root: sockets, boot programs, the encryption key.
    listeners::check_congestion_control(&config).map_err(|error| StartRefused(format!("{error:#}")))?;
    let listeners = Listeners::bind(&config)?;
    let wanted = config.programs.0.values().chain(config.overrides.iter().map(|other| &other.program));
    let programs = boot_files::read_programs(&settings::boot_file_settings(&config), wanted)?;
    let seal = read_seal(&config)?;
    let webhooks = webhooks::read(&config).map_err(|error| StartRefused(format!("{error:#}")))?;
    log_resources(&config);
    // 4. Privileges.
    drop(taken);
    if let Some(user) = &user {
        let what = format!("state_dir: change of the owners in {}", config.state_dir.display());
        state_dir::bounded(what, || user.own(&config.state_dir))?;
        local_sockets::give_to(user.ids())?;
        user.switch_to()?;
        user.check_access(&config.state_dir)?;
    }
    privileges::give_up(user.as_ref())?;
    // Within the state directory a link may lead elsewhere: root makes nothing there.
    state_dir::create_directory(&isos, "state_dir")?;
    if config.files_dir.starts_with(&config.state_dir) {
        state_dir::create_directory(&config.files_dir, "files_dir")?;
    }
    // 5. The state and the services, until a signal.
    let options = OpenOptions { seal, start_empty: flags.start_empty, outbox_readers: outbox_readers(&webhooks) };
    let opened = Store::open(&config.state_dir, config.install.clone(), options);
    let (store, writer) = opened.map_err(|error| StartRefused(error.to_string()))?;
    let last = store.clone();
    let mut runtime = tokio::runtime::Builder::new_multi_thread();
    runtime.worker_threads(workers()).thread_keep_alive(BLOCKING_THREAD_KEEP_ALIVE).enable_all();
    runtime.event_interval(EVENT_INTERVAL);
    let runtime = runtime.build()?;
    // One that was root has not the rights for another start.
    let may_start_again = user.is_none() && config.interfaces.is_empty();
    let appliance = Appliance::new(config, listeners, programs, store, isos, webhooks)?;
    let result = runtime.block_on(appliance.serve(flags.clone(), may_start_again));
    // 6. The end: everything is on disk. A thread that waits for a dead file system is not waited for.
    runtime.shutdown_timeout(RUNTIME_SHUTDOWN_TIMEOUT);
    last.close();
    drop(last);
    writer.join().map_err(|_| anyhow!("the store's writer thread panicked"))?;
    drop(lock);
    result
}

/// Logs which boot programs come from packages, and warns about receive buffers that the kernel bounds: without
/// CAP_NET_ADMIN the sysctl is the limit.
fn log_resources(config: &Config) {
    for (program, path) in settings::packaged_programs(config) {
        tracing::info!(program, path = %path.display(), "boot program of a package in use");
    }
    if let Ok((wanted_bytes, granted_bytes)) = dhcp::serve::receive_buffer()
        && granted_bytes < wanted_bytes
    {
        tracing::warn!(
            wanted_bytes,
            granted_bytes,
            "receive buffers limited by net.core.rmem_max: raise it where thousands of machines boot at once"
        );
    }
}

/// Returns the number of worker threads: that of the CPUs, at most 4.
fn workers() -> usize {
    const MAX_WORKERS: usize = 4;
    std::thread::available_parallelism().map_or(1, |cores| cores.get().min(MAX_WORKERS))
}

/// Reads the key of the encryption at rest, if one is configured.
fn read_seal(config: &Config) -> anyhow::Result<Option<Seal>> {
    let Some(path) = &config.encryption_key_file else { return Ok(None) };
    let key = state_dir::read_encryption_key(path)?;
    let seal = Seal::new(&key).ok_or_else(|| anyhow!("store.encryption_key_file: {}: unusable key", path.display()))?;
    Ok(Some(seal))
}

/// What is bound at the start.
struct Listeners {
    interfaces: Supervisor,
    bound: Vec<(Endpoint, BoundEndpoint)>,
    /// Local listeners of the API: `api.sock` in the state directory, and that of the group.
    local: Vec<std::os::unix::net::UnixListener>,
    /// TLS of the separate listener of the object API.
    object_tls: Option<ServerTls>,
}

impl Listeners {
    /// Binds what is there. The rest is bound when its interface or address comes.
    ///
    /// # Errors
    /// A port is forbidden, or a file cannot be read. The message names the configuration key.
    fn bind(config: &Config) -> anyhow::Result<Self> {
        let local = local_sockets::bind(&config.state_dir)?;
        let mut interfaces = Supervisor::new(config, dhcp_settings(config))?;
        let bound = interfaces.bind_first()?;
        let object_tls = listeners::object_api_tls(config, &interfaces.own_addresses().ours)?;
        Ok(Self { interfaces, bound, local, object_tls })
    }
}

/// Everything that the services are made of.
struct Appliance {
    config: Config,
    listeners: Listeners,
    gate: Arc<Gate>,
    places: Places,
    programs: boot_files::ProgramCache,
    tokens: auth::Tokens,
    webhooks: Vec<WebhookTarget>,
}

/// The services of the protocols, before they have sockets.
struct StartedProtocols {
    protocols: Protocols,
    dhcp: std::thread::JoinHandle<()>,
    /// The DHCP thread stops when this is closed.
    wake: std::os::unix::net::UnixStream,
}

impl Appliance {
    fn new(
        config: Config,
        listeners: Listeners,
        programs: boot_files::ProgramCache,
        store: Arc<Store>,
        isos: PathBuf,
        webhooks: Vec<WebhookTarget>,
    ) -> anyhow::Result<Self> {
        let tokens = auth::Tokens::open(&config.state_dir)?;
        let site = Arc::new(settings::site(&config, &listeners.interfaces.own_addresses()));
        let boot_tokens = BootTokens::open(&config.state_dir).context("state_dir: token.key")?;
        let gate = Gate::new(site, store, ImageLibrary::new(isos.clone()), boot_tokens);
        gate.consoles.keep_in(config.state_dir.join("consoles")).context("state_dir: consoles")?;
        let enrolment = EnrolmentBounds::new(config.limits.first_seen);
        let installer_lines = InstallerLines::new(provision::part_texts);
        let gate = Arc::new(Gate { enrolment, installer_lines, ..gate });
        let places = Places { isos, site: gate.site.clone() };
        let counters = webhooks.iter().map(|webhook| webhook.counters.clone()).collect();
        // A new gate has none.
        let _ = gate.counters.webhooks.set(counters);
        Ok(Self { config, listeners, gate, places, programs, tokens, webhooks })
    }

    /// Starts all services, serves until a signal or the end of a service, and stops all services.
    async fn serve(self, flags: Flags, may_start_again: bool) -> anyhow::Result<Ended> {
        let mut signals = Signals::new()?;
        let Self { config, listeners, gate, places, programs, tokens, webhooks } = self;
        // 1. Manifests come first: requests are answered with the declared objects.
        let manifests = Manifests::new(config.manifests.clone(), config.namespace.clone(), &config.state_dir)?;
        tokio::select! {
            opened = open_state(&manifests, &places, &gate) => opened?,
            // Its files may be on a file system that does not answer.
            _ = signals.terminate.recv() => return Ok(Ended::Stopped),
            _ = signals.interrupt.recv() => return Ok(Ended::Stopped),
        }
        reload::warn_about_rules(&gate);
        // 2. Services.
        let (stop, stopped) = watch::channel(false);
        let mut services = Services::new();
        status::note_missing_programs(&config, &programs, &gate);
        let started = config.keys.clone();
        let shown = Arc::new(ArcSwap::from_pointee(settings::in_force(&config)));
        let Listeners { interfaces, bound, local, object_tls } = listeners;
        let names = (tokens, shown.clone(), places.clone());
        let kept = (object_tls, interfaces.slot_count());
        let StartedProtocols { protocols, dhcp, wake } =
            start_protocols(&mut services, &config, kept, &gate, programs, names, &stopped)?;
        spawn_local_http(&mut services, local, &protocols.http);
        let name = interfaces.first_name().map(str::to_owned);
        let interfaces = interfaces.start(bound, protocols).await;
        services.spawn(interfaces.run(stopped.clone()));
        if config.interfaces.iter().any(|interface| interface.mode == DhcpMode::Server) {
            let path = config.state_dir.join("dhcp.leases");
            let export = dhcp::serve::export(gate.clone(), path, stopped.clone());
            services.spawn(async move { export.await.context("dhcp.leases") });
        }
        let (chosen, mut is_chosen) = watch::channel(false);
        let chosen = may_start_again.then(|| {
            Box::new(move || {
                chosen.send_replace(true);
            }) as InterfaceChosen
        });
        let reload: ReloadConfig = reload::reloader(flags, started, (gate.clone(), shown), chosen);
        services.spawn(manifests.watch((places.clone(), gate.clone()), reload, signals.hang_up, stopped.clone()));
        spawn_webhooks(&mut services, webhooks, &gate, &stopped);
        spawn_controllers(&mut services, &gate, &places, stopped.clone());
        status::log_ready(&gate, name.as_deref());
        services.spawn(status::publish(gate.degradations.subscribe(), stopped));
        let _ = sd_notify::notify(&[NotifyState::Ready]);
        // 3. Serve.
        let result = tokio::select! {
            _ = signals.terminate.recv() => Ok(Ended::Stopped),
            _ = signals.interrupt.recv() => Ok(Ended::Stopped),
            Ok(_) = is_chosen.wait_for(|is_chosen| *is_chosen) => Ok(Ended::InterfaceChosen),
            Some(ended) = services.join_next() => Err(service_error(ended)),
        };
        // 4. Stop.
        if !matches!(result, Ok(Ended::InterfaceChosen)) {
            let _ = sd_notify::notify(&[NotifyState::Stopping]);
        }
        tracing::info!("stopping");
        stop.send_replace(true);
        end_services(services, config.shutdown_timeout).await;
        drop(wake);
        dhcp.join().map_err(|_| anyhow!("the DHCP thread panicked"))?;
        result
    }
}

/// Continues from the state, and applies the manifests.
async fn open_state(manifests: &Manifests, places: &Places, gate: &Arc<Gate>) -> anyhow::Result<()> {
    let (store, isos) = (gate.store.clone(), places.isos.clone());
    tokio::task::spawn_blocking(move || uploads::recover(&store, &isos)).await?;
    let lines = gate.clone();
    if let Err(error) = tokio::task::spawn_blocking(move || lines.restore_installer_lines()).await? {
        tracing::warn!(%error, "lines of installers not restored");
    }
    Ok(manifests.load(places, gate).await?)
}

/// Starts DHCP, TFTP, HTTP, iSCSI and syslog without sockets. They are told of them while they run.
fn start_protocols(
    services: &mut Services,
    config: &Config,
    (object_tls, interfaces): (Option<ServerTls>, usize),
    gate: &Arc<Gate>,
    programs: boot_files::ProgramCache,
    (tokens, shown, places): (auth::Tokens, Arc<ArcSwap<Vec<Setting>>>, Places),
    stopped: &watch::Receiver<bool>,
) -> anyhow::Result<StartedProtocols> {
    let (wake, woken) = std::os::unix::net::UnixStream::pair()?;
    let dhcp = dhcp::serve::spawn(interfaces, dhcp_settings(config), gate.clone(), woken.into())?;
    let (boot_files, progress) = (settings::boot_file_settings(config), dhcp.progress);
    let on_progress = move |mac| progress.report(mac);
    let files = Arc::new(BootFiles::open(&boot_files, gate.clone(), programs));
    let (tftp, changes) = ListenerControl::new()?;
    services.spawn(boot_files::serve(changes, &boot_files, files.clone(), on_progress, stopped.clone()));
    let (policy, per_source) = (settings::attach_policy(config), config.limits.iscsi_connections_per_source);
    let target = |_| Arc::new(admission::target(policy, per_source, gate.clone()));
    // It ends at once without a watchdog.
    tokio::spawn(watchdog::feed(gate.clone(), dhcp.queries.clone(), stopped.clone()));
    let queries = queries::connect(dhcp.queries, files, policy, gate);
    let (access, folders) = (settings::api_access(config, tokens), settings::folders(config));
    let shared = Shared::new(gate.clone(), places, folders, access, queries, shown);
    let protocols = Protocols {
        dhcp: dhcp.interfaces,
        tftp,
        http: Arc::new(HttpServer::new(Arc::new(shared), settings::http_limits(config), stopped.clone())),
        iscsi: (0..interfaces).map(target).collect(),
        syslog: SyslogReceiver::new(gate.clone()),
        object_tls,
        gate: gate.clone(),
    };
    Ok(StartedProtocols { protocols, dhcp: dhcp.thread, wake })
}

/// Waits until all services have ended, and aborts those that have not in time.
async fn end_services(mut services: Services, timeout: Duration) {
    let all = async { while services.join_next().await.is_some() {} };
    if tokio::time::timeout(timeout, all).await.is_err() {
        let timeout_seconds = timeout.as_secs();
        tracing::warn!(timeout_seconds, "services aborted at the end of shutdown_timeout");
    }
}

/// Signals: SIGHUP loads the configuration and the manifests again; SIGTERM and SIGINT stop the process.
struct Signals {
    hang_up: tokio::signal::unix::Signal,
    terminate: tokio::signal::unix::Signal,
    interrupt: tokio::signal::unix::Signal,
}

impl Signals {
    fn new() -> std::io::Result<Self> {
        Ok(Self {
            hang_up: signal(SignalKind::hangup())?,
            terminate: signal(SignalKind::terminate())?,
            interrupt: signal(SignalKind::interrupt())?,
        })
    }
}

/// Spawns HTTP on the local listeners.
fn spawn_local_http(
    services: &mut Services,
    local: Vec<std::os::unix::net::UnixListener>,
    http: &Arc<HttpServer<Shared>>,
) {
    for socket in local {
        let (http, listener) =
            (http.clone(), HttpListener { socket: HttpSocket::Unix(socket), serves: Serves::Everything });
        services.spawn(async move {
            http.serve(listener, std::future::pending()).await;
            Ok(())
        });
    }
}

/// Returns the webhooks as the readers of the queue of notifications.
fn outbox_readers(webhooks: &[WebhookTarget]) -> Vec<OutboxReader> {
    let reader =
        |webhook: &WebhookTarget| OutboxReader { name: webhook.counters.name.clone(), kinds: webhook.kinds.clone() };
    webhooks.iter().map(reader).collect()
}

/// Spawns the deliveries to each webhook.
fn spawn_webhooks(
    services: &mut Services,
    webhooks: Vec<WebhookTarget>,
    gate: &Arc<Gate>,
    stopped: &watch::Receiver<bool>,
) {
    for webhook in webhooks {
        let (gate, until) = (gate.clone(), stopped.clone());
        services.spawn(async move {
            deliveries::serve(webhook, gate, until).await;
            Ok(())
        });
    }
}

/// Spawns the controllers of hosts and images.
fn spawn_controllers(services: &mut Services, gate: &Arc<Gate>, places: &Places, stopped: watch::Receiver<bool>) {
    let (polled, until) = (gate.clone(), stopped.clone());
    services.spawn(async move {
        power::serve(polled, until).await;
        Ok(())
    });
    let (followed, until) = (gate.clone(), stopped.clone());
    services.spawn(async move {
        console::serve(followed, until).await;
        Ok(())
    });
    let (read, until) = (gate.clone(), stopped.clone());
    services.spawn(async move {
        inventory::serve(read, until).await;
        Ok(())
    });
    services.spawn(image_watch::watch(gate.clone(), places.clone(), stopped.clone()));
    services.spawn(disk_space::watch(gate.clone(), stopped.clone()));
    services.spawn(first_seen::watch(gate.clone(), stopped.clone()));
    services.spawn(cleanup::watch(gate.clone(), places.isos.clone(), stopped.clone()));
    let (compared, until) = (gate.clone(), stopped.clone());
    services.spawn(async move {
        clock::watch(compared, until).await;
        Ok(())
    });
    let (looked_at, until) = (gate.clone(), stopped.clone());
    services.spawn(async move {
        stalls::watch(looked_at, until).await;
        Ok(())
    });
    let until = stopped.clone();
    services.spawn(async move {
        memory::release_when_idle(until).await;
        Ok(())
    });
    let gate = gate.clone();
    services.spawn(async move {
        install_deadlines::watch(gate, stopped).await;
        Ok(())
    });
}

/// Returns the error of a service that ended before it was stopped.
fn service_error(ended: Result<anyhow::Result<()>, tokio::task::JoinError>) -> anyhow::Error {
    match ended.context("a service panicked") {
        Ok(Ok(())) => anyhow!("a service ended unexpectedly"),
        Ok(Err(error)) | Err(error) => error,
    }
}
