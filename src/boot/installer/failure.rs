//! Which line of an installer says why it stopped.

use super::{InstallerLine, InstallerSource, LogLevel};

/// The reason that an installer gives for its end, by its own words.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum InstallerFailure {
    /// The kernel panicked.
    KernelPanic,
    /// The machine has too little memory.
    OutOfMemory,
    /// A disk is full or too small.
    OutOfSpace,
    /// No disk was found, or not the one that the config names.
    NoDisk,
    /// Reads or writes of a disk fail.
    DiskError,
    /// The partitioning failed.
    Partitioning,
    /// The installer's own medium was not found.
    MediumNotFound,
    /// The config could not be fetched.
    ConfigNotFetched,
    /// The config is not valid for this installer.
    ConfigInvalid,
    /// The config leaves a question open.
    Question,
    /// No network could be configured.
    NoNetwork,
    /// The mirror or the repository cannot be reached, or has no such release.
    Mirror,
    /// The modules of the running kernel are not on the mirror: the installer is older than the mirror.
    KernelModules,
    /// A package is missing or cannot be installed.
    Package,
    /// A script of the config failed.
    Script,
    /// The boot loader could not be installed.
    BootLoader,
    /// The installer crashed.
    Crash,
    /// A step failed; the line does not say why.
    StepFailed,
    /// A program of the installer reported an error; the line has its words.
    ProgramError,
}

impl InstallerFailure {
    /// All failures.
    pub const ALL: [Self; 19] = [
        Self::KernelPanic,
        Self::OutOfMemory,
        Self::OutOfSpace,
        Self::NoDisk,
        Self::DiskError,
        Self::Partitioning,
        Self::MediumNotFound,
        Self::ConfigNotFetched,
        Self::ConfigInvalid,
        Self::Question,
        Self::NoNetwork,
        Self::Mirror,
        Self::KernelModules,
        Self::Package,
        Self::Script,
        Self::BootLoader,
        Self::Crash,
        Self::StepFailed,
        Self::ProgramError,
    ];

    /// Returns the code of the failure, in snake case.
    pub fn code(self) -> &'static str {
        match self {
            Self::KernelPanic => "kernel_panic",
            Self::OutOfMemory => "out_of_memory",
            Self::OutOfSpace => "out_of_space",
            Self::NoDisk => "no_disk",
            Self::DiskError => "disk_error",
            Self::Partitioning => "partitioning",
            Self::MediumNotFound => "medium_not_found",
            Self::ConfigNotFetched => "config_not_fetched",
            Self::ConfigInvalid => "config_invalid",
            Self::Question => "question",
            Self::NoNetwork => "no_network",
            Self::Mirror => "mirror",
            Self::KernelModules => "kernel_modules",
            Self::Package => "package",
            Self::Script => "script",
            Self::BootLoader => "boot_loader",
            Self::Crash => "crash",
            Self::StepFailed => "step_failed",
            Self::ProgramError => "program_error",
        }
    }

    /// Returns one sentence for people, without the full stop.
    pub fn sentence(self) -> &'static str {
        match self {
            Self::KernelPanic => "its kernel panicked",
            Self::OutOfMemory => "it has too little memory",
            Self::OutOfSpace => "a disk is full or too small",
            Self::NoDisk => "it found no disk, or not the one that its config names",
            Self::DiskError => "reads or writes of a disk fail",
            Self::Partitioning => "it could not partition its disk",
            Self::MediumNotFound => "the installer did not find its own medium",
            Self::ConfigNotFetched => "the installer could not fetch its config",
            Self::ConfigInvalid => "the installer does not accept its config",
            Self::Question => "its config leaves a question open, and the installer waits for the answer",
            Self::NoNetwork => "the installer could not configure its network",
            Self::Mirror => "the installer cannot use its mirror or repository",
            Self::KernelModules => {
                "the mirror has no modules for the installer's kernel: the ISO is older than the mirror"
            }
            Self::Package => "a package is missing or cannot be installed",
            Self::Script => "a script of its config failed",
            Self::BootLoader => "the boot loader could not be installed",
            Self::Crash => "the installer crashed",
            Self::StepFailed => "a step of the installer failed",
            Self::ProgramError => "the installer reports an error",
        }
    }

    /// Returns whether the line names the cause. A less specific failure that follows is its consequence.
    pub fn is_specific(self) -> bool {
        !matches!(self, Self::StepFailed | Self::ProgramError | Self::Crash | Self::Script)
    }
}

/// Returns the failure that a line of an installer reports; `None` for a line of an install that goes on, as far as one can
/// tell.
pub fn installer_failure(line: &InstallerLine) -> Option<InstallerFailure> {
    let message = line.message.to_ascii_lowercase();
    let stage = line.stage.as_deref().unwrap_or_default().to_ascii_lowercase();
    if stage == "kernel" {
        return kernel_failure(&message);
    }
    // Installers try alternatives, and say so at this level.
    if line.level == Some(LogLevel::Debug) {
        return None;
    }
    named_failure(&message).or_else(|| step_failure(line, &stage, &message))
}

/// Phrases, in lower case, that name a cause. A row matches if the message contains all its parts; the first row decides.
const PHRASES: &[(InstallerFailure, &[&[&str]])] = &[
    (InstallerFailure::KernelPanic, &[&["kernel panic - not syncing"]]),
    (
        InstallerFailure::OutOfMemory,
        &[&["cannot allocate memory"], &["out of memory"], &["not enough memory"], &["of memory to install"]],
    ),
    (
        InstallerFailure::NoDisk,
        &[
            &["no disk drive was detected"],
            &["no disk drives"],
            &["no disk found"],
            &["no disks found"],
            &["no disk was found"],
            &["no disks were found"],
            &["no disks detected"],
            &["no usable disk"],
            &["no suitable disk"],
            &["no installation target"],
            &["unable to find a disk"],
            &["could not find any disk"],
            &["nonexistent disk"],
            &["did not match any disk"],
            &["disk \"", "does not exist"],
            &["device not found in kickstart"],
            &["opening /dev/", "no such file or directory"],
            &["no block devices found"],
        ],
    ),
    (
        InstallerFailure::OutOfSpace,
        &[
            &["no space left on device"],
            &["not enough free space"],
            &["not enough free disk space"],
            &["not enough disk space"],
            &["not enough space"],
            &["insufficient disk space"],
            &["insufficient space"],
            &["disk is too small"],
            &["disk full"],
        ],
    ),
    (
        InstallerFailure::DiskError,
        &[&["input/output error", "/dev/"], &["error informing the kernel"], &["error writing to", "/dev/"]],
    ),
    (
        InstallerFailure::Partitioning,
        &[
            &["'partman", "failed with error code"],
            &["no root file system"],
            &["storage configuration failed"],
            &["automatic partitioning failed"],
            &["autopart failed"],
            &["failed to partition"],
            &["partitioning failed"],
            &["could not allocate requested partitions"],
            &["unable to satisfy all constraints on the partition"],
            &["you have not defined a root partition"],
        ],
    ),
    (
        InstallerFailure::MediumNotFound,
        &[
            &["can't find installer main image"],
            &["unable to find a medium containing a live file system"],
            &["no common cd-rom drive was detected"],
            &["installation cd-rom couldn't be mounted"],
            &["unable to locate the installation image"],
            &["/dev/root does not exist"],
        ],
    ),
    (
        InstallerFailure::ConfigNotFetched,
        &[
            &["failed to fetch kickstart"],
            &["failed to retrieve the preconfiguration file"],
            &["failed to fetch config"],
            &["failed to download the kickstart"],
            &["error downloading the kickstart"],
            &["could not download", "autoinst"],
        ],
    ),
    (
        InstallerFailure::ConfigInvalid,
        &[
            &["error occurred while parsing the kickstart"],
            &["problem occurred on line", "kickstart"],
            &["failed to process the preconfiguration file"],
            &["malformed autoinstall"],
            &["invalid autoinstall"],
            &["failed to parse config"],
            &["config is not valid"],
            &["error while parsing the control file"],
        ],
    ),
    (
        InstallerFailure::Question,
        &[
            &["incomplete spokes detected"],
            &["can't have a question in command line mode"],
            &["can't continue", "cmdline mode"],
        ],
    ),
    (
        InstallerFailure::NoNetwork,
        &[
            &["network autoconfiguration failed"],
            &["no network interfaces detected"],
            &["no ethernet card was detected"],
        ],
    ),
    (InstallerFailure::KernelModules, &[&["no packages matching running kernel"], &["no kernel modules were found"]]),
    (
        InstallerFailure::Mirror,
        &[
            &["failed getting release file"],
            &["failed to get release file"],
            &["mirror does not support the specified release"],
            &["bad archive mirror"],
            &["failed to download metadata for repo"],
            &["failed to synchronize cache for repo"],
            &["cannot download repomd.xml"],
            &["cannot prepare internal mirrorlist"],
            &["error setting up base repository"],
            &["failed to set up installation source"],
            &["failed to fetch", "://"],
            &["couldn't download"],
            &["unable to fetch some archives"],
            &["temporary failure resolving"],
            &["temporary failure in name resolution"],
            &["could not resolve host"],
            &["wget: bad address"],
            &["error downloading packages"],
        ],
    ),
    (
        InstallerFailure::BootLoader,
        &[
            &["running 'grub-install", "failed"],
            &["grub-install", "failed"],
            &["failed to install boot loader"],
            &["boot loader installation failed"],
            &["failed to set new efi boot target"],
            &["unable to install grub"],
        ],
    ),
    (
        InstallerFailure::Package,
        &[
            &["unable to locate package"],
            &["dpkg: error processing"],
            &["packages, groups or modules are missing"],
            &["error unpacking rpm package"],
            &["nothing provides", "needed by"],
            &["unmet dependencies"],
        ],
    ),
    (
        InstallerFailure::Script,
        &[
            &["running the kickstart script"],
            &["failed to run preseeded command"],
            &["07preseed", "returned error code"],
        ],
    ),
    (
        InstallerFailure::Crash,
        &[
            &["traceback (most recent call last)"],
            &["an unknown error has occurred"],
            &["an unknown error has occured"],
            &["unhandled exception"],
            &["exception report written"],
            &["install_fail"],
        ],
    ),
    (
        InstallerFailure::StepFailed,
        &[&["failed with error code"], &["menu item '", "failed"], &["installation step failed"]],
    ),
];

/// Beginnings of the names of installers' programs. Only their errors, and nobody else's, are an installer's.
const PROGRAMS: &[&str] = &[
    "agama",
    "anaconda",
    "apt-install",
    "apt-setup",
    "archinstall",
    "base-installer",
    "bootstrap-base",
    "choose-mirror",
    "cloud-init",
    "coreos-installer",
    "curtin",
    "debootstrap",
    "disk-detect",
    "finish-install",
    "grub-installer",
    "hw-detect",
    "ignition",
    "in-target",
    "linuxrc",
    "live-installer",
    "main-menu",
    "net-retriever",
    "netcfg",
    "partman",
    "pkgsel",
    "preseed",
    "subiquity",
    "ubiquity",
    "yast",
    "y2",
];

fn named_failure(message: &str) -> Option<InstallerFailure> {
    // debconf's code for "go back", which is no fault.
    const WENT_BACK: &str = "10";
    let code = message.split("failed with error code ").nth(1);
    let digits = code.map(|code| code.split(|sign: char| !sign.is_ascii_digit()).next().unwrap_or_default());
    if digits == Some(WENT_BACK) {
        return None;
    }
    let matches = |parts: &&[&str]| parts.iter().all(|part| message.contains(part));
    PHRASES.iter().find(|(_, rows)| rows.iter().any(&matches)).map(|(failure, _)| *failure)
}

/// Returns the failure of a line that names no cause, by its level.
fn step_failure(line: &InstallerLine, stage: &str, message: &str) -> Option<InstallerFailure> {
    let level = line.level?;
    match line.source {
        InstallerSource::Syslog => {
            let is_installer = PROGRAMS.iter().any(|program| stage.starts_with(program));
            let is_error = level <= LogLevel::Err && is_installer || level <= LogLevel::Alert;
            (is_error && !message.is_empty()).then_some(InstallerFailure::ProgramError)
        }
        InstallerSource::CloudInit | InstallerSource::Curtin | InstallerSource::Subiquity | InstallerSource::Report => {
            (level <= LogLevel::Err).then_some(InstallerFailure::StepFailed)
        }
    }
}

/// Returns the failure that a line of the kernel reports. Drivers of healthy machines report errors at each boot.
fn kernel_failure(message: &str) -> Option<InstallerFailure> {
    let has = |words: &[&str]| words.iter().any(|word| message.contains(word));
    if has(&["kernel panic - not syncing", "unable to mount root fs"]) {
        return Some(InstallerFailure::KernelPanic);
    }
    if has(&["out of memory: kill", "invoked oom-killer", "initramfs unpacking failed: write error"]) {
        return Some(InstallerFailure::OutOfMemory);
    }
    // An empty drive or a floppy controller without a floppy is no fault.
    let disk = |before: &str| {
        let device = message.split(before).nth(1)?;
        ["sd", "nvme", "vd", "hd", "xvd", "mmcblk", "dm-"].iter().find(|kind| device.starts_with(*kind))
    };
    let is_disk = disk("i/o error, dev ").is_some() || disk("buffer i/o error on dev ").is_some();
    is_disk.then_some(InstallerFailure::DiskError)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn syslog(level: Option<LogLevel>, stage: &str, message: &str) -> Option<InstallerFailure> {
        let stage = Some(stage.to_owned()).filter(|stage| !stage.is_empty());
        installer_failure(&InstallerLine { source: InstallerSource::Syslog, stage, level, message: message.into() })
    }

    #[test]
    fn a_line_that_names_the_cause_is_a_failure_of_that_cause() {
        use InstallerFailure::*;
        let rows = [
            ("main-menu", "(process:318): No disk drive was detected", NoDisk),
            ("anaconda", "ui.lib.storage: No usable disks were found", NoDisk),
            ("anaconda", "kickstart: Specified nonexistent disk sda in clearpart command", NoDisk),
            ("subiquity", "{'serial': 'x'} did not match any disk", NoDisk),
            ("coreos-installer", "Error: opening /dev/sda: No such file or directory", NoDisk),
            ("in-target", "cp: error writing '/x': No space left on device", OutOfSpace),
            (
                "anaconda",
                "storage: autopart failed: Not enough free space on disks for automatic partitioning",
                OutOfSpace,
            ),
            ("main-menu", "WARNING **: Configuring 'partman-base' failed with error code 1", Partitioning),
            ("partman", "No root file system is defined.", Partitioning),
            ("dracut-initqueue", "Warning: can't find installer main image path in .treeinfo", MediumNotFound),
            (
                "dracut-initqueue",
                "Warning: anaconda: failed to fetch kickstart from http://10.0.0.1/ks",
                ConfigNotFetched,
            ),
            ("ignition", "failed to fetch config: unable to fetch resource in time", ConfigNotFetched),
            (
                "anaconda",
                "The following error occurred while parsing the kickstart file: Unknown command: foo",
                ConfigInvalid,
            ),
            (
                "anaconda",
                "The installation was stopped due to incomplete spokes detected while running in non-interactive cmdline mode.",
                Question,
            ),
            ("netcfg", "Network autoconfiguration failed", NoNetwork),
            ("anna", "WARNING **: no packages matching running kernel 6.1.0-18-amd64 in archive", KernelModules),
            (
                "debootstrap",
                "E: Failed getting release file http://deb.debian.org/debian/dists/bookworm/Release",
                Mirror,
            ),
            ("choose-mirror", "WARNING **: mirror does not support the specified release (bookworm)", Mirror),
            (
                "anaconda",
                "packaging: Failed to download metadata for repo 'anaconda': Cannot download repomd.xml",
                Mirror,
            ),
            ("net-retriever", "wget: bad address 'deb.debian.org'", Mirror),
            ("in-target", "E: Unable to locate package nosuch", Package),
            ("grub-installer", "error: Running 'grub-install  --force \"/dev/sda\"' failed.", BootLoader),
            ("anaconda", "Error code 1 running the kickstart script at line 33", Script),
            ("anaconda", "Traceback (most recent call last):", Crash),
            ("main-menu", "WARNING **: Configuring 'bootstrap-base' failed with error code 1", StepFailed),
            ("main-menu", "WARNING **: Configuring 'pkgsel' failed with error code 100", StepFailed),
            (
                "kernel",
                "[    2.1] Kernel panic - not syncing: VFS: Unable to mount root fs on unknown-block(0,0)",
                KernelPanic,
            ),
            ("kernel", "[  60.0] Out of memory: Killed process 311 (anaconda)", OutOfMemory),
            ("kernel", "[  60.0] blk_update_request: I/O error, dev sda, sector 2048 op 0x1:(WRITE)", DiskError),
            ("", "Kernel panic - not syncing: Attempted to kill init!", KernelPanic),
        ];
        for (stage, message, expected) in rows {
            assert_eq!(syslog(Some(LogLevel::Info), stage, message), Some(expected), "{stage}: {message}");
            assert_eq!(syslog(None, stage, message), Some(expected), "{stage}: {message}");
        }
    }

    #[test]
    fn errors_of_installers_are_failures_and_those_of_others_are_not() {
        let rows = [
            ("anaconda", LogLevel::Err, "core: something odd", true),
            ("curtin", LogLevel::Crit, "odd", true),
            ("main-menu", LogLevel::Warning, "odd", false),
            ("sshd", LogLevel::Err, "odd", false),
            ("systemd", LogLevel::Crit, "odd", false),
            ("systemd", LogLevel::Emerg, "odd", true),
            ("kernel", LogLevel::Emerg, "[ 1.0] Disabling IRQ #16", false),
        ];
        for (stage, level, message, expected) in rows {
            let found = syslog(Some(level), stage, message);
            assert_eq!(found, expected.then_some(InstallerFailure::ProgramError), "{stage} {level:?}");
        }
    }

    #[test]
    fn a_reported_step_that_failed_is_a_failure() {
        let rows = [
            (
                InstallerSource::Curtin,
                Some(LogLevel::Err),
                "failed: curtin command install",
                Some(InstallerFailure::StepFailed),
            ),
            (
                InstallerSource::CloudInit,
                Some(LogLevel::Err),
                "failed: running config-apt",
                Some(InstallerFailure::StepFailed),
            ),
            (InstallerSource::Subiquity, Some(LogLevel::Warning), "finished with warnings: x", None),
            (InstallerSource::Report, None, "formatting the disk", None),
            (InstallerSource::Report, None, "no disk found", Some(InstallerFailure::NoDisk)),
            (
                InstallerSource::Curtin,
                Some(LogLevel::Err),
                "failed: E: Unable to locate package x",
                Some(InstallerFailure::Package),
            ),
        ];
        for (source, level, message, expected) in rows {
            let line = InstallerLine { source, stage: Some("step".into()), level, message: message.into() };
            assert_eq!(installer_failure(&line), expected, "{message}");
        }
    }

    #[test]
    fn lines_of_a_healthy_install_are_no_failures() {
        let rows = [
            ("kernel", Some(LogLevel::Err), "[    0.3] ACPI Error: AE_NOT_FOUND, While resolving a named reference"),
            ("kernel", Some(LogLevel::Err), "[    4.0] blk_update_request: I/O error, dev fd0, sector 0"),
            ("kernel", Some(LogLevel::Err), "[    4.0] I/O error, dev sr0, sector 0 op 0x0:(READ)"),
            ("kernel", Some(LogLevel::Err), "[    1.0] i8042: No controller found"),
            ("partman", Some(LogLevel::Notice), "  No matching physical volumes found"),
            ("main-menu", Some(LogLevel::Warning), "WARNING **: Configuring 'partman-base' failed with error code 10"),
            ("debootstrap", Some(LogLevel::Notice), "I: Retrieving Release"),
            ("anaconda", Some(LogLevel::Debug), "blivet: not enough free space on sda for candidate"),
            ("anaconda", Some(LogLevel::Info), "core: Display mode is set to 'text mode'."),
            ("in-target", Some(LogLevel::Notice), "Setting up grub-pc (2.06-13) ..."),
            ("systemd", Some(LogLevel::Err), "Failed to start modprobe@drm.service"),
            ("", None, ""),
        ];
        for (stage, level, message) in rows {
            assert_eq!(syslog(level, stage, message), None, "{stage}: {message}");
        }
    }

    #[test]
    fn every_failure_has_its_code_and_its_sentence() {
        let mut codes: Vec<_> = InstallerFailure::ALL.iter().map(|failure| failure.code()).collect();
        for failure in InstallerFailure::ALL {
            let joined: String = failure.code().split('_').collect();
            assert_eq!(joined, format!("{failure:?}").to_lowercase());
            assert!(!failure.sentence().ends_with('.'));
        }
        codes.sort_unstable();
        codes.dedup();
        assert_eq!(codes.len(), InstallerFailure::ALL.len());
        for (failure, rows) in PHRASES {
            let phrases = rows.iter().flat_map(|parts| parts.iter());
            assert!(phrases.clone().all(|phrase| **phrase == phrase.to_ascii_lowercase()), "{failure:?}");
        }
    }
}
