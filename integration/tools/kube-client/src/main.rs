//! Follows every BareMetalHost with kube's reflector and prints one JSON line for each event. A line on
//! standard input requests all objects that the reflector has.
//!
//!   kube-client URL TOKEN list|stream

use futures::StreamExt;
use kube::api::{DynamicObject, ListParams};
use kube::config::{AuthInfo, Config};
use kube::discovery::Discovery;
use kube::runtime::watcher::{self, Event};
use kube::runtime::{WatchStreamExt, reflector};
use kube::{Api, Client, ResourceExt};
use serde_json::{Map, Value, json};
use tokio::io::{AsyncBufReadExt, BufReader};

type Failure = Box<dyn std::error::Error>;

#[tokio::main(flavor = "current_thread")]
async fn main() -> Result<(), Failure> {
    let words: Vec<String> = std::env::args().skip(1).collect();
    let [url, token, how] = &words[..] else { return Err("usage: kube-client URL TOKEN list|stream".into()) };
    let mut config = Config::new(url.parse()?);
    config.auth_info = AuthInfo { token: Some(token.clone().into()), ..AuthInfo::default() };
    let client = Client::try_from(config)?;

    let known = Discovery::new(client.clone()).run().await?;
    let kinds: Vec<_> = known.groups().flat_map(|group| group.recommended_resources()).collect();
    let names: Vec<_> = kinds.iter().map(|(kind, _)| format!("{}/{}", kind.plural, kind.kind)).collect();
    println!("{}", json!({"event": "kinds", "names": names}));
    let found = kinds.iter().find(|(kind, _)| kind.kind == "BareMetalHost");
    let (kind, _) = found.ok_or("the server offers no BareMetalHost")?;
    let hosts = Api::<DynamicObject>::all_with(client.clone(), kind);
    let partial = hosts.list_metadata(&ListParams::default()).await?;
    let versions: Map<String, Value> =
        partial.items.iter().map(|host| (host.name_any(), json!(host.resource_version()))).collect();
    println!("{}", json!({"event": "metadata", "types": partial.types, "versions": versions}));

    let follow = match how.as_str() {
        "stream" => watcher::Config::default().streaming_lists(),
        _ => watcher::Config::default().page_size(7),
    };
    let writer = reflector::store::Writer::new(kind.clone());
    let store = writer.as_reader();
    let events = watcher::watcher(Api::<DynamicObject>::all_with(client, kind), follow);
    let mut events = Box::pin(events.reflect(writer));
    let mut asked = BufReader::new(tokio::io::stdin()).lines();
    loop {
        tokio::select! {
            event = events.next() => match event {
                Some(Ok(event)) => println!("{}", told(&event)),
                Some(Err(error)) => {
                    println!("{}", json!({"event": "error", "message": error.to_string()}));
                    tokio::time::sleep(std::time::Duration::from_millis(20)).await;
                }
                None => return Err("the stream ended".into()),
            },
            line = asked.next_line() => match line? {
                Some(_) => {
                    let held: Map<String, Value> = store.state().iter()
                        .map(|host| (host.name_any(), json!(host.resource_version()))).collect();
                    println!("{}", json!({"event": "held", "held": held}));
                }
                None => return Ok(()),
            },
        }
    }
}

fn told(event: &Event<DynamicObject>) -> Value {
    let (what, host) = match event {
        Event::Init => ("init", None),
        Event::InitApply(host) => ("init-apply", Some(host)),
        Event::InitDone => ("init-done", None),
        Event::Apply(host) => ("apply", Some(host)),
        Event::Delete(host) => ("delete", Some(host)),
    };
    json!({"event": what, "name": host.map(|host| host.name_any()), "version": host.and_then(|host| host.resource_version())})
}
