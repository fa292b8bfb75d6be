//! The web page: rows of objects, HTML and files. Pure; `api::ui` serves it.

pub mod advice;
pub mod assets;
pub mod layout;
pub mod pages;
pub mod rows;
