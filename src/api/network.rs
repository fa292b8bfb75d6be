//! What people see of the network: interfaces, leases, relays, and what was dropped.

use std::net::Ipv4Addr;
use std::sync::atomic::Ordering;

use hyper::StatusCode;
use jiff::Timestamp;
use schemars::JsonSchema;
use serde::Serialize;

use crate::api::objects::status::Status;
use crate::api::state::Shared;
use crate::boot::{DropReason, Reason};
use crate::event::{Counters, Event, Protocol};
use crate::fleet::{Lease, LeaseState};
use crate::gate::interfaces::{HeardNetwork, InterfaceList, RelayList};
use crate::http::reply::{Reply, json};
use crate::store::{Snapshot, now};
use crate::ui::rows;

/// The leases of the built-in DHCP server.
#[derive(Debug, Serialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct LeaseList {
    #[schemars(extend("enum" = ["LeaseList"]))]
    kind: &'static str,
    api_version: &'static str,
    /// The leases, by address.
    items: Vec<LeaseReport>,
}

/// The last lease of an address.
#[derive(Debug, PartialEq, Eq, Serialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct LeaseReport {
    /// The address.
    pub address: Ipv4Addr,
    /// The client's hardware address.
    pub mac: String,
    /// The name that the client sends, or that its reservation has.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub hostname: Option<String>,
    /// The host with this MAC address: `NAMESPACE/NAME`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub host: Option<String>,
    /// The state: `declined` is an address that its client found in use.
    #[schemars(extend("enum" = ["bound", "expired", "released", "declined"]))]
    pub state: &'static str,
    /// Time at which the address is free, or was.
    #[schemars(with = "String")]
    pub until: Timestamp,
}

impl LeaseReport {
    /// Returns what people see of a lease at a time.
    pub fn of(lease: &Lease, state: &Snapshot, now: Timestamp) -> Self {
        let host = state.host_by_mac(lease.mac);
        Self {
            address: lease.address,
            mac: lease.mac.to_string(),
            hostname: lease.hostname.as_deref().map(str::to_owned),
            host: host.map(|host| rows::id(host.metadata.namespace.as_ref(), &host.metadata.name)),
            state: match lease.held {
                LeaseState::Released => "released",
                LeaseState::Bound | LeaseState::Declined if lease.until <= now => "expired",
                LeaseState::Bound => "bound",
                LeaseState::Declined => "declined",
            },
            until: lease.until,
        }
    }
}

/// What was dropped and refused since the server started.
#[derive(Debug, Serialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct DropList {
    #[schemars(extend("enum" = ["DropList"]))]
    kind: &'static str,
    api_version: &'static str,
    /// The counts that are not 0, the largest first.
    items: Vec<DropReport>,
}

/// Number of packets or requests that were not answered for one reason.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, JsonSchema)]
pub struct DropReport {
    /// Number since the start.
    pub count: u64,
    /// Whether they were dropped before a decision, or refused by one.
    #[schemars(extend("enum" = ["dropped", "refused"]))]
    pub outcome: &'static str,
    /// The protocol; `udp` for packets that the kernel dropped because a receive buffer was full.
    pub protocol: &'static str,
    /// Code of the reason.
    pub reason: &'static str,
}

/// Returns the counts that are not 0, the largest first.
pub fn drop_reports(counters: &Counters) -> Vec<DropReport> {
    let of = |protocol: Protocol| {
        let dropped = DropReason::ALL.iter().map(move |reason| {
            let (count, reason) = (counters.dropped(protocol, *reason), reason.code());
            DropReport { count, outcome: "dropped", protocol: protocol.as_str(), reason }
        });
        let refused = Reason::ALL.iter().map(move |reason| {
            let (count, reason) = (counters.refused(protocol, *reason), reason.code());
            DropReport { count, outcome: "refused", protocol: protocol.as_str(), reason }
        });
        dropped.chain(refused)
    };
    let count = counters.socket_receive_drops.load(Ordering::Relaxed);
    let lost = DropReport { count, outcome: "dropped", protocol: "udp", reason: "receive_buffer_full" };
    let all = Protocol::ALL.into_iter().flat_map(of).chain([lost]);
    let mut found: Vec<DropReport> = all.filter(|report| report.count > 0).collect();
    found.sort_by_key(|report| std::cmp::Reverse(report.count));
    found
}

/// Answers `/api/v1/leases`.
pub fn leases(shared: &Shared) -> Reply {
    let (state, now) = (shared.gate.store.snapshot(), now());
    let items = state.leases().map(|lease| LeaseReport::of(lease, &state, now)).collect();
    json(StatusCode::OK, &LeaseList { kind: "LeaseList", api_version: "v1", items })
}

/// Answers the DELETE of `/api/v1/leases/{address}`: ends the lease.
pub async fn end_lease(shared: &Shared, address: &str) -> Result<Reply, Status> {
    let address: Ipv4Addr = address
        .parse()
        .map_err(|_| Status::bad_request(format!("address: {address:?} is not an IPv4 address; expected 192.0.2.1")))?;
    let ended = (shared.queries.end_lease)(address).await.ok_or_else(busy)?;
    match ended.map_err(|error| Status::internal(error.to_string()))? {
        Some(lease) => {
            shared.gate.store.record_event(Some(lease.mac), Event::LeaseEnded { address: address.into() });
            Ok(json(StatusCode::OK, &LeaseReport::of(&lease, &shared.gate.store.load(), now())))
        }
        None => Err(Status::not_found_message(format!("nobody has a lease of {address}"))),
    }
}

/// Answers `/api/v1/interfaces`.
pub async fn interfaces(shared: &Shared) -> Result<Reply, Status> {
    let heard = heard(shared).await?;
    Ok(json(StatusCode::OK, &InterfaceList::new(heard.interfaces)))
}

/// Answers `/api/v1/relays`.
pub async fn relays(shared: &Shared) -> Result<Reply, Status> {
    Ok(json(StatusCode::OK, &RelayList::new(heard(shared).await?.relays)))
}

/// Answers `/api/v1/drops`.
pub fn drops(shared: &Shared) -> Reply {
    let items = drop_reports(&shared.gate.counters);
    json(StatusCode::OK, &DropList { kind: "DropList", api_version: "v1", items })
}

async fn heard(shared: &Shared) -> Result<HeardNetwork, Status> {
    (shared.queries.network)().await.ok_or_else(busy)
}

fn busy() -> Status {
    Status::unavailable("the DHCP service is busy: try again")
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::api::fixture::{ApiFixture, VM, host, peer, status_and_text};
    use crate::fleet::{Kind, Mac};
    use crate::http::peer::Serves;

    fn lease(last: u8, mac: Mac, held: LeaseState, until: i64) -> Lease {
        let until = Timestamp::from_second(until).unwrap();
        Lease { address: [10, 77, 0, last].into(), mac, client: None, hostname: Some("n1".into()), held, until }
    }

    #[tokio::test]
    async fn a_lease_shows_its_host_and_its_state() {
        let api = ApiFixture::new();
        api.put(Kind::BareMetalHost, host(serde_json::json!({}))).await;
        let (state, now) = (api.base.gate.store.snapshot(), Timestamp::from_second(100).unwrap());
        let rows = [
            (LeaseState::Bound, 101, "bound"),
            (LeaseState::Bound, 100, "expired"),
            (LeaseState::Declined, 101, "declined"),
            (LeaseState::Declined, 100, "expired"),
            (LeaseState::Released, 101, "released"),
        ];
        for (held, until, expected) in rows {
            let found = LeaseReport::of(&lease(7, VM, held, until), &state, now);
            assert_eq!((found.state, found.host.as_deref()), (expected, Some("default/vm")));
        }
        let stranger = LeaseReport::of(&lease(8, Mac([2; 6]), LeaseState::Bound, 101), &state, now);
        assert_eq!((stranger.host, stranger.hostname.as_deref()), (None, Some("n1")));
    }

    #[tokio::test]
    async fn viewers_read_and_only_admins_end_leases() {
        let api = ApiFixture::new();
        let send = async |method: &str, path: &str, token: &str| {
            let token = format!("Bearer {token}");
            let fields = [(hyper::header::AUTHORIZATION, token.as_str())];
            api.send(Serves::Everything, peer([10, 77, 0, 99]), method, path, &fields, "").await
        };
        for path in ["leases", "relays", "drops", "interfaces"] {
            assert_eq!(send("GET", &format!("/api/v1/{path}"), &api.viewer).await.status(), 200, "{path}");
            assert_eq!(send("GET", &format!("/api/v1/{path}"), "none").await.status(), 401, "{path}");
        }
        assert_eq!(send("DELETE", "/api/v1/leases/10.77.0.9", &api.viewer).await.status(), 403);
        let rows = [("10.77.0.9", 404, "nobody has a lease of 10.77.0.9"), ("x", 400, "is not an IPv4 address")];
        for (address, status, text) in rows {
            let reply = send("DELETE", &format!("/api/v1/leases/{address}"), &api.admin).await;
            assert_eq!(reply.status(), status);
            assert!(status_and_text(&reply).1.contains(text), "{text}");
        }
    }

    #[test]
    fn only_what_was_counted_is_listed_and_the_largest_first() {
        let counters = Counters::default();
        assert_eq!(drop_reports(&counters), []);
        counters.count_dropped(Protocol::Dhcp, DropReason::RateLimit, None);
        counters.count_refused(Protocol::Http, Reason::Held, None);
        counters.count_refused(Protocol::Http, Reason::Held, None);
        counters.socket_receive_drops.fetch_add(3, Ordering::Relaxed);
        let found = drop_reports(&counters);
        let shown: Vec<_> = found.iter().map(|one| (one.count, one.outcome, one.protocol, one.reason)).collect();
        let expected = [
            (3, "dropped", "udp", "receive_buffer_full"),
            (2, "refused", "http", "held"),
            (1, "dropped", "dhcp", "rate_limit"),
        ];
        assert_eq!(shown, expected);
    }
}
