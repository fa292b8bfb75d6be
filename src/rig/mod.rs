//! Rigs: virtual machines under QEMU on a LAN of their own with this program as its boot server, started from a specification,
//! without root.
//!
//! The leader checks the specification, makes the namespaces, and starts the supervisor in them as their first process: when
//! the leader ends, by whatever signal, the kernel ends the supervisor, and with it everything in the namespaces.

mod api;
mod command_line;
mod console;
mod control;
mod kvm;
mod lan;
mod leader;
mod located_yaml;
mod machine;
mod outputs;
mod plan;
mod progress;
mod qmp;
mod report;
mod requirements;
mod server;
mod spec;
mod supervisor;

pub use control::{Request, ask, attach};
pub use leader::{hold, test, up};
pub use outputs::Options;
pub use plan::SpecError;
pub use requirements::Missing;
pub use supervisor::supervise;

/// Exit status of a rig.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum RigExit {
    /// Everything that was expected is met.
    Met,
    /// Something that was expected is not met, or the rig failed.
    NotMet,
    /// The specification is wrong, which was said.
    WrongSpec,
    /// The machine lacks something, which was said.
    Lacking,
    /// A signal ended the rig, and nothing of it is left.
    Stopped,
}

impl RigExit {
    /// Returns the exit status of the process.
    pub fn code(self) -> u8 {
        match self {
            Self::Met => 0,
            Self::NotMet => 1,
            Self::WrongSpec => 2,
            Self::Lacking => 3,
            Self::Stopped => 130,
        }
    }

    /// Returns the exit of an error.
    pub fn of_error(error: &anyhow::Error) -> Self {
        match () {
            () if error.is::<SpecError>() => Self::WrongSpec,
            () if error.is::<Missing>() => Self::Lacking,
            () => Self::NotMet,
        }
    }
}
