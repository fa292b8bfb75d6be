//! Options of the connection, and the server that they select.

use std::path::{Path, PathBuf};
use std::time::Duration;

use clap::parser::ValueSource;

use crate::http_client::tls::{Fingerprint, TlsOptions, TrustAnchor};

use super::context_file::{self, Context, ContextFile};
use super::tls::TlsArgs;

/// Maximum time for the answer to a request, without `--timeout`.
const ANSWER_TIMEOUT: Duration = Duration::from_secs(60);

/// Server without an option, a variable and a context.
const LOCAL_SERVER: &str = "unix:/var/lib/bootlatch/api.sock";
/// Socket of the local server for the members of its group.
const GROUP_SOCKET: &str = "/run/bootlatch/api.sock";

/// Options that select a server.
#[derive(Debug, Clone, Default, clap::Args)]
#[command(next_help_heading = "Connection options")]
pub struct ConnectionArgs {
    /// Server: unix:/PATH/api.sock, https://ADDRESS:PORT or http://ADDRESS:PORT. Default: that of the context, else
    /// unix:/run/bootlatch/api.sock, or unix:/var/lib/bootlatch/api.sock if there is none
    #[arg(long, global = true, env = "BOOTLATCH_SERVER", hide_env_values = true, value_name = "URL")]
    pub server: Option<String>,
    /// Context of `bootlatch context`, in place of the current one
    #[arg(long, global = true, env = "BOOTLATCH_CONTEXT", hide_env_values = true, value_name = "NAME")]
    pub context: Option<String>,
    /// File with the bearer token, for https and http
    #[arg(long, global = true, env = "BOOTLATCH_TOKEN_FILE", hide_env_values = true, value_name = "FILE")]
    pub token_file: Option<PathBuf>,
    /// Time to wait for an answer, as in 30s or 5m; 0 for no limit. `wait` waits in all for this time [default: 1m; of
    /// wait 30s]
    #[arg(long, global = true, value_name = "TIME")]
    pub timeout: Option<Timeout>,
    #[command(flatten)]
    pub tls: TlsArgs,
    /// The options that the command line gives. Others come from a variable.
    #[arg(skip)]
    pub typed: Vec<String>,
}

/// A time limit; none for 0.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Timeout(pub Option<Duration>);

impl std::str::FromStr for Timeout {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let wrong = || format!("{text:?} is no time: expected 30s, 5m, 1h 30m, or 0 for no limit");
        if let Ok(seconds) = text.parse::<u64>() {
            return Ok(Self(Some(Duration::from_secs(seconds)).filter(|time| !time.is_zero())));
        }
        let time = text.parse::<jiff::SignedDuration>().map_err(|_| wrong())?;
        Ok(Self(Some(Duration::try_from(time).map_err(|_| wrong())?).filter(|time| !time.is_zero())))
    }
}

/// Error of a command line that names two servers.
#[derive(Debug, thiserror::Error)]
#[error("give either --server or --context, not both")]
pub struct TwoServers;

/// The server that the options and the context select.
#[derive(Debug, Clone)]
pub struct SelectedServer {
    /// URL of the server.
    pub url: String,
    /// File with the bearer token.
    pub token_file: Option<PathBuf>,
    /// Options of TLS.
    pub tls: TlsOptions,
    /// An option of TLS that was given, for the error that the server has no TLS.
    pub tls_option: Option<&'static str>,
}

impl SelectedServer {
    /// Returns the file of the certificate authority; none for another anchor.
    pub fn ca_file(&self) -> Option<&Path> {
        match &self.tls.anchor {
            TrustAnchor::File(path) => Some(path),
            TrustAnchor::System | TrustAnchor::Fingerprint(_) | TrustAnchor::Any => None,
        }
    }

    /// Returns the fingerprint of the server's certificate; none for another anchor.
    pub fn fingerprint(&self) -> Option<Fingerprint> {
        match &self.tls.anchor {
            TrustAnchor::Fingerprint(fingerprint) => Some(*fingerprint),
            TrustAnchor::System | TrustAnchor::File(_) | TrustAnchor::Any => None,
        }
    }

    /// Returns the files of the client certificate and of its key.
    pub fn client_certificate(&self) -> Option<(&Path, &Path)> {
        self.tls.client_certificate.as_ref().map(|files| (files.chain.as_path(), files.key.as_path()))
    }
}

/// Returns the local server: the socket of the group, or without one that of root and the server's user.
fn local_server() -> String {
    match Path::new(GROUP_SOCKET).exists() {
        true => format!("unix:{GROUP_SOCKET}"),
        false => LOCAL_SERVER.to_owned(),
    }
}

impl ConnectionArgs {
    /// Notes which options the command line gives.
    pub fn note_typed(&mut self, matches: &clap::ArgMatches) {
        let is_typed = |id: &&clap::Id| matches.value_source(id.as_str()) == Some(ValueSource::CommandLine);
        self.typed = matches.ids().filter(is_typed).map(|id| id.as_str().to_owned()).collect();
    }

    fn is_typed(&self, option: &str) -> bool {
        self.typed.iter().any(|typed| typed == option)
    }

    /// Returns the selected server. An option of the command line wins over a variable, and a server that is not that of
    /// a context takes nothing from the context.
    ///
    /// # Errors
    /// The command line names two servers, the context does not exist, or the file of contexts is invalid.
    pub fn selected(&self) -> anyhow::Result<SelectedServer> {
        if self.server.is_none() || (self.context.is_some() && !self.is_typed("server")) || self.is_typed("context") {
            return self.select(&context_file::load()?);
        }
        self.select(&ContextFile::default())
    }

    fn select(&self, file: &ContextFile) -> anyhow::Result<SelectedServer> {
        let (server_typed, context_typed) = (self.is_typed("server"), self.is_typed("context"));
        if server_typed && context_typed {
            return Err(TwoServers.into());
        }
        let server = self.server.as_ref().filter(|_| !context_typed);
        let context = match (server, &self.context) {
            (Some(_), None) => None,
            (Some(_), Some(_)) if server_typed => None,
            (_, name) => file.find(name.as_deref())?,
        };
        let context = context.filter(|context| server.is_none_or(|server| *server == context.server));
        let context = context.cloned().unwrap_or_default();
        let of_context = Some(context.server.clone()).filter(|server| !server.is_empty());
        let url = server.cloned().or(of_context).unwrap_or_else(local_server);
        let given = if context_typed { self.over_variables(&context) } else { self.clone() };
        let token_file = given.token_file.or_else(|| context.token_file.clone());
        Ok(SelectedServer { url, token_file, tls: given.tls.options(&context)?, tls_option: given.tls.given_option() })
    }

    /// Returns the options without the variables that a context of the command line replaces: those of which it has a
    /// value, and all if they belong to another server.
    fn over_variables(&self, context: &Context) -> Self {
        let is_foreign = self.server.as_ref().is_some_and(|server| *server != context.server);
        let replaced = |option, has_value: bool| !self.is_typed(option) && (is_foreign || has_value);
        let has_anchor = context.ca.is_some() || context.fingerprint.is_some();
        let mut given = self.clone();
        if replaced("token_file", context.token_file.is_some()) {
            given.token_file = None;
        }
        if replaced("ca", has_anchor) {
            given.tls.ca = None;
        }
        if replaced("fingerprint", has_anchor) {
            given.tls.fingerprint = None;
        }
        if replaced("client_certificate", context.client_certificate.is_some()) {
            (given.tls.client_certificate, given.tls.client_key) = (None, None);
        }
        given
    }

    /// Returns the time limit of one request.
    pub fn answer_timeout(&self) -> Option<Duration> {
        self.timeout.map_or(Some(ANSWER_TIMEOUT), |timeout| timeout.0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_time_limit_is_written_as_people_write_it() {
        let time = |text: &str| text.parse::<Timeout>().map(|timeout| timeout.0);
        for (text, expected) in [("30s", 30), ("90", 90), ("1m", 60), ("1h 30m", 5400), ("1h30m", 5400)] {
            assert_eq!(time(text), Ok(Some(Duration::from_secs(expected))), "{text}");
        }
        assert_eq!((time("0"), time("0s")), (Ok(None), Ok(None)));
        assert!(time("-5s").is_err() && time("soon").is_err() && time("").is_err());
    }

    /// Options of which each is `VALUE`, or `$VALUE` if it comes from a variable.
    fn args(server: &str, context: &str, token: &str, ca: &str) -> ConnectionArgs {
        let mut args = ConnectionArgs::default();
        let mut given = |option: &str, text: &str| {
            if !text.is_empty() && !text.starts_with('$') {
                args.typed.push(option.to_owned());
            }
            Some(text.trim_start_matches('$').to_owned()).filter(|text| !text.is_empty())
        };
        let (server, context) = (given("server", server), given("context", context));
        let (token, ca) = (given("token_file", token), given("ca", ca));
        args.tls.ca = ca.map(PathBuf::from);
        ConnectionArgs { server, context, token_file: token.map(PathBuf::from), ..args }
    }

    #[test]
    fn the_secrets_of_a_context_go_to_its_server_only() {
        let context = |url: &str, name: &str| Context {
            server: url.to_owned(),
            token_file: Some(format!("{name}.token").into()),
            ca: Some(format!("{name}.crt").into()),
            ..Context::default()
        };
        let plain = Context { server: "https://plain".into(), ..Context::default() };
        let contexts =
            [("lab", context("https://lab", "lab")), ("hall", context("https://hall", "hall")), ("plain", plain)];
        let contexts = contexts.map(|(name, context)| (name.to_owned(), context)).into();
        let file = ContextFile { current: Some("lab".to_owned()), contexts };
        // Server, context, token and CA as given; URL, token and CA as selected.
        let rows = [
            (["", "", "", ""], ["https://lab", "lab.token", "lab.crt"]),
            (["", "hall", "", ""], ["https://hall", "hall.token", "hall.crt"]),
            (["", "$hall", "", ""], ["https://hall", "hall.token", "hall.crt"]),
            (["$https://x", "", "", ""], ["https://x", "", ""]),
            (["$https://x", "hall", "", ""], ["https://hall", "hall.token", "hall.crt"]),
            (["$https://x", "hall", "$x.token", "$x.crt"], ["https://hall", "hall.token", "hall.crt"]),
            (["$https://x", "plain", "$x.token", "$x.crt"], ["https://plain", "", ""]),
            (["$https://x", "plain", "x.token", ""], ["https://plain", "x.token", ""]),
            (["", "plain", "$x.token", ""], ["https://plain", "x.token", ""]),
            (["", "hall", "x.token", ""], ["https://hall", "x.token", "hall.crt"]),
            (["$https://x", "$hall", "", ""], ["https://x", "", ""]),
            (["$https://hall", "$hall", "", ""], ["https://hall", "hall.token", "hall.crt"]),
            (["https://x", "$hall", "", ""], ["https://x", "", ""]),
            (["https://x", "$nowhere", "$x.token", ""], ["https://x", "x.token", ""]),
        ];
        for ([server, context, token, ca], expected) in rows {
            let selected = args(server, context, token, ca).select(&file).unwrap();
            let text = |path: Option<&Path>| path.map(|path| path.display().to_string()).unwrap_or_default();
            let found = [selected.url.clone(), text(selected.token_file.as_deref()), text(selected.ca_file())];
            assert_eq!(found, expected, "{server} {context} {token} {ca}");
        }
        assert!(args("https://x", "lab", "", "").select(&file).unwrap_err().is::<TwoServers>());
        assert!(args("", "nowhere", "", "").select(&file).is_err());
    }
}
