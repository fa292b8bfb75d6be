//! `bootlatch settings`: the settings of the server in force.

use hyper::Method;

use super::client::ApiClient;
use super::connection::ConnectionArgs;
use super::show::{Column, OutputFormat, show};

const COLUMNS: &[Column] = &[("KEY", "/key"), ("VALUE", "/value"), ("FROM", "/origin")];

/// Prints each key of the server's configuration, its value, and where the value comes from.
///
/// # Errors
/// The server does not answer, or refuses the request.
pub async fn settings(connection_args: &ConnectionArgs, output: OutputFormat) -> anyhow::Result<()> {
    let mut client = ApiClient::connect(connection_args).await?;
    let list = client.ask(Method::GET, "/api/v1/settings", None).await?;
    show(output, &list["items"], COLUMNS)
}
