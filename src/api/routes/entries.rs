//! The entries of the table of routes.

use crate::api::route::Caller::{self, Machine};
use crate::api::route::{Endpoint, MachineEndpoint, Operation, Resource, Route, RouteMethod, UiEndpoint};
use crate::fleet::Kind;

/// Returns a route.
pub(super) const fn route(path: &'static str, operations: &'static [Operation]) -> Route {
    Route { path, operations, resource: None }
}

impl Route {
    /// Marks a route of the objects of a kind.
    pub(super) const fn of(mut self, kind: Kind) -> Self {
        self.resource = Some(Resource { kind, subresource: None });
        self
    }

    /// Marks a route of a part of an object.
    pub(super) const fn part_of(mut self, kind: Kind, subresource: &'static str) -> Self {
        self.resource = Some(Resource { kind, subresource: Some(subresource) });
        self
    }
}

/// Returns an operation of machines.
pub(super) const fn machine(
    method: RouteMethod,
    id: &'static str,
    summary: &'static str,
    endpoint: MachineEndpoint,
) -> Operation {
    Operation { method, id, summary, caller: Machine, endpoint: Endpoint::Machine(endpoint) }
}

/// Returns an operation of Redfish.
pub(super) const fn redfish(method: RouteMethod, id: &'static str, summary: &'static str, caller: Caller) -> Operation {
    Operation { method, id, summary, caller, endpoint: Endpoint::Redfish }
}

/// Returns a GET.
pub(super) const fn get(id: &'static str, summary: &'static str, caller: Caller, endpoint: Endpoint) -> Operation {
    Operation { method: RouteMethod::Get, id, summary, caller, endpoint }
}

/// Returns a POST.
pub(super) const fn post(id: &'static str, summary: &'static str, caller: Caller, endpoint: Endpoint) -> Operation {
    Operation { method: RouteMethod::Post, id, summary, caller, endpoint }
}

/// Returns a PUT.
pub(super) const fn put(id: &'static str, summary: &'static str, caller: Caller, endpoint: Endpoint) -> Operation {
    Operation { method: RouteMethod::Put, id, summary, caller, endpoint }
}

/// Returns a PATCH.
pub(super) const fn patch(id: &'static str, summary: &'static str, caller: Caller, endpoint: Endpoint) -> Operation {
    Operation { method: RouteMethod::Patch, id, summary, caller, endpoint }
}

/// Returns a DELETE.
pub(super) const fn delete(id: &'static str, summary: &'static str, caller: Caller, endpoint: Endpoint) -> Operation {
    Operation { method: RouteMethod::Delete, id, summary, caller, endpoint }
}

/// Returns an operation of the web page. A page itself is for anyone: it leads to the login.
pub(super) const fn ui(
    method: RouteMethod,
    id: &'static str,
    summary: &'static str,
    caller: Caller,
    endpoint: UiEndpoint,
) -> Operation {
    Operation { method, id, summary, caller, endpoint: Endpoint::Ui(endpoint) }
}
