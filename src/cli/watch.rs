//! `bootlatch watch`: changes of objects as they happen.

use std::time::{Duration, Instant};

use serde_json::Value;

use crate::fleet::Kind;

use super::client::{ApiClient, ClientError, LineStream, seconds};
use super::connection::ConnectionArgs;
use super::exit::OutputClosed;
use super::get::SelectionArgs;
use super::lookup;
use super::reference::kind_and_name;
use super::show::{ObjectFormat, is_output_closed, note, print_or_end};

/// Prints changes until the command is interrupted, or for the time of `--timeout`. When a connection ends, the next one
/// resumes at the last version.
///
/// # Errors
/// The server refuses the request, or does not come back.
pub async fn watch(
    connection_args: &ConnectionArgs,
    kind: Kind,
    name: Option<&str>,
    selection: &SelectionArgs,
    output: ObjectFormat,
) -> anyhow::Result<()> {
    for_the_timeout(connection_args, follow(connection_args, kind, name, selection, output)).await
}

/// Interval between two looks at whether standard output is still read.
const OUTPUT_CHECK_INTERVAL: Duration = Duration::from_millis(500);

/// Ends what would never end: when nobody reads standard output any more, and after the time of `--timeout`, if it was
/// given.
///
/// # Errors
/// Those of the work; `OutputClosed`.
pub async fn for_the_timeout(
    connection_args: &ConnectionArgs,
    work: impl Future<Output = anyhow::Result<()>>,
) -> anyhow::Result<()> {
    let work = async {
        tokio::select! {
            done = work => done,
            () = output_closed() => Err(OutputClosed.into()),
        }
    };
    let Some(timeout) = connection_args.timeout.and_then(|timeout| timeout.0) else { return work.await };
    match tokio::time::timeout(timeout, work).await {
        Ok(done) => done,
        Err(_) => {
            note(&format!("ended after {} (--timeout)", seconds(timeout)));
            Ok(())
        }
    }
}

/// Waits until the reader of standard output, such as `head`, has ended: a write would show it, but nothing may happen for
/// hours.
async fn output_closed() {
    loop {
        tokio::time::sleep(OUTPUT_CHECK_INTERVAL).await;
        if is_output_closed() {
            return;
        }
    }
}

async fn follow(
    connection_args: &ConnectionArgs,
    kind: Kind,
    name: Option<&str>,
    selection: &SelectionArgs,
    output: ObjectFormat,
) -> anyhow::Result<()> {
    let mut client = ApiClient::connect(connection_args).await?;
    let fields = match name {
        Some(word) => Some(field_selector(&mut client, kind, word, selection).await?),
        None => None,
    };
    let mut version = String::new();
    let (mut first, mut head, mut errors) = (true, true, 0);
    loop {
        let path = selection.list_path(
            kind,
            fields.as_deref(),
            &[("watch", "true"), ("allowWatchBookmarks", "true"), ("resourceVersion", &version)],
        );
        let mut lines = match std::mem::take(&mut first) {
            true => client.lines(&path).await?,
            false => reconnect(connection_args, &path).await?,
        };
        while let Some(line) = lines.next().await {
            let event: Value = serde_json::from_str(&line)?;
            if event["type"] == "ERROR" {
                errors += 1;
                if errors >= MAX_ERRORS {
                    let message = event["object"]["message"].as_str().unwrap_or("no reason given");
                    anyhow::bail!("the server refuses the watch: {message}");
                }
                version.clear();
                break;
            }
            errors = 0;
            if let Some(now) = event["object"]["metadata"]["resourceVersion"].as_str() {
                version = now.to_owned();
            }
            if event["type"] != "BOOKMARK" {
                let layout = Layout { output, head: std::mem::take(&mut head), namespaces: selection.all_namespaces };
                print_event(kind, &event, layout)?;
            }
        }
    }
}

/// Returns the field selector of one object. A MAC address stands for its host.
async fn field_selector(
    client: &mut ApiClient,
    kind: Kind,
    word: &str,
    selection: &SelectionArgs,
) -> anyhow::Result<String> {
    if selection.all_namespaces {
        return Ok(lookup::field_selectors(kind, word).pop().unwrap_or_default());
    }
    Ok(format!("metadata.name={}", lookup::resolve(client, kind, &selection.namespace, word).await?))
}

/// Number of errors without an event between them that end a watch.
const MAX_ERRORS: usize = 5;

/// Maximum time to reconnect, such as during a restart of the server.
const RECONNECT_TIMEOUT: Duration = Duration::from_secs(30);
/// Pause between two attempts to reconnect.
const RECONNECT_PAUSE: Duration = Duration::from_millis(500);

/// Resumes a watch on a new connection, after a pause: a server may end each connection at once.
///
/// # Errors
/// The server refuses the request, or does not come back.
pub async fn reconnect(connection_args: &ConnectionArgs, path: &str) -> anyhow::Result<LineStream> {
    let deadline = Instant::now() + RECONNECT_TIMEOUT;
    loop {
        tokio::time::sleep(RECONNECT_PAUSE).await;
        let tried = async { ApiClient::connect(connection_args).await?.lines(path).await };
        match tried.await {
            Err(error) if Instant::now() < deadline && is_unavailable(&error) => {}
            other => return other,
        }
    }
}

/// Returns whether an error can be temporary.
pub fn is_unavailable(error: &anyhow::Error) -> bool {
    use ClientError::{Interrupted, Refused, TimedOut, Unreachable};
    matches!(
        error.downcast_ref(),
        Some(Unreachable { .. } | Interrupted { .. } | TimedOut { .. } | Refused { code: 503, .. })
    )
}

/// Layout of the events of a watch.
#[derive(Clone, Copy)]
struct Layout {
    output: ObjectFormat,
    /// Whether the headers come first.
    head: bool,
    /// Whether there is a column of namespaces.
    namespaces: bool,
}

/// Prints one event of a watch.
fn print_event(kind: Kind, event: &Value, layout: Layout) -> anyhow::Result<()> {
    let object = &event["object"];
    let text = |value: &Value| value.as_str().unwrap_or("-").to_owned();
    let name = text(&object["metadata"]["name"]);
    match layout.output {
        ObjectFormat::Json => print_or_end(&format!("{event}\n")),
        ObjectFormat::Yaml => print_or_end(&format!("---\n{}", serde_saphyr::to_string(event)?)),
        ObjectFormat::Name => print_or_end(&(kind_and_name(kind, &name) + "\n")),
        ObjectFormat::Table | ObjectFormat::Wide => {
            let phase = object.pointer("/status/phase").or(object.pointer("/spec/format")).unwrap_or(&Value::Null);
            let time = jiff::Zoned::now().strftime("%H:%M:%S").to_string();
            let namespace = |text: &str| if layout.namespaces { format!("{text:<12}  ") } else { String::new() };
            let head = format!("TIME       EVENT      PHASE        {}NAME\n", namespace("NAMESPACE"));
            let place = namespace(&text(&object["metadata"]["namespace"]));
            let line = format!("{time}   {:<9}  {:<11}  {place}{name}\n", text(&event["type"]), text(phase));
            print_or_end(&(if layout.head { head + &line } else { line }))
        }
    }
}
