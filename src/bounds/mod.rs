//! Bounds on what one source may take: shares of a resource, and rates. Pure: the time is an argument.

pub mod listener_places;
pub mod shares;
pub mod source;
pub mod token_bucket;

pub use listener_places::{ListenerPlace, ListenerPlaces};
pub use shares::{Excess, ShareLimits, Shares};
pub use source::Source;
pub use token_bucket::{Rate, TokenBuckets};
