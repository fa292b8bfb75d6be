//! JSON schemas of the types that are read from a text and written as one. Pure.

use std::borrow::Cow;

use schemars::{JsonSchema, Schema, SchemaGenerator, json_schema};

use super::{BootTarget, CipherSuite, Mac, Name, StringMap};

/// Implements `JsonSchema` by a schema that does not depend on other types.
macro_rules! schema {
    ($type:ident, $schema:tt) => {
        impl JsonSchema for $type {
            fn schema_name() -> Cow<'static, str> {
                stringify!($type).into()
            }

            fn inline_schema() -> bool {
                true
            }

            fn json_schema(_: &mut SchemaGenerator) -> Schema {
                json_schema!($schema)
            }
        }
    };
}

schema!(Mac, {"type": "string"});
schema!(CipherSuite, {"type": "integer", "enum": [3, 17]});
schema!(Name, {"type": "string", "maxLength": 253});
schema!(BootTarget, {"type": "string"});
schema!(StringMap, {"type": "object", "additionalProperties": {"type": "string"}});
