//! Replies with what is no object of the store: lists, tables and single ones.

use hyper::StatusCode;
use hyper::header::HeaderMap;
use serde_json::{Value, json};

use crate::api::objects::options::{self, IncludeObject, Representation};
use crate::api::objects::redaction::ListMeta;
use crate::api::objects::status::Status;
use crate::api::objects::table::{PlainRow, Table};
use crate::http::reply::{self, Reply};

/// The kind of the items, and the columns of its table.
#[derive(Debug)]
pub struct PlainKind {
    /// The kind.
    pub kind: &'static str,
    /// The columns of its table: name and description.
    pub columns: &'static [(&'static str, &'static str)],
}

impl PlainKind {
    /// Returns the reply to a list.
    ///
    /// # Errors
    /// 406 for a client that takes no JSON.
    pub fn list(
        &self,
        rows: Vec<PlainRow>,
        version: u64,
        query: Option<&str>,
        headers: &HeaderMap,
    ) -> Result<Reply, Status> {
        let metadata = || ListMeta { resource_version: version.to_string(), next: String::new() };
        Ok(match Self::representation(query, headers)? {
            Representation::Table(include) => {
                reply::json(StatusCode::OK, &Table::plain(self.columns, rows, metadata(), include))
            }
            Representation::Metadata | Representation::Object => {
                let items: Vec<Value> = rows.into_iter().map(|(_, object)| object).collect();
                let kind = format!("{}List", self.kind);
                let list = json!({"apiVersion": "v1", "kind": kind, "metadata": metadata(), "items": items});
                reply::json(StatusCode::OK, &list)
            }
        })
    }

    /// Returns the reply with one item.
    ///
    /// # Errors
    /// 406 for a client that takes no JSON.
    pub fn one(&self, row: PlainRow, query: Option<&str>, headers: &HeaderMap) -> Result<Reply, Status> {
        Ok(match Self::representation(query, headers)? {
            Representation::Table(include) => {
                let metadata = ListMeta { resource_version: String::new(), next: String::new() };
                reply::json(StatusCode::OK, &Table::plain(self.columns, vec![row], metadata, include))
            }
            Representation::Metadata | Representation::Object => reply::json(StatusCode::OK, &row.1),
        })
    }

    fn representation(query: Option<&str>, headers: &HeaderMap) -> Result<Representation, Status> {
        options::acceptable(headers)?;
        let query = form_urlencoded::parse(query.unwrap_or_default().as_bytes());
        let mut include = IncludeObject::default();
        for (_, value) in query.filter(|(key, _)| key == "includeObject") {
            include = IncludeObject::named(&value);
        }
        Ok(options::representation(headers, include))
    }
}
