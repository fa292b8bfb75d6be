//! The one decision: what a machine boots. Pure, and ignorant of every protocol.

mod decide;
mod facts;
mod script;
pub(crate) mod site;
mod verdict;

pub use decide::{decide, enrol};
pub use facts::{Facts, Firmware, Loading, Stage};
pub use script::{Context, Form, hook, render};
pub use site::{Override, Programs, Proof, Site, Trust};
pub use verdict::{Drop, Program, Verdict, Why};
