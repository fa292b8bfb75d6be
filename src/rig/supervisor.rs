//! The supervisor of a rig: the first process in its namespaces. It starts the LAN, the servers and the machines, follows what
//! is expected of them, and writes the reports.

use std::collections::BTreeMap;
use std::io::{self, Read, Write};
use std::os::unix::net::UnixStream;
use std::path::Path;
use std::process::Child;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc::{Receiver, RecvTimeoutError, SyncSender, sync_channel};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use anyhow::{Context, bail};
use nix::errno::Errno;
use nix::mount::{MsFlags, mount};
use nix::sys::signal::{SigSet, SigmaskHow, Signal, pthread_sigmask};
use nix::unistd::{Pid, getpid};
use serde_json::json;

use crate::fleet::text::printable_lines;

use super::command_line::TCG;
use super::control::{self, Call, Request};
use super::lan::fault::Faults;
use super::lan::links;
use super::lan::switch::Switch;
use super::leader::UP;
use super::machine::Machine;
use super::outputs::{self, Options};
use super::plan::Plan;
use super::progress::{GoalState, Progress, Seen, seconds};
use super::report::{junit, summary};
use super::spec::{Dhcp, Firmware};
use super::{RigExit, api, kvm, requirements, server};

/// Time between two looks at the server's hosts.
const LOOK: Duration = Duration::from_millis(300);
/// Time that the server may give no answer, or an error.
const SILENCE: Duration = Duration::from_secs(120);
/// Factor of the time limits under emulation.
const EMULATION: u32 = 10;
/// Maximum number of events that wait.
const MAX_EVENTS: usize = 256;
/// Time that a terminal has to take what a console writes.
const TERMINAL_TIMEOUT: Duration = Duration::from_millis(200);
/// Maximum number of terminals that follow consoles.
const MAX_ATTACHED: usize = 16;

/// An event of a rig.
enum Event {
    /// A machine wrote on its console; nothing if it has ended.
    Console(usize, Vec<u8>),
    /// A request of a client.
    Call(Call),
    /// The leader asks for the end, or has ended.
    Stop,
}

impl From<Call> for Event {
    fn from(call: Call) -> Self {
        Self::Call(call)
    }
}

/// Runs a rig, as the first process of its namespaces.
///
/// # Errors
/// A part of it cannot be started.
pub fn supervise(options: &Options) -> anyhow::Result<RigExit> {
    enter()?;
    follow(options).inspect_err(|error| outputs::log_error(&options.output, error))
}

/// Checks that this process is one of a rig's namespaces, and ends with its leader.
fn enter() -> anyhow::Result<()> {
    // The leader leaves /proc as it is: a process that is the first there too has the host's mounts, or its container's.
    let is_first_of_host = std::fs::read_link("/proc/self").is_ok_and(|own| own == Path::new("1"));
    if getpid() != Pid::from_raw(1) || is_first_of_host {
        bail!("rig supervise is only for the namespaces that rig test and rig up make");
    }
    nix::sys::prctl::set_pdeathsig(Signal::SIGKILL)?;
    pthread_sigmask(SigmaskHow::SIG_SETMASK, Some(&SigSet::empty()), None)?;
    Ok(())
}

fn follow(options: &Options) -> anyhow::Result<RigExit> {
    let none = None::<&str>;
    let private = mount(none, "/", none, MsFlags::MS_REC | MsFlags::MS_PRIVATE, none);
    private.map_err(|error| refused(error, "mount --make-rprivate /"))?;
    let own = mount(Some("rig"), "/run", Some("tmpfs"), MsFlags::MS_NOSUID | MsFlags::MS_NODEV, none);
    own.map_err(|error| refused(error, "mount /run"))?;
    std::fs::create_dir("/run/rig")?;
    let (events, inbox) = sync_channel(MAX_EVENTS);
    let (stop, is_stopped) = (events.clone(), Arc::new(AtomicBool::new(false)));
    let stopped = is_stopped.clone();
    std::thread::spawn(move || {
        // Nothing is sent: the pipe ends with the leader.
        let _ = io::copy(&mut io::stdin(), &mut io::sink());
        stopped.store(true, Ordering::Relaxed);
        stop.send(Event::Stop)
    });
    let mut rig = Rig::start(options, &events)?;
    control::listen(events)?;
    // A rig that was stopped while it was made is not up.
    let exit = match is_stopped.load(Ordering::Relaxed) {
        true => Ok(RigExit::Stopped),
        false => rig.power_on().and_then(|()| rig.run(&inbox)),
    };
    // A signal or an error ended it: the reports say how far it came.
    if !rig.has_told && !matches!(exit, Ok(RigExit::Met | RigExit::NotMet)) {
        rig.has_told = true;
        if let Err(error) = rig.report() {
            rig.said.say(&format!("{error:#}"));
        }
    }
    rig.stop();
    exit
}

/// Returns the error of a mount. Where it is not permitted, as in a container, the same helps as for the namespaces.
fn refused(error: Errno, what: &'static str) -> anyhow::Error {
    match error {
        Errno::EPERM | Errno::EACCES => requirements::mounts(error, what).into(),
        _ => anyhow::Error::new(error).context(what),
    }
}

/// A running rig.
struct Rig<'a> {
    options: &'a Options,
    plan: Plan,
    said: outputs::Progress,
    servers: Vec<Child>,
    machines: Vec<Machine>,
    seen: Vec<Seen>,
    progress: Progress,
    accelerator: &'static str,
    /// Terminals that follow the console of a machine.
    attached: Vec<(usize, UnixStream)>,
    /// The switch, which ends when the other half of this is dropped.
    switch: Option<(UnixStream, JoinHandle<()>)>,
    /// Names of the machines' hosts.
    hosts: Vec<Option<String>>,
    began: Instant,
    /// Time of the server's last answer.
    answered: Instant,
    /// Error in place of an answer since then.
    silent: Option<String>,
    has_told: bool,
}

impl<'a> Rig<'a> {
    fn start(options: &'a Options, events: &SyncSender<Event>) -> anyhow::Result<Self> {
        let plan = options.plan()?;
        let output = &options.output;
        let mut said = outputs::Progress::new(output)?;
        let is_arm64 = |firmware: Firmware| firmware == Firmware::Arm64;
        let has_x86 = plan.spec.machines.iter().any(|machine| !is_arm64(machine.firmware));
        let accelerator = if has_x86 && kvm::works(&outputs::run_dir(output)) { "kvm" } else { TCG };
        let factor =
            |firmware| if options.strict || (accelerator != TCG && !is_arm64(firmware)) { 1 } else { EMULATION };
        let factors: Vec<u32> = plan.spec.machines.iter().map(|machine| factor(machine.firmware)).collect();
        if accelerator == TCG {
            let limits = if options.strict { "as they are" } else { "10 times as long" };
            said.say(&format!("KVM runs no guest here: the machines are emulated, and the limits are {limits}."));
        }
        let mut switch = Switch::new(Faults::new(plan.faults.clone()), &output.join("lan.pcapng"))?;
        links::make(server::address(plan.spec.dhcp), "sw0")?;
        switch.add_server("sw0")?;
        let mut servers = Vec::new();
        if plan.spec.dhcp == Dhcp::Proxy {
            servers.push(server::start_dnsmasq(output, "sw1")?);
            switch.add_server("sw1")?;
        }
        servers.insert(0, server::start(output, options.firmware_dir.as_ref())?);
        server::declare(&plan, &options.spec, output)?;
        let mut machines: Vec<Machine> = Vec::new();
        for (index, (spec, macs)) in plan.spec.machines.iter().zip(&plan.macs).enumerate() {
            let nics = macs.iter().map(|_| switch.add_machine()).collect::<io::Result<_>>()?;
            let machine = Machine::start(spec, macs, accelerator, nics, output)?;
            follow_console(index, machine.console()?, events.clone());
            machines.push(machine);
        }
        let (stop, stopped) = UnixStream::pair()?;
        let switch = Some((stop, std::thread::spawn(move || switch.run(&stopped))));
        let progress = Progress::new(plan.goals.clone(), &factors);
        let (seen, hosts) =
            (machines.iter().map(|_| Seen::default()).collect(), machines.iter().map(|_| None).collect());
        let (attached, began) = (Vec::new(), Instant::now());
        Ok(Self {
            options,
            plan,
            said,
            servers,
            machines,
            seen,
            progress,
            accelerator,
            attached,
            hosts,
            began,
            switch,
            answered: began,
            silent: None,
            has_told: false,
        })
    }

    fn power_on(&mut self) -> anyhow::Result<()> {
        self.began = Instant::now();
        self.answered = self.began;
        for machine in &mut self.machines {
            machine.power_on().with_context(|| machine.name.clone())?;
        }
        let names: Vec<_> = self.machines.iter().map(|machine| machine.name.as_str()).collect();
        self.said.say(&format!("Power on: {}. Output: {}", names.join(", "), self.options.output.display()));
        if self.options.stays {
            self.said.say(UP);
        }
        Ok(())
    }

    /// Follows the rig until everything is decided, or somebody ends it.
    fn run(&mut self, inbox: &Receiver<Event>) -> anyhow::Result<RigExit> {
        let mut next = Instant::now();
        loop {
            match inbox.recv_timeout(next.saturating_duration_since(Instant::now())) {
                Ok(Event::Console(machine, bytes)) => self.console(machine, &bytes),
                Ok(Event::Call(Call { request: Request::Down, stream })) => {
                    // It hears of the end by the lock of the output directory.
                    self.has_told = true;
                    // What must not happen until the end is decided by a look after everything else.
                    if self.progress.is_decided() {
                        self.look()?;
                    }
                    let written = self.report();
                    let said = match &written {
                        Ok(()) if self.progress.is_met() => Ok(String::new()),
                        Ok(()) => Err("not every expectation is met: see junit.xml".to_owned()),
                        Err(error) => Err(format!("{error:#}")),
                    };
                    Call { request: Request::Down, stream }.answer(said);
                    written?;
                    return Ok(if self.progress.is_met() { RigExit::Met } else { RigExit::NotMet });
                }
                Ok(Event::Call(call)) => self.call(call),
                Ok(Event::Stop) | Err(RecvTimeoutError::Disconnected) => return Ok(RigExit::Stopped),
                Err(RecvTimeoutError::Timeout) => {}
            }
            // A console that is never silent does not put it off.
            if Instant::now() >= next {
                self.look()?;
                next = Instant::now() + LOOK;
            }
            if self.progress.is_over() && !self.has_told && !self.plan.goals.is_empty() {
                self.has_told = true;
                self.report()?;
                if !self.options.stays {
                    return Ok(if self.progress.is_met() { RigExit::Met } else { RigExit::NotMet });
                }
            }
        }
    }

    fn console(&mut self, machine: usize, bytes: &[u8]) {
        if bytes.is_empty() {
            self.seen[machine].has_ended = true;
            self.said.say(&format!("[{}] {}: has ended", self.clock(), self.machines[machine].name));
        }
        // A terminal that does not keep up is let go.
        self.attached.retain_mut(|(follows, stream)| *follows != machine || stream.write_all(bytes).is_ok());
        let text = self.machines[machine].heard(bytes, self.began.elapsed());
        self.seen[machine].console.push(&text);
        self.advance(machine);
    }

    /// Looks at the server's hosts, and at the time.
    fn look(&mut self) -> anyhow::Result<()> {
        for (server, name) in self.servers.iter_mut().zip(["bootlatch", "dnsmasq"]) {
            if let Some(status) = server.try_wait()? {
                bail!(
                    "{name} has ended ({status}): see {}",
                    self.options.output.join(name).display().to_string() + ".log"
                );
            }
        }
        // What was decided before is older than what is read now.
        let was_decided = self.progress.is_decided();
        let found = match api::hosts(Path::new(server::SOCKET), &self.plan.macs) {
            Ok(found) => Some(found),
            // A server that has not ended is asked again.
            Err(error) if self.answered.elapsed() < SILENCE => {
                let is_new = self.silent.replace(error.to_string()).is_none_or(|before| before != error.to_string());
                if is_new {
                    self.said.say(&format!("[{}] bootlatch's API: {error}", self.clock()));
                }
                None
            }
            Err(error) => return Err(error).context("bootlatch's API"),
        };
        if found.is_some() {
            (self.answered, self.silent) = (Instant::now(), None);
        }
        let is_fresh = was_decided && found.is_some();
        for (machine, host) in found.into_iter().flatten().enumerate() {
            if let Some(host) = host {
                let seen = &mut self.seen[machine];
                if seen.phases.insert(host.phase.clone()) {
                    let line = format!("[{}] {}: {}", clock(self.began), self.machines[machine].name, host.phase);
                    self.said.say(&line);
                }
                (seen.events, seen.diagnosis) = (host.events, host.diagnosis);
                self.hosts[machine] = Some(host.name);
            }
        }
        self.look_at_machines();
        (0..self.machines.len()).for_each(|machine| self.advance(machine));
        if is_fresh {
            self.progress.close_forbidden();
        }
        Ok(())
    }

    /// Looks for machines that KVM cannot go on with.
    fn look_at_machines(&mut self) {
        for (machine, seen) in self.machines.iter_mut().zip(&mut self.seen) {
            if self.accelerator != TCG && !seen.has_ended && machine.has_stopped() {
                seen.has_ended = true;
                let (time, name) = (clock(self.began), &machine.name);
                self.said
                    .say(&format!("[{time}] {name}: QEMU has stopped it, with an error of KVM: see {name}.qemu.log"));
            }
        }
    }

    fn advance(&mut self, machine: usize) {
        for index in self.progress.advance(machine, &self.seen[machine], self.began.elapsed()) {
            self.press_keys(machine, index);
            // One that was met at the same time as one whose keys are refused is skipped.
            let Some((goal, state)) = self.progress.states().nth(index) else { continue };
            let name = &self.machines[goal.machine].name;
            let line = format!("[{}] {}", clock(self.began), summary::line(name, goal, state));
            let error = match state {
                GoalState::Failed(.., reason) if std::env::var_os("GITHUB_ACTIONS").is_some() => {
                    Some(summary::github_error(&self.options.spec.display().to_string(), name, goal, reason))
                }
                _ => None,
            };
            self.said.say(&line);
            error.iter().for_each(|error| self.said.say(error));
        }
    }

    /// Presses the keys of an expectation that is met. One whose keys QEMU refuses is not.
    fn press_keys(&mut self, machine: usize, index: usize) {
        let Some((goal, GoalState::Met(..))) = self.progress.states().nth(index) else { return };
        let keys = goal.press.clone();
        if let Err(error) = self.machines[machine].press(&keys) {
            self.progress.fail(index, format!("keys not pressed: {error}"));
        }
    }

    fn clock(&self) -> String {
        clock(self.began)
    }

    fn call(&mut self, call: Call) {
        let find = |name: &str| {
            let found = self.machines.iter().position(|machine| machine.name == name);
            found.ok_or_else(|| format!("no machine {name:?}"))
        };
        let said = |result: io::Result<()>| result.map(|()| String::new()).map_err(|error| error.to_string());
        let result = match &call.request {
            Request::Status => Ok(self.status()),
            Request::Console(name) => match find(name) {
                Ok(machine) => return self.attach(machine, call),
                Err(error) => Err(error),
            },
            Request::Screenshot(name, file) => find(name).and_then(|at| said(self.machines[at].screenshot(file))),
            Request::Press(name, keys) => find(name).and_then(|at| said(self.machines[at].press(keys))),
            Request::Down => Ok(String::new()),
        };
        call.answer(result);
    }

    fn attach(&mut self, machine: usize, call: Call) {
        if self.attached.len() == MAX_ATTACHED {
            call.answer(Err(format!("{MAX_ATTACHED} terminals follow consoles already")));
            return;
        }
        let console = self.machines[machine].console();
        let (Ok(mut console), Ok(mut typed)) = (console, call.stream.try_clone()) else { return };
        let stream = call.answer(Ok(format!("The console of {}.", self.machines[machine].name)));
        if stream.set_write_timeout(Some(TERMINAL_TIMEOUT)).is_err() {
            return;
        }
        self.attached.push((machine, stream));
        std::thread::spawn(move || io::copy(&mut typed, &mut console));
    }

    fn status(&self) -> String {
        let mut text = format!("Up for {}. Output: {}\n", self.clock(), self.options.output.display());
        for (machine, (seen, host)) in self.machines.iter().zip(self.seen.iter().zip(&self.hosts)) {
            let state = if seen.has_ended { "has ended" } else { "runs" };
            let host = host.as_deref().unwrap_or("none yet");
            let diagnosis = seen.diagnosis.as_ref().map_or_else(String::new, |reason| format!("; diagnosis: {reason}"));
            text += &format!("{}: {state}; host: {host}{diagnosis}\n", machine.name);
        }
        for (goal, state) in self.progress.states() {
            text += &format!("{}\n", summary::line(&self.machines[goal.machine].name, goal, state));
        }
        let pid = outputs::pid(&self.options.output).unwrap_or_default();
        text + &format!("Server: --server unix:/proc/{pid}/root{}\n", server::SOCKET)
    }

    /// Writes the reports, and says what was not met. One that cannot be written does not keep the others from being written.
    fn report(&mut self) -> anyhow::Result<()> {
        let output = &self.options.output;
        let total = self.began.elapsed();
        for machine in &mut self.machines {
            // A machine that has ended has no screen.
            let _ = machine.screenshot(&output.join(format!("{}.png", machine.name)));
        }
        let mut unwritten = None;
        let mut write = |name: &str, text: &str| {
            let file = output.join(name);
            if let Err(error) = std::fs::write(&file, text) {
                unwritten.get_or_insert(anyhow::Error::new(error).context(file.display().to_string()));
            }
        };
        let faults: Vec<_> = self.plan.faults.iter().map(ToString::to_string).collect();
        let faults = match faults.is_empty() {
            true => String::new(),
            false => format!("\nFaults of the rig's LAN: {}", faults.join("; ")),
        };
        let mut reasons = BTreeMap::new();
        for ((machine, host), seen) in self.machines.iter().zip(&self.hosts).zip(&self.seen) {
            let why = match host {
                Some(host) => server::client(&["why", host]).unwrap_or_else(|error| error.to_string()),
                None => "The server knows of no such machine: none of its frames asked for an address.\n".to_owned(),
            };
            write(&format!("{}.why.txt", machine.name), &why);
            let console = seen.console.last_lines();
            let console = if console.is_empty() { "nothing was written on it" } else { console.as_str() };
            let details = format!("{}{faults}\nThe end of its console:\n{console}", why.trim_end());
            reasons.insert(machine.name.clone(), printable_lines(&details).into_owned());
        }
        if let Ok(timeline) = api::read(Path::new(server::SOCKET), "/api/v1/timeline") {
            write("timeline.json", &serde_json::to_string_pretty(&json!(timeline))?);
        }
        let name = self.options.spec.file_stem().unwrap_or_default().to_string_lossy().into_owned();
        let states = self.progress.states();
        let cases: Vec<summary::Case<'_>> =
            states.map(|(goal, state)| (self.machines[goal.machine].name.as_str(), goal, state)).collect();
        let why = |machine: &str| reasons.get(machine).cloned().unwrap_or_default();
        write("junit.xml", &junit::report(&name, &cases, total, why));
        if let Some(file) = std::env::var_os("GITHUB_STEP_SUMMARY") {
            let markdown = summary::markdown(&name, &cases);
            let file = std::fs::File::options().append(true).open(file);
            // It is a copy of what is printed.
            let _ = file.and_then(|mut file| file.write_all(markdown.as_bytes()));
        }
        let is_met = |state: &GoalState| matches!(state, GoalState::Met(..));
        let met = cases.iter().filter(|(.., state)| is_met(state)).count();
        let mut lines = Vec::new();
        let mut failed: Vec<&str> = cases.iter().filter(|(.., state)| !is_met(state)).map(|(name, ..)| *name).collect();
        failed.dedup();
        for name in failed {
            lines.push(format!("\nWhy {name} is not there:\n{}", why(name).trim_end()));
        }
        lines.push(format!(
            "{met} of {} expectations met in {}. Output: {}",
            cases.len(),
            seconds(total),
            output.display()
        ));
        drop(cases);
        lines.iter().for_each(|line| self.said.say(line));
        unwritten.map_or(Ok(()), Err)
    }

    /// Ends the machines, the switch, then the servers.
    fn stop(&mut self) {
        self.machines.iter_mut().for_each(Machine::stop);
        if let Some((stop, switch)) = self.switch.take() {
            drop(stop);
            // It has nothing to return.
            let _ = switch.join();
        }
        for server in &mut self.servers {
            // What is left ends with this process, the first of its namespace.
            let _ = server.kill();
            let _ = server.wait();
        }
    }
}

fn clock(began: Instant) -> String {
    format!("{:>7}", seconds(began.elapsed()))
}

/// Passes on what a machine writes on its console.
fn follow_console(machine: usize, mut console: UnixStream, events: SyncSender<Event>) {
    std::thread::spawn(move || {
        let mut buffer = [0; 16_384];
        loop {
            let length = console.read(&mut buffer).unwrap_or(0);
            let is_sent = events.send(Event::Console(machine, buffer[..length].to_vec())).is_ok();
            if length == 0 || !is_sent {
                return;
            }
        }
    });
}
