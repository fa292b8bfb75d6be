//! The composition root: reads the configuration, binds all sockets, drops privileges, starts the services, and stops
//! them in order.

mod capabilities;
mod doctor;
mod listeners;
mod local_sockets;
mod log;
mod memory;
mod privileges;
mod queries;
mod reload;
mod settings;
mod state_dir;
mod unconfigured;
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
use crate::api::state::Shared;
use crate::config::{Config, DhcpMode, Flags, Logged, StartRefused};
use crate::controllers::manifests::{Manifests, ReloadConfig};
use crate::controllers::webhooks as deliveries;
use crate::controllers::webhooks::WebhookTarget;
use crate::controllers::{cleanup, clock, disk_space, first_seen, image_watch, install_deadlines, power, stalls};
use crate::dhcpv6::serve::FirmwareListener;
use crate::gate::tokens::BootTokens;
use crate::gate::{EnrolmentBounds, Gate};
use crate::http::connection_limits::HttpLimits;
use crate::http::listener::{self, HttpListener, HttpSocket};
use crate::http::peer::Serves;
use crate::images::library::ImageLibrary;
use crate::images::uploads;
use crate::iscsi::serve::admission;
use crate::store::{OpenOptions, OutboxReader, Seal, Store};
use crate::syslog::serve::{self as syslog, SyslogSockets};
use crate::tftp::serve::boot_files::{self, BootFiles};
use crate::{dhcp, ndp};

pub use doctor::examine;
use listeners::Listeners;
use settings::dhcp_settings;

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
    let config = match unconfigured::load(&flags) {
        Ok(None) => return Ok(()),
        Ok(Some(config)) => Ok(config),
        Err(error) => Err(error),
    };
    // A broken file does not name the format of the log.
    let format = config.as_ref().map_or_else(|_| flags.log_format.unwrap_or_default(), |config| config.log_format);
    let is_text = log::start(format);
    let ended = config.and_then(|config| serve(config, flags));
    match ended {
        Err(error) if !is_text => {
            tracing::error!(error = format!("{error:#}"), "the server ended");
            Err(error.context(Logged))
        }
        ended => ended,
    }
}

/// Runs the appliance with a configuration.
fn serve(config: Config, flags: Flags) -> anyhow::Result<()> {
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
    let listeners = capabilities::while_binding(|| Listeners::bind(&config, &dhcp_settings(&config)))?;
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
    let result = runtime.block_on(Appliance::new(config, listeners, programs, store, isos, webhooks)?.serve(flags));
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
        let site = Arc::new(settings::site(&config, &listeners));
        let places = Places { isos, site: site.clone() };
        let boot_tokens = BootTokens::open(&config.state_dir).context("state_dir: token.key")?;
        let gate = Gate::new(site, store, ImageLibrary::new(places.isos.clone()), boot_tokens);
        let gate = Arc::new(Gate { enrolment: EnrolmentBounds::new(config.limits.first_seen), ..gate });
        let counters = webhooks.iter().map(|webhook| webhook.counters.clone()).collect();
        // A new gate has none.
        let _ = gate.counters.webhooks.set(counters);
        Ok(Self { config, listeners, gate, places, programs, tokens, webhooks })
    }

    /// Starts all services, serves until a signal or the end of a service, and stops all services.
    async fn serve(self, flags: Flags) -> anyhow::Result<()> {
        let mut signals = Signals::new()?;
        let Self { config, listeners, gate, places, programs, tokens, webhooks } = self;
        let Listeners { address, dhcp, tftp, http, api, objects, iscsi, syslog: syslog_sockets, .. } = listeners;
        let (solicitations, firmware_v6) = (listeners.solicitations, listeners.firmware_v6);
        // 1. Manifests come first: requests are answered with the declared objects.
        let manifests = Manifests::new(config.manifests.clone(), config.namespace.clone(), &config.state_dir)?;
        let opened = async {
            let (store, isos) = (gate.store.clone(), places.isos.clone());
            tokio::task::spawn_blocking(move || uploads::recover(&store, &isos)).await?;
            let lines = gate.clone();
            if let Err(error) = tokio::task::spawn_blocking(move || lines.restore_installer_lines()).await? {
                tracing::warn!(%error, "lines of installers not restored");
            }
            anyhow::Ok(manifests.load(&places, &gate).await?)
        };
        tokio::select! {
            opened = opened => opened?,
            // Its files may be on a file system that does not answer.
            _ = signals.terminate.recv() => return Ok(()),
            _ = signals.interrupt.recv() => return Ok(()),
        }
        reload::warn_about_rules(&gate);
        // 2. Services. The DHCP thread stops when its end of the socket pair is closed.
        let (stop, stopped) = watch::channel(false);
        let mut services = Services::new();
        let (wake, woken) = std::os::unix::net::UnixStream::pair()?;
        let dhcp = dhcp::serve::spawn(dhcp, dhcp_settings(&config), gate.clone(), woken.into())?;
        let (boot_files, progress) = (settings::boot_file_settings(&config), dhcp.progress);
        let on_progress = move |mac| progress.report(mac);
        let files = Arc::new(BootFiles::open(&tftp, &boot_files, gate.clone(), programs));
        services.spawn(boot_files::serve(tftp, &boot_files, files.clone(), on_progress, stopped.clone()));
        let (policy, per_source) = (settings::attach_policy(&config), config.limits.iscsi_connections_per_source);
        for listener in iscsi {
            services.spawn(admission::serve(listener, policy, per_source, gate.clone(), stopped.clone()));
        }
        spawn_syslog(&mut services, syslog_sockets, &gate, &stopped);
        let access = settings::api_access(&config, tokens);
        let folders = settings::folders(&config);
        let shown = Arc::new(ArcSwap::from_pointee(settings::in_force(&config)));
        let reload: ReloadConfig = reload::reloader(flags, config.keys.clone(), (gate.clone(), shown.clone()));
        let fed = watchdog::feed(gate.clone(), dhcp.queries.clone(), stopped.clone());
        let queries = queries::connect(dhcp.queries, files, policy, &gate);
        let shared = Shared::new(gate.clone(), places.clone(), folders, access, queries, shown, manifests.faults());
        let limits = settings::http_limits(&config);
        spawn_http(&mut services, http_listeners(http, objects, api), shared, limits, stopped.clone());
        spawn_side_services(&mut services, (solicitations, firmware_v6), &config, &gate, &stopped);
        services.spawn(manifests.watch((places.clone(), gate.clone()), reload, signals.hang_up, stopped.clone()));
        spawn_webhooks(&mut services, webhooks, &gate, &stopped);
        spawn_controllers(&mut services, &gate, &places, stopped);
        // It ends at once without a watchdog.
        tokio::spawn(fed);
        tracing::info!(interface = config.interfaces[0].name, %address, "ready");
        let _ = sd_notify::notify(&[NotifyState::Ready]);
        // 3. Serve.
        let result = tokio::select! {
            _ = signals.terminate.recv() => Ok(()),
            _ = signals.interrupt.recv() => Ok(()),
            Some(ended) = services.join_next() => Err(service_error(ended)),
        };
        // 4. Stop.
        let _ = sd_notify::notify(&[NotifyState::Stopping]);
        tracing::info!("stopping");
        stop.send_replace(true);
        end_services(services, config.shutdown_timeout).await;
        drop(wake);
        dhcp.thread.join().map_err(|_| anyhow!("the DHCP thread panicked"))?;
        result
    }
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

/// Returns the HTTP listeners with what each serves. With `api.listen`, the machines' listeners serve no objects.
fn http_listeners(
    machines: Vec<std::net::TcpListener>,
    objects: Option<HttpSocket>,
    local: Vec<std::os::unix::net::UnixListener>,
) -> Vec<HttpListener> {
    let serves = if objects.is_some() { Serves::Machines } else { Serves::Everything };
    let machines = machines.into_iter().map(|listener| HttpListener { socket: HttpSocket::Tcp(listener), serves });
    let objects = objects.into_iter().chain(local.into_iter().map(HttpSocket::Unix));
    machines.chain(objects.map(|socket| HttpListener { socket, serves: Serves::Everything })).collect()
}

/// Spawns HTTP on all its listeners.
fn spawn_http(
    services: &mut Services,
    listeners: Vec<HttpListener>,
    shared: Shared,
    limits: HttpLimits,
    stopped: watch::Receiver<bool>,
) {
    services.spawn(async move {
        listener::serve(listeners, Arc::new(shared), limits, stopped).await;
        Ok(())
    });
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
        let (store, source, until) = (gate.store.clone(), gate.site().url(), stopped.clone());
        services.spawn(async move {
            deliveries::serve(webhook, store, source, until).await;
            Ok(())
        });
    }
}

/// Spawns the syslog receiver, if it has sockets.
fn spawn_syslog(services: &mut Services, sockets: SyslogSockets, gate: &Arc<Gate>, stopped: &watch::Receiver<bool>) {
    if !sockets.udp.is_empty() {
        let serve = syslog::serve(sockets, gate.clone(), stopped.clone());
        services.spawn(async move { serve.await.context("syslog") });
    }
}

/// Spawns the answers to router solicitations, the ear for DHCPv6, and the export of the leases in server mode.
fn spawn_side_services(
    services: &mut Services,
    (solicitations, firmware_v6): (Vec<socket2::Socket>, Vec<FirmwareListener>),
    config: &Config,
    gate: &Arc<Gate>,
    stopped: &watch::Receiver<bool>,
) {
    for socket in solicitations {
        let serve = ndp::serve::serve(socket, gate.clone(), stopped.clone());
        services.spawn(async move { serve.await.context("router solicitations") });
    }
    for listener in firmware_v6 {
        let serve = listener.serve(gate.clone(), stopped.clone());
        services.spawn(async move { serve.await.context("DHCPv6") });
    }
    if config.interfaces.iter().any(|interface| interface.mode == DhcpMode::Server) {
        let path = config.state_dir.join("dhcp.leases");
        let export = dhcp::serve::export(gate.clone(), path, stopped.clone());
        services.spawn(async move { export.await.context("dhcp.leases") });
    }
}

/// Spawns the controllers of hosts and images.
fn spawn_controllers(services: &mut Services, gate: &Arc<Gate>, places: &Places, stopped: watch::Receiver<bool>) {
    let (polled, until) = (gate.clone(), stopped.clone());
    services.spawn(async move {
        power::serve(polled, until).await;
        Ok(())
    });
    services.spawn(image_watch::watch(gate.clone(), places.clone(), stopped.clone()));
    services.spawn(disk_space::watch(gate.clone(), stopped.clone()));
    services.spawn(first_seen::watch(gate.clone(), stopped.clone()));
    services.spawn(cleanup::watch(gate.clone(), places.isos.clone(), stopped.clone()));
    let (store, until) = (gate.store.clone(), stopped.clone());
    services.spawn(async move {
        clock::watch(store, until).await;
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
