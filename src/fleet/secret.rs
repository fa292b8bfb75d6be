use std::fmt;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// A secret. Only the store writes it in full; `Debug` and the API show `REDACTED`.
#[derive(Clone, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(transparent)]
pub struct Secret(pub String);

impl Secret {
    /// The text in place of a secret. A client that writes it back leaves the secret unchanged.
    pub const REDACTED: &'static str = "REDACTED";

    /// JSON pointers of all secrets in an object's spec, except for the files of a confidential config.
    pub const PLACES: [&'static str; 5] = [
        "/spec/bmc/password",
        "/spec/chap/secret",
        "/spec/chap/targetSecret",
        "/spec/portal/chap/secret",
        "/spec/portal/chap/targetSecret",
    ];

    /// Returns whether the text stands for an unchanged secret.
    pub fn is_redacted(&self) -> bool {
        self.0 == Self::REDACTED
    }
}

impl fmt::Debug for Secret {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        out.write_str(Self::REDACTED)
    }
}
