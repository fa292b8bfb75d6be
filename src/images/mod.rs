//! The library of images: files, uploads, free space and per-host views.

pub mod boot_programs;
pub mod library;
pub mod partial_upload;
pub mod served_directory;
pub mod uploads;
