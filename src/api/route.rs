//! The type of a route. The router, the fast path, `Allow`, the OpenAPI document, discovery and access reviews all read
//! the one table in `routes`.

use crate::api::auth::Role;
use crate::fleet::Kind;

/// A path and its operations.
#[derive(Debug)]
pub struct Route {
    /// Template of the path: `{name}` stands for one segment, a final `{*name}` for one or more.
    pub path: &'static str,
    /// Operations, in the order in which `Allow` lists them.
    pub operations: &'static [Operation],
    /// Object or part of an object that the path names, for discovery and access reviews.
    pub resource: Option<Resource>,
}

/// A segment of a template.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum PathSegment {
    /// A text.
    Literal(&'static str),
    /// A parameter of one segment.
    Parameter(&'static str),
    /// A parameter of all segments that are left, at least one.
    Rest(&'static str),
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
    /// The endpoint that answers it.
    pub endpoint: Endpoint,
}

/// An object of a kind, or a part of one.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Resource {
    /// Kind of the object.
    pub kind: Kind,
    /// Path segment after the object's name: an action or something to read.
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
    /// Any client that reaches the listener.
    Anyone,
    /// A client with the viewer's role or the admin's.
    Viewer,
    /// A client with the admin's role.
    Admin,
}

/// The endpoint of an operation.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Endpoint {
    /// A request of a machine, answered on every listener.
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
    /// The web page. It is not part of the API, so the OpenAPI document leaves it out.
    Ui(UiEndpoint),
}

/// The requests of a browser that shows the web page.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum UiEndpoint {
    /// Leads to the first page.
    Start,
    /// The login page.
    Login,
    /// Logs in with a token.
    LogIn,
    /// Logs out.
    LogOut,
    /// A file of the page.
    Asset,
    /// The rows of all objects.
    Rows,
    /// The stream of changed rows.
    Events,
    /// The page of all hosts.
    Hosts,
    /// The page of one host.
    Host,
    /// The page of all ISOs.
    Isos,
    /// The page of all boot configs.
    Configs,
    /// The page of the network.
    Network,
    /// The page of the timeline.
    Activity,
    /// The page of the settings in force.
    Settings,
}

/// The requests of machines.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum MachineEndpoint {
    /// The iPXE script of the machine that asks.
    Script,
    /// The report of a script that failed.
    ScriptFailed,
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
    /// A report of a machine's installer about its progress.
    Report,
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
    /// The paths of the OpenAPI documents.
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
    /// The timelines as Kubernetes' events.
    Events,
    /// Lists the namespaces.
    ListNamespaces,
    /// Reads a namespace.
    ReadNamespace,
    /// Rehearses the boot of a machine.
    Rehearsal,
    /// Lists the server's interfaces, with the servers heard on them.
    Interfaces,
    /// Lists the relays whose DHCP messages arrived.
    Relays,
    /// Lists the leases.
    Leases,
    /// Ends a lease.
    EndLease,
    /// Counts what was dropped and refused.
    Drops,
    /// Lists the settings in force.
    Settings,
}

/// The operations on objects.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ObjectEndpoint {
    /// Lists or watches.
    List,
    /// Creates.
    Create,
    /// Deletes the selected objects.
    DeleteCollection,
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
    /// Why the host does not boot.
    Diagnosis,
    /// The host's serial console.
    Console,
    /// Starts an install.
    Install,
    /// Lets a host boot its disk.
    LocalBoot,
    /// Puts a host on hold.
    Hold,
    /// Inserts a host's image as virtual media.
    VirtualMedia,
    /// Requests a power change of a host.
    Power,
    /// Sets the boot device of a host.
    BootDevice,
    /// Reads a host's NoCloud seed.
    Seed,
    /// Rehearses the boot of a host.
    Rehearsal,
    /// Lists an ISO's directories, and reads its files.
    Files,
    /// Lists the versions of a template.
    Versions,
    /// Reads a host's config as it would be served.
    Config,
    /// Previews a change of a template.
    Preview,
}

/// The reviews of a client's own access.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Review {
    /// The client's identity (SelfSubjectReview).
    Subject,
    /// Whether the client may do one thing (SelfSubjectAccessReview).
    Access,
    /// Everything that the client may do (SelfSubjectRulesReview).
    Rules,
}

impl Route {
    /// Returns the template as OpenAPI spells it, which has no word for a rest of several segments.
    pub fn openapi_path(&self) -> String {
        self.path.replace("{*", "{")
    }

    /// Returns the segments of the template.
    pub fn segments(&self) -> impl Iterator<Item = PathSegment> + use<> {
        self.path.split('/').filter(|text| !text.is_empty()).map(|text| {
            match text.strip_prefix('{').and_then(|text| text.strip_suffix('}')) {
                Some(name) => name.strip_prefix('*').map_or(PathSegment::Parameter(name), PathSegment::Rest),
                None => PathSegment::Literal(text),
            }
        })
    }

    /// Returns the names of the path's parameters, in order.
    pub fn parameters(&self) -> impl Iterator<Item = &'static str> + use<> {
        self.segments().filter_map(|segment| match segment {
            PathSegment::Literal(_) => None,
            PathSegment::Parameter(name) | PathSegment::Rest(name) => Some(name),
        })
    }

    /// Returns the value of a parameter in a path of this route; of a rest, its first segment.
    pub fn parameter<'a>(&self, parts: &[&'a str], wanted: &str) -> Option<&'a str> {
        let mut pairs = self.segments().zip(parts);
        pairs.find_map(|(segment, part)| match segment {
            PathSegment::Parameter(name) | PathSegment::Rest(name) if name == wanted => Some(*part),
            PathSegment::Literal(_) | PathSegment::Parameter(_) | PathSegment::Rest(_) => None,
        })
    }

    /// Returns the operation of a method.
    pub fn operation(&self, method: &hyper::Method) -> Option<&'static Operation> {
        self.operations.iter().find(|operation| operation.method.takes(method))
    }

    /// Returns whether the fast path answers reads of it: every read of machines, on whichever route.
    pub fn is_fast(&self) -> bool {
        let is_read = |one: &Operation| one.method == RouteMethod::Get && matches!(one.endpoint, Endpoint::Machine(_));
        self.operations.iter().any(is_read)
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
            Self::Read
            | Self::Timeline
            | Self::Diagnosis
            | Self::Console
            | Self::Seed
            | Self::Rehearsal
            | Self::Files
            | Self::Versions
            | Self::Config => &["get"],
            Self::DeleteCollection => &["deletecollection"],
            Self::Create
            | Self::Install
            | Self::LocalBoot
            | Self::Hold
            | Self::VirtualMedia
            | Self::Power
            | Self::BootDevice
            | Self::Preview => &["create"],
            Self::Replace => &["update"],
            Self::Patch => &["patch"],
            Self::Delete => &["delete"],
        }
    }
}
