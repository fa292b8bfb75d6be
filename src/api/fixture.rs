//! The API's state over the gate of a test, and a client of its HTTP: for tests of this crate.

use std::net::IpAddr;
use std::sync::Arc;

use bytes::Bytes;
use http_body_util::{BodyExt, Full};
use hyper::header::{AUTHORIZATION, HOST, HeaderMap, HeaderName, HeaderValue};
use hyper::{Request, Response};
use hyper_util::rt::TokioIo;
use serde_json::Value;
use tokio::sync::watch;

use crate::admission::prepare::Places;
use crate::api::auth::{Access, Tokens};
use crate::api::machine::recent::RecentView;
use crate::api::state::{Folders, Shared};
use crate::boot::Site;
use crate::boot::rehearsal::{Attachment, ServedFile, StepDecision};
use crate::fleet::{Kind, Mac, Object, Phase};
use crate::gate::degradations::{Degradation, Severity, Source};
use crate::gate::fixture::Fixture;
use crate::gate::interfaces::HeardNetwork;
use crate::gate::rehearsal::{DhcpRehearsalError, ProtocolQueries};
use crate::http::connection_limits::MeteredStream;
use crate::http::listener::serve_http1;
use crate::http::peer::{Peer, PeerTrust, Serves};
use crate::images::boot_programs::BootPrograms;
use crate::images::served_directory::ServedDirectory;
use crate::store::volumes::Volumes;

/// The MAC address of the machine `vm`.
pub const VM: Mac = Mac([0x52, 0x54, 0, 0, 0, 1]);
/// The address of the machine `vm`, which is its `spec.ip`.
pub const VM_ADDRESS: [u8; 4] = [10, 77, 0, 10];

/// A server without sockets.
#[derive(Debug)]
pub struct ApiFixture {
    /// The state of all requests.
    pub shared: Arc<Shared>,
    /// The gate, with the directory of the state: its `isos`, `firmware` and `files` are below.
    pub base: Fixture,
    /// The admin's token.
    pub admin: String,
    /// The viewer's token.
    pub viewer: String,
}

impl Default for ApiFixture {
    fn default() -> Self {
        Self::new()
    }
}

impl ApiFixture {
    /// Makes a server of an empty store, whose configuration holds unknown machines.
    pub fn new() -> Self {
        Self::with_site(crate::boot::site::tests::site("hold"))
    }

    /// Makes a server of an empty store.
    pub fn with_site(site: Site) -> Self {
        let base = Fixture::with_site(site);
        let path = base.directory.path();
        let folder = |name: &str| {
            std::fs::create_dir(path.join(name)).unwrap();
            Arc::new(ServedDirectory::new(path.join(name)))
        };
        let (firmware, files) = (folder("firmware").path().to_owned(), folder("files"));
        let firmware = BootPrograms::new([], &[firmware]);
        let tokens = Tokens::open(path).unwrap();
        let token = |name: &str| std::fs::read_to_string(path.join(name)).unwrap().trim().to_owned();
        let (admin, viewer) = (token("admin.token"), token("viewer.token"));
        let access = Access { tokens, trust_loopback: false, trust_socket: true, proxies: Vec::new() };
        let folders = Folders { firmware, files, volumes: Arc::new(Volumes::new(Vec::new())) };
        let places = Places { isos: path.join("isos"), site: base.gate.site.clone() };
        let shared = Shared::new(base.gate.clone(), places, folders, access, without_protocols(), Arc::default());
        Self { shared: Arc::new(shared), base, admin, viewer }
    }

    /// Declares an object from its JSON.
    pub async fn put(&self, kind: Kind, object: Value) -> Object {
        self.base.put_object(kind, object).await
    }

    /// Writes a file below the state's directory.
    pub fn write(&self, path: &str, bytes: &[u8]) {
        std::fs::write(self.base.directory.path().join(path), bytes).unwrap();
    }

    /// Sets what keeps the server from serving as configured.
    pub fn degrade(&self, standing: &[(&str, Severity)]) {
        let degradation = |(message, severity): &(&str, Severity)| Degradation {
            code: "test",
            subject: (*message).to_owned(),
            message: (*message).to_owned(),
            public: None,
            severity: *severity,
        };
        self.base.gate.degradations.set(Source::Interfaces, standing.iter().map(degradation).collect());
    }

    /// Sends a request from an address with the admin's token; the reply's body is read.
    pub async fn admin(&self, method: &str, path: &str, body: &str) -> Response<Bytes> {
        let token = format!("Bearer {}", self.admin);
        self.send(Serves::Everything, peer([10, 77, 0, 99]), method, path, &[(AUTHORIZATION, &token)], body).await
    }

    /// Sends a request without a token from the address of the machine `vm`.
    pub async fn machine(&self, method: &str, path: &str) -> Response<Bytes> {
        self.send(Serves::Everything, peer(VM_ADDRESS), method, path, &[], "").await
    }

    /// Sends a request over a connection in memory, by hyper on both sides.
    pub async fn send(
        &self,
        serves: Serves,
        peer: Peer,
        method: &str,
        path: &str,
        headers: &[(HeaderName, &str)],
        body: &str,
    ) -> Response<Bytes> {
        let (near, far) = tokio::io::duplex(1 << 20);
        let shared = self.shared.clone();
        let (_running, stop) = watch::channel(false);
        let server = tokio::spawn(async move {
            let far = MeteredStream::new(far, None);
            serve_http1(far, peer, &RecentView::default(), serves, &*shared, stop).await;
        });
        let (mut sender, connection) = hyper::client::conn::http1::handshake(TokioIo::new(near)).await.unwrap();
        let client = tokio::spawn(connection);
        let mut request = Request::new(Full::new(Bytes::from(body.to_owned())));
        *request.method_mut() = method.parse().unwrap();
        *request.uri_mut() = path.parse().unwrap();
        request.headers_mut().insert(HOST, HeaderValue::from_static("10.77.0.2"));
        let fields = headers.iter().map(|(name, value)| (name.clone(), HeaderValue::from_str(value).unwrap()));
        request.headers_mut().extend(fields.collect::<HeaderMap>());
        if !body.is_empty() {
            request.headers_mut().entry("content-type").or_insert(HeaderValue::from_static("application/json"));
        }
        let (head, body) = sender.send_request(request).await.unwrap().into_parts();
        let body = body.collect().await.unwrap().to_bytes();
        drop(sender);
        client.await.unwrap().unwrap();
        server.await.unwrap();
        Response::from_parts(head, body)
    }
}

/// Returns the answers of a server without DHCP, whose TFTP has no files and whose target has no units.
fn without_protocols() -> ProtocolQueries {
    ProtocolQueries {
        dhcp: Box::new(|_, _| Box::pin(async { Err(DhcpRehearsalError::Off) })),
        network: Box::new(|| Box::pin(async { Some(HeardNetwork::default()) })),
        end_lease: Box::new(|_| Box::pin(async { Some(Ok(None)) })),
        tftp: Box::new(|url, _| ServedFile { url, bytes: None, sha256: None, error: Some("no such file".into()) }),
        iscsi: Box::new(|login| {
            let attachment = Attachment {
                target: login.target.clone(),
                portal: login.machine.at.to_string(),
                initiator: login.initiator.clone(),
                chap_username: None,
                units: Vec::new(),
                error: None,
            };
            (StepDecision::served("no units"), attachment)
        }),
    }
}

/// Returns a client at an address of the network.
pub fn peer(address: impl Into<IpAddr>) -> Peer {
    Peer { address: Some(address.into()), local: None, is_local: false, trust: PeerTrust::Network, is_encrypted: None }
}

/// Returns the JSON of the host `vm`, with more fields of its spec.
pub fn host(spec: Value) -> Value {
    let mut own = serde_json::json!({"bootMACAddress": VM.to_string(), "ip": IpAddr::from(VM_ADDRESS).to_string()});
    own.as_object_mut().unwrap().extend(spec.as_object().unwrap().clone());
    serde_json::json!({"metadata": {"name": "vm", "namespace": "default"}, "spec": own})
}

/// Returns a reply's status and its body as text.
pub fn status_and_text(reply: &Response<Bytes>) -> (u16, &str) {
    (reply.status().as_u16(), std::str::from_utf8(reply.body()).unwrap())
}

impl ApiFixture {
    /// Returns the phase of the host `vm`.
    pub fn phase(&self) -> Phase {
        self.shared.gate.store.load().host_by_mac(VM).unwrap().status.phase
    }

    /// Declares the image `live`, with the bytes of its file and the boot configs that it takes.
    pub async fn put_image(&self, bytes: &[u8], boot_configs: &[&str]) {
        self.write("isos/live.iso", bytes);
        let spec = serde_json::json!({"isoFile": "live.iso", "bootConfigs": boot_configs});
        let image = serde_json::json!({"metadata": {"name": "live"}, "spec": spec});
        self.put(Kind::IscsiCdrom, image).await;
    }

    /// Declares the boot config `cfg`.
    pub async fn put_config(&self, spec: Value) {
        self.put(Kind::BootConfig, serde_json::json!({"metadata": {"name": "cfg"}, "spec": spec})).await;
    }
}
