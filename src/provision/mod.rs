//! Provisioning configs: validation by format, and generation of Ignition and cloud-init configs.
//!
//! Pure: values in, values out. Imports `fleet` only.

pub mod butane;
mod check;
mod cloud_config;
mod completion;
mod findings;
pub mod generate;
mod ignition;
mod ignition_keys;
mod ignition_rules;
#[cfg(test)]
mod ignition_types;
mod ignition_v2;
mod ignition_v3;
mod located_json;
mod template;
mod template_filters;
mod user_data;
mod yaml;

pub use check::{FieldError, check};
pub use completion::reports_completion;
pub use template::{RenderError, TemplateScope, TemplateSite, check_template, render, template_scope, template_status};
pub use user_data::part_texts;
pub use yaml::yaml_error;
