//! Bounds on what one source may take: shares of a resource, and rates. Pure: the time is an argument.

pub mod shares;
pub mod source;
pub mod token_bucket;

pub use shares::{Excess, ShareLimits, Shares};
pub use source::Source;
pub use token_bucket::{Rate, TokenBuckets};
