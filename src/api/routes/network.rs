//! The routes of what people see of the network.

use crate::api::route::ApiEndpoint as Api;
use crate::api::route::Caller::{Admin, Viewer};
use crate::api::route::{Endpoint, Route};
use crate::api::routes::entries::{delete, get, route};

/// Every route of the network.
pub(super) static NETWORK_ROUTES: &[Route] = &[
    route(
        "/api/v1/interfaces",
        &[get(
            "listInterfaces",
            "Lists the server's interfaces with DHCP, and the other servers heard on them.",
            Viewer,
            Endpoint::Api(Api::Interfaces),
        )],
    ),
    route(
        "/api/v1/relays",
        &[get("listRelays", "Lists the relays whose DHCP messages arrived.", Viewer, Endpoint::Api(Api::Relays))],
    ),
    route(
        "/api/v1/leases",
        &[get("listLeases", "Lists the leases of the DHCP server.", Viewer, Endpoint::Api(Api::Leases))],
    ),
    route(
        "/api/v1/leases/{address}",
        &[delete("endLease", "Ends the lease of an address.", Admin, Endpoint::Api(Api::EndLease))],
    ),
    route(
        "/api/v1/drops",
        &[get("listDrops", "Counts what was dropped and refused, by reason.", Viewer, Endpoint::Api(Api::Drops))],
    ),
];
