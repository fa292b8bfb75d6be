//! Webhooks: the form of what is sent (CloudEvents), its signature (Standard Webhooks), and when it is sent again. Pure.

pub mod cloud_event;
pub mod retry;
pub mod signature;
