//! The decision what a machine boots, the same for every protocol. Pure.

mod config_window;
mod decide;
mod decision;
pub mod diagnosis;
mod facts;
pub mod identity;
pub mod installer;
mod protocol;
pub mod rehearsal;
mod script;
pub(crate) mod site;
mod verdict;

pub use config_window::{check_config_window, install_end, is_within_ttl};
pub use decide::decide;
pub use decision::{BootEvent, Decision, ScriptAction};
pub use facts::{BootProtocol, Facts, Firmware, Stage};
pub use protocol::Protocol;
pub use script::{Context, KernelLine, SCRIPT_COMMANDS, ScriptFormat, bootstrap_script, render};
pub use site::{ConfigAccess, ConfigProof, ProgramOverride, Programs, Site};
pub use verdict::{DropReason, Program, Reason, Verdict};
