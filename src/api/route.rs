//! The type of a route, and the search for the route of a path.
//!
//! The router, the fast path, `Allow`, the OpenAPI document, discovery and access reviews all read the one table of
//! `routes`.

use std::sync::LazyLock;

use crate::api::auth::Role;
use crate::api::objects::access_reviews::Review;
use crate::api::routes::ROUTES;
use crate::fleet::Kind;

/// A path, and what may be done there.
#[derive(Debug)]
pub struct Route {
    /// Template of the path: `{name}` stands for one segment, a final `{*name}` for one or more.
    pub path: &'static str,
    /// Operations, in the order in which `Allow` lists them.
    pub operations: &'static [Operation],
    /// Object or part of an object that the path names, for discovery and access reviews.
    pub resource: Option<Resource>,
    /// Whether the fast path answers requests for it: a read without a body that machines repeat.
    pub is_fast: bool,
}

/// A method of a route.
#[derive(Debug)]
pub struct Operation {
    /// HTTP method. A GET is answered for HEAD, too.
    pub method: RouteMethod,
    /// `operationId` of the OpenAPI document, unique in the table.
    pub id: &'static str,
    /// One sentence on what it does, for the OpenAPI document.
    pub summary: &'static str,
    /// Least role of the client.
    pub caller: Caller,
    /// What answers it.
    pub endpoint: Endpoint,
}

/// An object of a kind, or a part of one.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Resource {
    /// Kind of the object.
    pub kind: Kind,
    /// Path segment behind the object's name: an action or something to read.
    pub subresource: Option<&'static str>,
}

/// A method that some route takes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum RouteMethod {
    /// GET, and HEAD.
    Get,
    /// POST.
    Post,
    /// PUT.
    Put,
    /// PATCH.
    Patch,
    /// DELETE.
    Delete,
}

/// The client that an operation is for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Caller {
    /// A machine: its address or its token is its proof.
    Machine,
    /// Anybody who reaches the listener.
    Anyone,
    /// A client with the viewer's role or the admin's.
    Viewer,
    /// A client with the admin's role.
    Admin,
}

/// What answers an operation.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Endpoint {
    /// What machines ask for; answered on every listener.
    Machine(MachineEndpoint),
    /// Health, metrics and the version; answered on every listener.
    Ops(OpsEndpoint),
    /// Documents and collections of the object API.
    Api(ApiEndpoint),
    /// An object or a part of one.
    Object(ObjectEndpoint),
    /// A review of what the client may do.
    Review(Review),
    /// The Redfish service, which finds the resource itself.
    Redfish,
}

/// What machines ask for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum MachineEndpoint {
    /// The iPXE script of the machine that asks.
    Script,
    /// The iPXE script that boots the disk.
    LocalDiskScript,
    /// The iPXE script that asks for the machine's own.
    BootstrapScript,
    /// A boot program.
    BootProgram,
    /// An ISO, or a file in one.
    Image,
    /// The view of an ISO that a lease names by its token.
    LeasedImage,
    /// A file of the configured directory.
    File,
    /// A file of the machine's config.
    Config,
    /// A file of a generated config.
    GeneratedConfig,
    /// A file of cloud-init's NoCloud source.
    NoCloud,
    /// The machine's Ignition config with its host name.
    NamedIgnition,
    /// A machine's report that its install is complete.
    BootComplete,
}

/// Health, metrics and the version.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum OpsEndpoint {
    /// Whether the process answers.
    Live,
    /// Whether the server is ready.
    Ready,
    /// Metrics for Prometheus.
    Metrics,
    /// The version that Kubernetes' clients read.
    Version,
}

/// Documents and collections of the object API.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ApiEndpoint {
    /// Discovery: the API's versions.
    Versions,
    /// Discovery: the API's groups.
    Groups,
    /// Discovery: the kinds of objects.
    Resources,
    /// Where the OpenAPI documents are.
    OpenApiIndex,
    /// The OpenAPI 3 document.
    OpenApiV3,
    /// The Swagger 2 document.
    OpenApiV2,
    /// Generates Ignition configs.
    GenerateIgnition,
    /// Generates a cloud-init config.
    GenerateCloudInit,
    /// Uploads an ISO.
    Upload,
    /// Lists unfinished uploads.
    ListUploads,
    /// Reads how far an upload came.
    ReadUpload,
    /// Deletes an unfinished upload.
    DeleteUpload,
    /// The timeline of everything.
    Timeline,
}

/// What is done to objects.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ObjectEndpoint {
    /// Lists or watches.
    List,
    /// Creates.
    Create,
    /// Reads or watches one.
    Read,
    /// Replaces, or creates.
    Replace,
    /// Changes fields.
    Patch,
    /// Deletes.
    Delete,
    /// The object's timeline.
    Timeline,
    /// Starts an install.
    Install,
    /// Lets a host boot its disk.
    LocalBoot,
    /// Holds a host back.
    Hold,
    /// Inserts a host's image as virtual media.
    VirtualMedia,
    /// Reads a host's NoCloud seed.
    Seed,
    /// Lists an ISO's directories, and reads its files.
    Files,
}

impl Route {
    /// Returns all routes.
    pub fn all() -> &'static [Route] {
        ROUTES
    }

    /// Returns the template as OpenAPI spells it, which has no word for a rest of several segments.
    pub fn openapi_path(&self) -> String {
        self.path.replace("{*", "{")
    }

    /// Returns the names of the path's parameters, in order.
    pub fn parameters(&self) -> impl Iterator<Item = &'static str> {
        segments(self.path).filter_map(|segment| match segment {
            Segment::Literal(_) => None,
            Segment::Parameter(name) | Segment::Rest(name) => Some(name),
        })
    }

    /// Returns the value of a parameter in a path of this route; of a rest, its first segment.
    pub fn parameter<'a>(&self, parts: &[&'a str], wanted: &str) -> Option<&'a str> {
        let mut pairs = segments(self.path).zip(parts);
        pairs.find_map(|(segment, part)| match segment {
            Segment::Parameter(name) | Segment::Rest(name) if name == wanted => Some(*part),
            Segment::Literal(_) | Segment::Parameter(_) | Segment::Rest(_) => None,
        })
    }

    /// Returns the operation of a method.
    pub fn operation(&self, method: &hyper::Method) -> Option<&'static Operation> {
        self.operations.iter().find(|operation| operation.method.takes(method))
    }

    /// Returns the value of `Allow` (RFC 9110, section 10.2.1).
    pub fn allow(&self) -> String {
        let methods: Vec<&str> = self.operations.iter().flat_map(|one| one.method.names()).copied().collect();
        methods.join(", ")
    }
}

impl RouteMethod {
    /// Returns the HTTP methods that it stands for.
    pub fn names(self) -> &'static [&'static str] {
        match self {
            Self::Get => &["GET", "HEAD"],
            Self::Post => &["POST"],
            Self::Put => &["PUT"],
            Self::Patch => &["PATCH"],
            Self::Delete => &["DELETE"],
        }
    }

    /// Returns the method's key in an OpenAPI path item.
    pub fn openapi(self) -> &'static str {
        match self {
            Self::Get => "get",
            Self::Post => "post",
            Self::Put => "put",
            Self::Patch => "patch",
            Self::Delete => "delete",
        }
    }

    fn takes(self, method: &hyper::Method) -> bool {
        self.names().contains(&method.as_str())
    }
}

impl Caller {
    /// Returns the least role that a client proves.
    pub fn role(self) -> Role {
        match self {
            Self::Machine | Self::Anyone => Role::Nobody,
            Self::Viewer => Role::Viewer,
            Self::Admin => Role::Admin,
        }
    }
}

impl ObjectEndpoint {
    /// Returns Kubernetes' verbs for it, on the object or on its subresource.
    pub fn verbs(self) -> &'static [&'static str] {
        match self {
            Self::List => &["list", "watch"],
            Self::Read | Self::Timeline | Self::Seed | Self::Files => &["get"],
            Self::Create | Self::Install | Self::LocalBoot | Self::Hold | Self::VirtualMedia => &["create"],
            Self::Replace => &["update"],
            Self::Patch => &["patch"],
            Self::Delete => &["delete"],
        }
    }
}

/// Returns all routes.
pub fn routes() -> &'static [Route] {
    ROUTES
}

/// Returns every subresource with its Kubernetes verbs, in the table's order.
pub fn subresources() -> impl Iterator<Item = (Kind, &'static str, &'static [&'static str])> {
    ROUTES.iter().filter_map(|route| {
        let Resource { kind, subresource } = route.resource?;
        let verbs = route.operations.iter().find_map(|operation| match operation.endpoint {
            Endpoint::Object(endpoint) => Some(endpoint.verbs()),
            Endpoint::Machine(_) | Endpoint::Ops(_) | Endpoint::Api(_) | Endpoint::Review(_) | Endpoint::Redfish => {
                None
            }
        });
        Some((kind, subresource?, verbs?))
    })
}

/// Returns Kubernetes' verbs for the objects of a kind themselves, sorted.
pub fn verbs(kind: Kind) -> Vec<&'static str> {
    let own = ROUTES.iter().filter(|route| route.resource == Some(Resource { kind, subresource: None }));
    let mut verbs: Vec<_> = own
        .flat_map(|route| route.operations)
        .filter_map(|operation| match operation.endpoint {
            Endpoint::Object(endpoint) => Some(endpoint.verbs()),
            Endpoint::Machine(_) | Endpoint::Ops(_) | Endpoint::Api(_) | Endpoint::Review(_) | Endpoint::Redfish => {
                None
            }
        })
        .flatten()
        .copied()
        .collect();
    verbs.sort_unstable();
    verbs.dedup();
    verbs
}

/// Returns the route of a path, given by its segments.
pub fn find(parts: &[&str]) -> Option<&'static Route> {
    TREE.find(parts)
}

/// Returns whether the fast path may answer a GET of a request target: path and query, as they were sent.
pub fn is_fast(target: &str) -> bool {
    FAST.iter().any(|(start, is_whole)| match target.strip_prefix(start) {
        Some(rest) => !is_whole || rest.is_empty() || rest.starts_with('?'),
        None => false,
    })
}

/// A segment of a template.
enum Segment {
    Literal(&'static str),
    Parameter(&'static str),
    Rest(&'static str),
}

fn segments(path: &'static str) -> impl Iterator<Item = Segment> {
    path.split('/').filter(|text| !text.is_empty()).map(|text| {
        match text.strip_prefix('{').and_then(|text| text.strip_suffix('}')) {
            Some(name) => name.strip_prefix('*').map_or(Segment::Parameter(name), Segment::Rest),
            None => Segment::Literal(text),
        }
    })
}

/// The routes by their segments.
static TREE: LazyLock<Node> = LazyLock::new(|| {
    let mut root = Node::default();
    for route in ROUTES {
        root.insert(segments(route.path), route);
    }
    root
});

/// What the targets of the fast routes begin with, and whether that is the whole path.
static FAST: LazyLock<Vec<(&str, bool)>> = LazyLock::new(|| {
    let fast = ROUTES.iter().filter(|route| route.is_fast);
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
    fn insert(&mut self, mut path: impl Iterator<Item = Segment>, route: &'static Route) {
        match path.next() {
            None => self.route = Some(route),
            Some(Segment::Rest(_)) => self.rest = Some(route),
            Some(Segment::Parameter(_)) => self.parameter.get_or_insert_default().insert(path, route),
            Some(Segment::Literal(name)) => {
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
            ("/", None),
        ];
        for (path, expected) in rows {
            assert_eq!(route_of(path), expected, "{path}");
        }
    }

    #[test]
    fn the_fast_path_takes_the_reads_that_machines_repeat() {
        let rows = [
            ("/ipxe?mac=1", true),
            ("/ipxe", true),
            ("/ipxes", false),
            ("/boot.ipxe", true),
            ("/boot/m/x.efi", true),
            ("/iso/a", true),
            ("/media/t/a.iso", true),
            ("/files/a", true),
            ("/api/v1/timeline", false),
            ("/config/t", false),
            ("http://x/iso/a", false),
        ];
        for (target, expected) in rows {
            assert_eq!(is_fast(target), expected, "{target}");
        }
    }

    #[test]
    fn an_operation_and_a_path_are_listed_once() {
        let (mut paths, mut ids) = (HashSet::new(), HashSet::new());
        for route in ROUTES {
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

    #[test]
    fn every_kind_is_served_with_kubernetes_verbs() {
        for kind in Kind::ALL {
            assert_eq!(verbs(kind), ["create", "delete", "get", "list", "patch", "update", "watch"]);
        }
        let hosts = subresources().filter(|(kind, ..)| *kind == Kind::BareMetalHost);
        let names: Vec<&str> = hosts.map(|(_, name, _)| name).collect();
        assert_eq!(names, ["timeline", "install", "localboot", "hold", "virtualmedia", "seed"]);
    }
}
