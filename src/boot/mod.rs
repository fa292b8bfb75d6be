//! The one decision: what a machine boots. Pure, and ignorant of every protocol.

mod decide;
mod facts;
mod script;
pub(crate) mod site;
mod verdict;

pub use decide::{decide, enrol};
pub use facts::{BootProtocol, Facts, Firmware, Stage};
pub use script::{Context, ScriptFormat, bootstrap_script, render};
pub use site::{ConfigAccess, ConfigProof, ProgramOverride, Programs, Site};
pub use verdict::{DropReason, Program, Reason, Verdict};
