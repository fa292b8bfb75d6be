//! What HTTP answers: machines' requests, the object API, Redfish, and what operators watch.

pub mod auth;
pub mod generate;
pub mod machine;
pub mod methods;
pub mod objects;
pub mod openapi;
pub mod ops;
pub mod redfish;
pub mod router;
pub mod uploads;
