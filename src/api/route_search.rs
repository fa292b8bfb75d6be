//! The search for the route of a path.

use std::sync::LazyLock;

use crate::api::route::{PathSegment, Route};
use crate::api::routes::routes;

/// Returns the route of a path, given by its segments.
pub fn find(parts: &[&str]) -> Option<&'static Route> {
    TREE.find(parts)
}

/// Returns whether the fast path may answer a GET of a request target: path and query, as they were sent. Several slashes
/// at its beginning are one.
pub fn is_fast(target: &str) -> bool {
    let slashes = target.bytes().take_while(|byte| *byte == b'/').count();
    let target = target.get(slashes.saturating_sub(1)..).unwrap_or_default();
    FAST.iter().any(|(start, is_whole)| match target.strip_prefix(start) {
        Some(rest) => !is_whole || rest.is_empty() || rest.starts_with('?'),
        None => false,
    })
}

/// The routes by their segments.
static TREE: LazyLock<Node> = LazyLock::new(|| {
    let mut root = Node::default();
    for route in routes() {
        root.insert(route.segments(), route);
    }
    root
});

/// The prefixes of the targets of the fast routes, and whether the prefix is the whole path.
static FAST: LazyLock<Vec<(&str, bool)>> = LazyLock::new(|| {
    let fast = routes().filter(|route| route.is_fast());
    fast.map(|route| match route.path.find('{') {
        Some(end) => (&route.path[..end], false),
        None => (route.path, true),
    })
    .collect()
});

/// The routes that share their first segments.
#[derive(Default)]
struct Node {
    route: Option<&'static Route>,
    literals: Vec<(&'static str, Node)>,
    parameter: Option<Box<Node>>,
    rest: Option<&'static Route>,
}

impl Node {
    fn insert(&mut self, mut path: impl Iterator<Item = PathSegment>, route: &'static Route) {
        match path.next() {
            None => self.route = Some(route),
            Some(PathSegment::Rest(_)) => self.rest = Some(route),
            Some(PathSegment::Parameter(_)) => self.parameter.get_or_insert_default().insert(path, route),
            Some(PathSegment::Literal(name)) => {
                let known = self.literals.iter().position(|(literal, _)| *literal == name);
                let at = known.unwrap_or_else(|| {
                    self.literals.push((name, Self::default()));
                    self.literals.len() - 1
                });
                self.literals[at].1.insert(path, route);
            }
        }
    }

    fn find(&self, parts: &[&str]) -> Option<&'static Route> {
        let Some((first, others)) = parts.split_first() else { return self.route };
        let literal = self.literals.iter().find(|(name, _)| name == first);
        let found = literal.and_then(|(_, node)| node.find(others));
        found.or_else(|| self.parameter.as_ref().and_then(|node| node.find(others))).or(self.rest)
    }
}

#[cfg(test)]
mod tests {
    use std::collections::HashSet;

    use super::*;

    fn route_of(path: &str) -> Option<&'static str> {
        let parts: Vec<&str> = path.split('/').filter(|part| !part.is_empty()).collect();
        find(&parts).map(|route| route.path)
    }

    #[test]
    fn a_path_leads_to_its_route() {
        let rows = [
            ("/ipxe", Some("/ipxe")),
            ("/ipxe/x", None),
            ("//iso//a/", Some("/iso/{name}")),
            ("/iso/a/b/c", Some("/iso/{name}/{*path}")),
            ("/iso", None),
            ("/files", None),
            ("/files/a/b", Some("/files/{*path}")),
            ("/boot/m", None),
            ("/boot/m/x/y.efi", Some("/boot/{mac}/{*file}")),
            ("/config/t/f", Some("/config/{token}/{file}")),
            ("/api/v1/iscsi-cdroms/upload", Some("/api/v1/iscsi-cdroms/upload")),
            ("/api/v1/iscsi-cdroms/upload/files", Some("/api/v1/iscsi-cdroms/{name}/files")),
            ("/api/v1/baremetalhosts/a", None),
            ("/api/v1/namespaces/n/bootconfigs", None),
            ("/api/v1/configs/kickstart/generate", None),
            ("/api/v1/pods", None),
            ("/redfish/v1/", Some("/redfish/v1")),
            ("/", Some("/")),
        ];
        for (path, expected) in rows {
            assert_eq!(route_of(path), expected, "{path}");
        }
    }

    #[test]
    fn the_fast_path_takes_the_reads_of_machines() {
        let rows = [
            ("/ipxe?mac=1", true),
            ("/ipxe", true),
            ("/ipxes", false),
            ("/boot.ipxe", true),
            ("/boot/m/x.efi", true),
            ("/iso/a", true),
            ("/media/t/a.iso", true),
            ("/files/a", true),
            ("//files/a", true),
            ("///iso//a", true),
            ("//", false),
            ("", false),
            ("/api/v1/timeline", false),
            ("/config/t", true),
            ("/config/t/f?x", true),
            ("/configs/f", true),
            ("/nocloud/t/user-data", true),
            ("/get_ignition", true),
            ("/api/v1/bootconfig", true),
            ("/api/v1/bootconfig?file=a", true),
            ("/api/v1/bootconfigs", false),
            ("/api/v1/ipxe/boot?mac=1", true),
            ("/api/v1/boot-complete", false),
            ("/phone_home/t", false),
            ("http://x/iso/a", false),
        ];
        for (target, expected) in rows {
            assert_eq!(is_fast(target), expected, "{target}");
        }
    }

    #[test]
    fn an_operation_and_a_path_are_listed_once() {
        let (mut paths, mut ids) = (HashSet::new(), HashSet::new());
        for route in routes() {
            assert!(paths.insert(route.path), "{}", route.path);
            assert!(!route.operations.is_empty(), "{}", route.path);
            for operation in route.operations {
                assert!(ids.insert(operation.id), "{}", operation.id);
                assert!(operation.summary.ends_with('.'), "{}", operation.id);
            }
            let parts: Vec<&str> = route.path.split('/').filter(|part| !part.is_empty()).collect();
            assert!(std::ptr::eq(find(&parts).unwrap(), route), "{} is hidden by another route", route.path);
        }
    }

    #[test]
    fn parameters_are_read_by_name() {
        let parts = ["config", "t", "f"];
        let route = find(&parts).unwrap();
        assert_eq!(route.parameters().collect::<Vec<_>>(), ["token", "file"]);
        assert_eq!((route.parameter(&parts, "token"), route.parameter(&parts, "file")), (Some("t"), Some("f")));
        assert_eq!(route.parameter(&parts, "name"), None);
        assert_eq!(find(&["iso", "a", "b"]).unwrap().openapi_path(), "/iso/{name}/{path}");
    }
}
