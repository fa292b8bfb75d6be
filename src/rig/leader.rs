//! The leader of a rig: checks the specification, makes the namespaces, starts the supervisor in them, and passes signals on.

use std::io::{self, PipeReader, Read, Write};
use std::os::fd::AsFd;
use std::os::unix::process::CommandExt;
use std::process::{Child, Command, ExitStatus, Stdio};
use std::time::{Duration, Instant};

use anyhow::Context;
use nix::errno::Errno;
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use nix::sched::{CloneFlags, unshare};
use nix::sys::signal::{SigSet, Signal, kill};
use nix::sys::signalfd::{SfdFlags, SignalFd};
use nix::unistd::{Pid, getegid, geteuid, setsid};

use super::outputs::{self, Options};
use super::plan::Plan;
use super::{Missing, RigExit, SpecError, requirements, server};

/// This program.
const PROGRAM: &str = "/proc/self/exe";
/// Time that a rig has to end after a signal.
const END_TIMEOUT: Duration = Duration::from_secs(20);
/// Line by which the supervisor of `rig up` says that all machines run.
pub const UP: &str = "The rig is up.";

/// Runs a rig until everything that is expected of it is decided.
///
/// # Errors
/// [`SpecError`], [`Missing`], or what else the rig cannot be started for.
pub fn test(options: Options) -> anyhow::Result<RigExit> {
    if options.plan()?.goals.is_empty() {
        let message = "expect: missing: there is nothing to test".to_owned();
        return Err(SpecError { path: options.spec, line: 1, message }.into());
    }
    lead(options)
}

/// Starts a rig in the background, and returns when its machines run.
///
/// # Errors
/// Those of [`test()`].
pub fn up(mut options: Options) -> anyhow::Result<RigExit> {
    let plan = options.plan()?;
    requirements::check(&plan)?;
    drop(options.lock(&plan)?);
    let mut command = Command::new(PROGRAM);
    command.args(["rig", "hold", &serde_json::to_string(&options)?]);
    // What it writes after this process has ended is only in its log: nobody waits for the end of this one's output then.
    let (output, theirs) = io::pipe()?;
    // A pipe that ends before something is in it ends the rig: this process was killed.
    command.stdin(Stdio::piped()).stdout(theirs.try_clone()?).stderr(theirs);
    let signal_fd = take_signals()?;
    let mut child = command.spawn().context(PROGRAM)?;
    drop(command);
    let up = pass_on(&mut child, output, &signal_fd);
    if up.is_err() {
        let _ = kill(pid_of(&child), Signal::SIGTERM);
        let _ = child.wait();
    }
    up
}

/// Passes on what a rig writes until it is up, and signals to it.
fn pass_on(child: &mut Child, mut output: PipeReader, signals: &SignalFd) -> anyhow::Result<RigExit> {
    let (mut last, mut is_stopped) = (Vec::new(), false);
    let mut buffer = [0; 4096];
    loop {
        let mut waits =
            [PollFd::new(signals.as_fd(), PollFlags::POLLIN), PollFd::new(output.as_fd(), PollFlags::POLLIN)];
        match poll(&mut waits, PollTimeout::NONE) {
            Ok(_) | Err(Errno::EINTR) => {}
            Err(error) => return Err(error.into()),
        }
        let is_readable = waits[1].any().unwrap_or(false);
        while let Some(signal) = signals.read_signal()? {
            if signal.ssi_signo != Signal::SIGCHLD as u32 {
                // The second one kills, as that of a leader does.
                is_stopped = true;
                kill(pid_of(child), Signal::SIGTERM)?;
            }
        }
        if !is_readable {
            continue;
        }
        let length = output.read(&mut buffer)?;
        if length == 0 {
            let status = child.wait()?;
            return if is_stopped { Ok(RigExit::Stopped) } else { exit_of(status) };
        }
        io::stdout().write_all(&buffer[..length]).and_then(|()| io::stdout().flush())?;
        for byte in &buffer[..length] {
            match byte {
                b'\n' if last == UP.as_bytes() && !is_stopped => {
                    let stdin = child.stdin.take().context("the rig's standard input")?;
                    (&stdin).write_all(b"\n").context("the rig has ended")?;
                    return Ok(RigExit::Met);
                }
                b'\n' => last.clear(),
                _ if last.len() <= UP.len() => last.push(*byte),
                _ => {}
            }
        }
    }
}

fn pid_of(child: &Child) -> Pid {
    Pid::from_raw(child.id().cast_signed())
}

/// Takes the signals that end a rig, and that of the end of a child, as what a descriptor reads.
fn take_signals() -> nix::Result<SignalFd> {
    let mut signals = SigSet::empty();
    for signal in [Signal::SIGINT, Signal::SIGTERM, Signal::SIGHUP, Signal::SIGCHLD] {
        signals.add(signal);
    }
    signals.thread_block()?;
    SignalFd::with_flags(&signals, SfdFlags::SFD_CLOEXEC | SfdFlags::SFD_NONBLOCK)
}

/// Runs a rig that stays, apart from the terminal that started it.
///
/// # Errors
/// Those of [`test()`].
pub fn hold(options: Options) -> anyhow::Result<RigExit> {
    // It fails only for the leader of a process group, which has no terminal then.
    let _ = setsid();
    lead(options)
}

fn lead(mut options: Options) -> anyhow::Result<RigExit> {
    let plan = options.plan()?;
    requirements::check(&plan)?;
    let _lock = options.lock(&plan)?;
    let ended = run(&options, plan);
    if !options.keep_disks {
        options.remove_disposable();
    }
    ended.inspect_err(|error| outputs::log_error(&options.output, error))
}

fn run(options: &Options, plan: Plan) -> anyhow::Result<RigExit> {
    let directories = server::configure(&plan, &options.spec, &options.output, options.firmware_dir.as_ref())?;
    requirements::boot_programs(&directories)?;
    drop(plan);
    let signal_fd = take_signals()?;
    make_namespaces()?;
    let child = start_supervisor(options)?;
    options.write_pid(child.id())?;
    wait(child, &signal_fd, options.stays)
}

/// Starts the supervisor as the first process of the new PID namespace.
fn start_supervisor(options: &Options) -> anyhow::Result<Child> {
    let mut command = Command::new(PROGRAM);
    command.args(["rig", "supervise", &serde_json::to_string(options)?]);
    // The pipe ends with this process.
    command.stdin(Stdio::piped()).process_group(0);
    let path = std::env::var("PATH").unwrap_or_else(|_| "/usr/bin:/bin".to_owned());
    command.env("PATH", format!("{path}:/usr/sbin:/sbin"));
    command.spawn().context(PROGRAM)
}

/// Waits for the supervisor; ends it at a signal. `is_held`: until something is in standard input, its end is one too.
fn wait(mut child: Child, signals: &SignalFd, mut is_held: bool) -> anyhow::Result<RigExit> {
    let mut end = None;
    let mut stdin = io::stdin();
    loop {
        if let Some(status) = child.try_wait()? {
            return Ok(if end.is_some() { RigExit::Stopped } else { exit_of(status)? });
        }
        let left = end.map(|end: Instant| end.saturating_duration_since(Instant::now()));
        if left.is_some_and(|left| left.is_zero()) {
            child.kill()?;
        }
        let timeout = left.map_or(PollTimeout::NONE, |left| PollTimeout::try_from(left).unwrap_or(PollTimeout::ZERO));
        let held = stdin.as_fd();
        let mut waits = [PollFd::new(signals.as_fd(), PollFlags::POLLIN), PollFd::new(held, PollFlags::POLLIN)];
        match poll(&mut waits[..1 + usize::from(is_held)], timeout) {
            Ok(_) | Err(Errno::EINTR) => {}
            Err(error) => return Err(error.into()),
        }
        if is_held && waits[1].any().unwrap_or(false) {
            is_held = false;
            if stdin.read(&mut [0]).unwrap_or(0) == 0 {
                drop(child.stdin.take());
                end = Some(Instant::now() + END_TIMEOUT);
            }
        }
        while let Some(signal) = signals.read_signal()? {
            if signal.ssi_signo == Signal::SIGCHLD as u32 {
                continue;
            }
            // The end of its input ends the supervisor. A second signal kills it.
            drop(child.stdin.take());
            end = Some(if end.is_some() { Instant::now() } else { Instant::now() + END_TIMEOUT });
        }
    }
}

fn exit_of(status: ExitStatus) -> anyhow::Result<RigExit> {
    let known = [RigExit::Met, RigExit::NotMet, RigExit::WrongSpec, RigExit::Lacking, RigExit::Stopped];
    let found = known.into_iter().find(|exit| status.code() == Some(i32::from(exit.code())));
    found.ok_or_else(|| anyhow::anyhow!("the supervisor of the rig has ended: {status}"))
}

/// Makes the namespaces: this process enters all but that of processes, which its children are in. This process must have one
/// thread.
fn make_namespaces() -> Result<(), Missing> {
    let (uid, gid) = (geteuid(), getegid());
    let own = CloneFlags::CLONE_NEWNET | CloneFlags::CLONE_NEWNS | CloneFlags::CLONE_NEWPID | CloneFlags::CLONE_NEWIPC;
    // Root needs no user namespace, in which it could not read other users' files. In a container it may not do without.
    if uid.is_root() && unshare(own).is_ok() {
        return Ok(());
    }
    unshare(own | CloneFlags::CLONE_NEWUSER).map_err(requirements::namespaces)?;
    let map = || {
        if !uid.is_root() {
            std::fs::write("/proc/self/setgroups", "deny")?;
        }
        std::fs::write("/proc/self/uid_map", format!("0 {uid} 1"))?;
        std::fs::write("/proc/self/gid_map", format!("0 {gid} 1"))
    };
    map().map_err(|error: io::Error| {
        requirements::namespaces(Errno::from_raw(error.raw_os_error().unwrap_or(libc::EPERM)))
    })
}
