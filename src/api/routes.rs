//! The table of routes: every path that the server answers, with its operations.

mod entries;
mod network;
mod templates;
mod ui;

use crate::api::route::ApiEndpoint as Api;
use crate::api::route::Caller::{Admin, Anyone, Viewer};
use crate::api::route::MachineEndpoint as M;
use crate::api::route::ObjectEndpoint as O;
use crate::api::route::OpsEndpoint as Ops;
use crate::api::route::{Endpoint, Resource, Review, Route, RouteMethod};
use crate::fleet::Kind::{self, BareMetalHost, BootConfig, IscsiCdrom};

use entries::{delete, get, machine, patch, post, put, redfish, route};
use network::NETWORK_ROUTES;
use templates::TEMPLATE_ROUTES;
use ui::UI_ROUTES;

/// Every route of the server but those of the network, of templates and of the web page.
static ROUTES: &[Route] = &[
    // What machines ask.
    route(
        "/ipxe",
        &[machine(RouteMethod::Get, "bootScript", "Returns the iPXE script of the machine that asks.", M::Script)],
    ),
    route(
        "/ipxe/failed",
        &[machine(
            RouteMethod::Get,
            "bootScriptFailed",
            "Takes the report of a script: the hardware, or a failure.",
            M::ScriptFailed,
        )],
    ),
    route(
        "/api/v1/ipxe/boot",
        &[machine(RouteMethod::Get, "bootScriptByApi", "Returns the iPXE script of the machine that asks.", M::Script)],
    ),
    route(
        "/api/v1/ipxe/localboot",
        &[machine(
            RouteMethod::Get,
            "localBootScript",
            "Returns the iPXE script that boots the disk.",
            M::LocalDiskScript,
        )],
    ),
    route(
        "/boot.ipxe",
        &[machine(
            RouteMethod::Get,
            "bootHook",
            "Returns the iPXE script that asks for the machine's own script.",
            M::BootstrapScript,
        )],
    ),
    route(
        "/boot/{mac}/{*file}",
        &[machine(RouteMethod::Get, "bootProgram", "Returns a boot program, as TFTP does.", M::BootProgram)],
    ),
    route("/iso/{name}", &[machine(RouteMethod::Get, "isoBytes", "Returns an ISO, or a range of it.", M::Image)]),
    route("/iso/{name}/{*path}", &[machine(RouteMethod::Get, "isoFileBytes", "Returns a file in an ISO.", M::Image)]),
    route(
        "/media/{token}/{file}",
        &[machine(RouteMethod::Get, "mediumBytes", "Returns the view of an ISO that a token names.", M::LeasedImage)],
    ),
    route(
        "/files/{*path}",
        &[machine(RouteMethod::Get, "fileBytes", "Returns a file of the configured directory.", M::File)],
    ),
    route(
        "/api/v1/bootconfig",
        &[machine(RouteMethod::Get, "bootConfig", "Returns a file of the machine's config.", M::Config)],
    ),
    route(
        "/config/{token}",
        &[machine(RouteMethod::Get, "configByToken", "Returns a file of the machine's config.", M::Config)],
    ),
    route(
        "/config/{token}/{file}",
        &[machine(RouteMethod::Get, "configFileByToken", "Returns a file of the machine's config.", M::Config)],
    ),
    route(
        "/configs/{file}",
        &[machine(RouteMethod::Get, "generatedConfig", "Returns a file of a generated config.", M::GeneratedConfig)],
    ),
    route(
        "/nocloud/{token}/{file}",
        &[machine(RouteMethod::Get, "noCloud", "Returns a file of cloud-init's NoCloud source.", M::NoCloud)],
    ),
    route(
        "/get_ignition",
        &[machine(
            RouteMethod::Get,
            "namedIgnition",
            "Returns the machine's Ignition config with its host name.",
            M::NamedIgnition,
        )],
    ),
    route(
        "/api/v1/boot-complete",
        &[machine(
            RouteMethod::Post,
            "bootComplete",
            "Reports that the machine's install is complete.",
            M::BootComplete,
        )],
    ),
    route(
        "/phone_home",
        &[machine(RouteMethod::Post, "phoneHome", "Reports that the machine's install is complete.", M::BootComplete)],
    ),
    route(
        "/phone_home/{token}",
        &[machine(
            RouteMethod::Post,
            "phoneHomeByToken",
            "Reports that the machine's install is complete.",
            M::BootComplete,
        )],
    ),
    route(
        "/phone-home",
        &[machine(
            RouteMethod::Post,
            "phoneHomeHyphened",
            "Reports that the machine's install is complete.",
            M::BootComplete,
        )],
    ),
    route(
        "/phone-home/{token}",
        &[machine(
            RouteMethod::Post,
            "phoneHomeHyphenedByToken",
            "Reports that the machine's install is complete.",
            M::BootComplete,
        )],
    ),
    route(
        "/api/v1/report",
        &[machine(RouteMethod::Post, "installerReport", "Reports the progress of the machine's installer.", M::Report)],
    ),
    route(
        "/api/v1/report/{token}",
        &[machine(
            RouteMethod::Post,
            "installerReportByToken",
            "Reports the progress of the machine's installer.",
            M::Report,
        )],
    ),
    // What operators watch.
    route("/healthz", &[get("health", "Returns whether the process answers.", Anyone, Endpoint::Ops(Ops::Live))]),
    route("/livez", &[get("live", "Returns whether the process answers.", Anyone, Endpoint::Ops(Ops::Live))]),
    route(
        "/readyz",
        &[get("ready", "Returns whether the server is ready, else what is wrong.", Anyone, Endpoint::Ops(Ops::Ready))],
    ),
    route("/metrics", &[get("metrics", "Returns the metrics, for Prometheus.", Anyone, Endpoint::Ops(Ops::Metrics))]),
    route("/version", &[get("version", "Returns the version.", Anyone, Endpoint::Ops(Ops::Version))]),
    // Discovery, documents and reviews.
    route("/api", &[get("listVersions", "Lists the API's versions.", Viewer, Endpoint::Api(Api::Versions))]),
    route("/apis", &[get("listGroups", "Lists the API's groups.", Viewer, Endpoint::Api(Api::Groups))]),
    route("/api/v1", &[get("listResources", "Lists the kinds of objects.", Viewer, Endpoint::Api(Api::Resources))]),
    route(
        "/openapi/v2",
        &[get("readSwagger", "Returns the schemas as Swagger 2.", Viewer, Endpoint::Api(Api::OpenApiV2))],
    ),
    route(
        "/openapi/v3",
        &[get("listDocuments", "Lists the OpenAPI documents.", Viewer, Endpoint::Api(Api::OpenApiIndex))],
    ),
    route(
        "/openapi/v3/api/v1",
        &[get("readDocument", "Returns this document.", Viewer, Endpoint::Api(Api::OpenApiV3))],
    ),
    route(
        "/apis/authentication.k8s.io/v1/selfsubjectreviews",
        &[post("createSelfSubjectReview", "Returns who the client is.", Viewer, Endpoint::Review(Review::Subject))],
    ),
    route(
        "/apis/authorization.k8s.io/v1/selfsubjectaccessreviews",
        &[post(
            "createSelfSubjectAccessReview",
            "Returns whether the client may do one thing.",
            Viewer,
            Endpoint::Review(Review::Access),
        )],
    ),
    route(
        "/apis/authorization.k8s.io/v1/selfsubjectrulesreviews",
        &[post(
            "createSelfSubjectRulesReview",
            "Returns all that the client may do.",
            Viewer,
            Endpoint::Review(Review::Rules),
        )],
    ),
    // Objects.
    route(
        "/api/v1/baremetalhosts",
        &[
            get(
                "listBareMetalHostForAllNamespaces",
                "Lists or watches the hosts of all namespaces.",
                Viewer,
                Endpoint::Object(O::List),
            ),
            post(
                "createBareMetalHostInAnyNamespace",
                "Creates a host in the namespace that it names.",
                Admin,
                Endpoint::Object(O::Create),
            ),
        ],
    )
    .of(BareMetalHost),
    route(
        "/api/v1/namespaces/{namespace}/baremetalhosts",
        &[
            get("listBareMetalHost", "Lists or watches hosts.", Viewer, Endpoint::Object(O::List)),
            post("createBareMetalHost", "Creates a host.", Admin, Endpoint::Object(O::Create)),
            delete(
                "deleteCollectionBareMetalHost",
                "Deletes the selected hosts.",
                Admin,
                Endpoint::Object(O::DeleteCollection),
            ),
        ],
    )
    .of(BareMetalHost),
    route(
        "/api/v1/namespaces/{namespace}/baremetalhosts/{name}",
        &[
            get("readBareMetalHost", "Reads a host.", Viewer, Endpoint::Object(O::Read)),
            put("replaceBareMetalHost", "Replaces a host.", Admin, Endpoint::Object(O::Replace)),
            patch("patchBareMetalHost", "Changes fields of a host.", Admin, Endpoint::Object(O::Patch)),
            delete("deleteBareMetalHost", "Deletes a host.", Admin, Endpoint::Object(O::Delete)),
        ],
    )
    .of(BareMetalHost),
    route(
        "/api/v1/namespaces/{namespace}/baremetalhosts/{name}/timeline",
        &[get("readBareMetalHostTimeline", "Returns what happened to a host.", Viewer, Endpoint::Object(O::Timeline))],
    )
    .part_of(BareMetalHost, "timeline"),
    route(
        "/api/v1/namespaces/{namespace}/baremetalhosts/{name}/diagnosis",
        &[get(
            "readBareMetalHostDiagnosis",
            "Returns why a host does not boot.",
            Viewer,
            Endpoint::Object(O::Diagnosis),
        )],
    )
    .part_of(BareMetalHost, "diagnosis"),
    route(
        "/api/v1/namespaces/{namespace}/baremetalhosts/{name}/console",
        &[get("readBareMetalHostConsole", "Returns a host's serial console.", Admin, Endpoint::Object(O::Console))],
    )
    .part_of(BareMetalHost, "console"),
    route(
        "/api/v1/namespaces/{namespace}/baremetalhosts/{name}/install",
        &[post("installBareMetalHost", "Starts an install.", Admin, Endpoint::Object(O::Install))],
    )
    .part_of(BareMetalHost, "install"),
    route(
        "/api/v1/namespaces/{namespace}/baremetalhosts/{name}/localboot",
        &[post("localbootBareMetalHost", "Lets a host boot its disk.", Admin, Endpoint::Object(O::LocalBoot))],
    )
    .part_of(BareMetalHost, "localboot"),
    route(
        "/api/v1/namespaces/{namespace}/baremetalhosts/{name}/hold",
        &[post("holdBareMetalHost", "Holds a host back: no protocol answers it.", Admin, Endpoint::Object(O::Hold))],
    )
    .part_of(BareMetalHost, "hold"),
    route(
        "/api/v1/namespaces/{namespace}/baremetalhosts/{name}/virtualmedia",
        &[post(
            "insertBareMetalHostVirtualMedia",
            "Returns the URL of the host's image for its BMC.",
            Admin,
            Endpoint::Object(O::VirtualMedia),
        )],
    )
    .part_of(BareMetalHost, "virtualmedia"),
    route(
        "/api/v1/namespaces/{namespace}/baremetalhosts/{name}/power",
        &[post("changeBareMetalHostPower", "Requests a power change.", Admin, Endpoint::Object(O::Power))],
    )
    .part_of(BareMetalHost, "power"),
    route(
        "/api/v1/namespaces/{namespace}/baremetalhosts/{name}/bootdevice",
        &[post("setBareMetalHostBootDevice", "Sets the boot device.", Admin, Endpoint::Object(O::BootDevice))],
    )
    .part_of(BareMetalHost, "bootdevice"),
    route(
        "/api/v1/namespaces/{namespace}/baremetalhosts/{name}/seed",
        &[get("readBareMetalHostSeed", "Returns the host's NoCloud seed.", Viewer, Endpoint::Object(O::Seed))],
    )
    .part_of(BareMetalHost, "seed"),
    route(
        "/api/v1/namespaces/{namespace}/baremetalhosts/{name}/rehearsal",
        &[get(
            "rehearseBareMetalHost",
            "Returns what a host would be sent at its next boot; nothing is sent or recorded.",
            Viewer,
            Endpoint::Object(O::Rehearsal),
        )],
    )
    .part_of(BareMetalHost, "rehearsal"),
    route(
        "/api/v1/iscsi-cdroms",
        &[
            get("listISCSICdrom", "Lists or watches ISOs.", Viewer, Endpoint::Object(O::List)),
            post("createISCSICdrom", "Creates an ISO.", Admin, Endpoint::Object(O::Create)),
            delete(
                "deleteCollectionISCSICdrom",
                "Deletes the selected ISOs.",
                Admin,
                Endpoint::Object(O::DeleteCollection),
            ),
        ],
    )
    .of(IscsiCdrom),
    route(
        "/api/v1/iscsi-cdroms/{name}",
        &[
            get("readISCSICdrom", "Reads an ISO.", Viewer, Endpoint::Object(O::Read)),
            put("replaceISCSICdrom", "Replaces an ISO.", Admin, Endpoint::Object(O::Replace)),
            patch("patchISCSICdrom", "Changes fields of an ISO.", Admin, Endpoint::Object(O::Patch)),
            delete("deleteISCSICdrom", "Deletes an ISO.", Admin, Endpoint::Object(O::Delete)),
        ],
    )
    .of(IscsiCdrom),
    route(
        "/api/v1/iscsi-cdroms/{name}/timeline",
        &[get("readISCSICdromTimeline", "Returns what happened to an ISO.", Viewer, Endpoint::Object(O::Timeline))],
    )
    .part_of(IscsiCdrom, "timeline"),
    route(
        "/api/v1/iscsi-cdroms/{name}/files",
        &[get(
            "readISCSICdromFiles",
            "Lists a directory of an ISO, or returns a file in it.",
            Viewer,
            Endpoint::Object(O::Files),
        )],
    )
    .part_of(IscsiCdrom, "files"),
    route(
        "/api/v1/iscsi-cdroms/upload",
        &[post("uploadISCSICdrom", "Uploads an ISO and creates its object.", Admin, Endpoint::Api(Api::Upload))],
    ),
    route(
        "/api/v1/bootconfigs",
        &[
            get("listBootConfig", "Lists or watches boot configs.", Viewer, Endpoint::Object(O::List)),
            post("createBootConfig", "Creates a boot config.", Admin, Endpoint::Object(O::Create)),
            delete(
                "deleteCollectionBootConfig",
                "Deletes the selected boot configs.",
                Admin,
                Endpoint::Object(O::DeleteCollection),
            ),
        ],
    )
    .of(BootConfig),
    route(
        "/api/v1/bootconfigs/{name}",
        &[
            get("readBootConfig", "Reads a boot config.", Viewer, Endpoint::Object(O::Read)),
            put("replaceBootConfig", "Replaces a boot config.", Admin, Endpoint::Object(O::Replace)),
            patch("patchBootConfig", "Changes fields of a boot config.", Admin, Endpoint::Object(O::Patch)),
            delete("deleteBootConfig", "Deletes a boot config.", Admin, Endpoint::Object(O::Delete)),
        ],
    )
    .of(BootConfig),
    route(
        "/api/v1/bootconfigs/{name}/timeline",
        &[get(
            "readBootConfigTimeline",
            "Returns what happened to a boot config.",
            Viewer,
            Endpoint::Object(O::Timeline),
        )],
    )
    .part_of(BootConfig, "timeline"),
    route(
        "/api/v1/uploads",
        &[get("listUploads", "Lists unfinished uploads.", Viewer, Endpoint::Api(Api::ListUploads))],
    ),
    route(
        "/api/v1/uploads/{key}",
        &[
            get("readUpload", "Returns how many bytes of an upload arrived.", Viewer, Endpoint::Api(Api::ReadUpload)),
            delete("giveUpUpload", "Deletes an unfinished upload.", Admin, Endpoint::Api(Api::DeleteUpload)),
        ],
    ),
    route(
        "/api/v1/timeline",
        &[get("listTimeline", "Returns what happened to everything.", Viewer, Endpoint::Api(Api::Timeline))],
    ),
    route(
        "/api/v1/events",
        &[get("listEventForAllNamespaces", "Lists the timeline as events.", Viewer, Endpoint::Api(Api::Events))],
    ),
    route(
        "/api/v1/namespaces/{namespace}/events",
        &[get("listEvent", "Lists a namespace's timeline as events.", Viewer, Endpoint::Api(Api::Events))],
    ),
    route(
        "/api/v1/namespaces",
        &[get("listNamespace", "Lists the namespaces.", Viewer, Endpoint::Api(Api::ListNamespaces))],
    ),
    route(
        "/api/v1/namespaces/{name}",
        &[get("readNamespace", "Reads a namespace.", Viewer, Endpoint::Api(Api::ReadNamespace))],
    ),
    route(
        "/api/v1/rehearsal",
        &[get(
            "rehearseMachine",
            "Returns what a machine would be sent at its next boot; nothing is sent or recorded.",
            Viewer,
            Endpoint::Api(Api::Rehearsal),
        )],
    ),
    route(
        "/api/v1/settings",
        &[get("listSettings", "Lists the settings in force.", Viewer, Endpoint::Api(Api::Settings))],
    ),
    route(
        "/api/v1/configs/ignition/generate",
        &[post("generateIgnition", "Generates Ignition configs.", Admin, Endpoint::Api(Api::GenerateIgnition))],
    ),
    route(
        "/api/v1/configs/cloudinit/generate",
        &[post("generateCloudInit", "Generates a cloud-init config.", Admin, Endpoint::Api(Api::GenerateCloudInit))],
    ),
    // Redfish.
    route("/redfish", &[redfish(RouteMethod::Get, "redfishVersions", "Lists the versions of Redfish.", Anyone)]),
    route("/redfish/v1", &[redfish(RouteMethod::Get, "redfishRoot", "Returns the service root.", Anyone)]),
    route(
        "/redfish/v1/odata",
        &[redfish(RouteMethod::Get, "redfishServices", "Lists the services, as OData.", Anyone)],
    ),
    route(
        "/redfish/v1/$metadata",
        &[redfish(RouteMethod::Get, "redfishMetadata", "Returns the metadata document.", Anyone)],
    ),
    route("/redfish/v1/Systems", &[redfish(RouteMethod::Get, "redfishSystems", "Lists the systems.", Viewer)]),
    route(
        "/redfish/v1/Systems/{id}",
        &[
            redfish(RouteMethod::Get, "redfishSystem", "Reads a system.", Viewer),
            redfish(RouteMethod::Patch, "redfishSetBoot", "Changes a system's boot override.", Admin),
        ],
    ),
    route(
        "/redfish/v1/Systems/{id}/Actions/ComputerSystem.Reset",
        &[redfish(RouteMethod::Post, "redfishReset", "Resets a system.", Admin)],
    ),
    route(
        "/redfish/v1/Systems/{id}/EthernetInterfaces",
        &[redfish(RouteMethod::Get, "redfishPorts", "Lists a system's interfaces.", Viewer)],
    ),
    route(
        "/redfish/v1/Systems/{id}/EthernetInterfaces/1",
        &[redfish(RouteMethod::Get, "redfishPort", "Reads a system's interface.", Viewer)],
    ),
    route("/redfish/v1/Managers", &[redfish(RouteMethod::Get, "redfishManagers", "Lists the managers.", Viewer)]),
    route("/redfish/v1/Managers/{id}", &[redfish(RouteMethod::Get, "redfishManager", "Reads a manager.", Viewer)]),
    route(
        "/redfish/v1/Systems/{id}/VirtualMedia",
        &[redfish(RouteMethod::Get, "redfishSystemDrives", "Lists the virtual drives of a system.", Viewer)],
    ),
    route(
        "/redfish/v1/Systems/{id}/VirtualMedia/Cd",
        &[
            redfish(RouteMethod::Get, "redfishSystemDrive", "Reads the virtual drive of a system.", Viewer),
            redfish(RouteMethod::Patch, "redfishSystemSetDrive", "Changes the virtual drive of a system.", Admin),
        ],
    ),
    route(
        "/redfish/v1/Systems/{id}/VirtualMedia/Cd/Actions/VirtualMedia.InsertMedia",
        &[redfish(
            RouteMethod::Post,
            "redfishSystemInsert",
            "Inserts an image into the virtual drive of a system.",
            Admin,
        )],
    ),
    route(
        "/redfish/v1/Systems/{id}/VirtualMedia/Cd/Actions/VirtualMedia.EjectMedia",
        &[redfish(
            RouteMethod::Post,
            "redfishSystemEject",
            "Ejects the image from the virtual drive of a system.",
            Admin,
        )],
    ),
    route(
        "/redfish/v1/Managers/{id}/VirtualMedia",
        &[redfish(RouteMethod::Get, "redfishDrives", "Lists the virtual drives of a manager.", Viewer)],
    ),
    route(
        "/redfish/v1/Managers/{id}/VirtualMedia/Cd",
        &[
            redfish(RouteMethod::Get, "redfishDrive", "Reads the virtual drive of a manager.", Viewer),
            redfish(RouteMethod::Patch, "redfishSetDrive", "Changes the virtual drive of a manager.", Admin),
        ],
    ),
    route(
        "/redfish/v1/Managers/{id}/VirtualMedia/Cd/Actions/VirtualMedia.InsertMedia",
        &[redfish(RouteMethod::Post, "redfishInsert", "Inserts an image into the virtual drive of a manager.", Admin)],
    ),
    route(
        "/redfish/v1/Managers/{id}/VirtualMedia/Cd/Actions/VirtualMedia.EjectMedia",
        &[redfish(RouteMethod::Post, "redfishEject", "Ejects the image from the virtual drive of a manager.", Admin)],
    ),
    route("/redfish/v1/Chassis", &[redfish(RouteMethod::Get, "redfishAllChassis", "Lists the chassis.", Viewer)]),
    route("/redfish/v1/Chassis/{id}", &[redfish(RouteMethod::Get, "redfishChassis", "Reads a chassis.", Viewer)]),
    route(
        "/redfish/v1/SessionService",
        &[redfish(RouteMethod::Get, "redfishSessionService", "Reads the session service.", Viewer)],
    ),
    route(
        "/redfish/v1/SessionService/Sessions",
        &[
            redfish(RouteMethod::Get, "redfishSessions", "Lists the sessions.", Viewer),
            redfish(RouteMethod::Post, "redfishBegin", "Begins a session.", Anyone),
        ],
    ),
    route(
        "/redfish/v1/SessionService/Sessions/{id}",
        &[
            redfish(RouteMethod::Get, "redfishSession", "Reads a session.", Viewer),
            redfish(RouteMethod::Delete, "redfishEnd", "Ends a session; a viewer ends its own.", Viewer),
        ],
    ),
];

/// Returns all routes.
pub fn routes() -> impl Iterator<Item = &'static Route> {
    ROUTES.iter().chain(NETWORK_ROUTES).chain(TEMPLATE_ROUTES).chain(UI_ROUTES)
}

/// Returns every subresource with its Kubernetes verbs, in the table's order.
pub fn subresources() -> impl Iterator<Item = (Kind, &'static str, &'static [&'static str])> {
    ROUTES.iter().chain(TEMPLATE_ROUTES).filter_map(|route| {
        let Resource { kind, subresource } = route.resource?;
        let verbs = route.operations.iter().find_map(|operation| match operation.endpoint {
            Endpoint::Object(endpoint) => Some(endpoint.verbs()),
            Endpoint::Machine(_)
            | Endpoint::Ops(_)
            | Endpoint::Api(_)
            | Endpoint::Review(_)
            | Endpoint::Redfish
            | Endpoint::Ui(_) => None,
        });
        Some((kind, subresource?, verbs?))
    })
}

/// Returns Kubernetes' verbs for the objects of a kind themselves, sorted.
pub fn verbs(kind: Kind) -> Vec<&'static str> {
    let all = ROUTES.iter().chain(TEMPLATE_ROUTES);
    let own = all.filter(|route| route.resource == Some(Resource { kind, subresource: None }));
    let mut verbs: Vec<_> = own
        .flat_map(|route| route.operations)
        .filter_map(|operation| match operation.endpoint {
            Endpoint::Object(endpoint) => Some(endpoint.verbs()),
            Endpoint::Machine(_)
            | Endpoint::Ops(_)
            | Endpoint::Api(_)
            | Endpoint::Review(_)
            | Endpoint::Redfish
            | Endpoint::Ui(_) => None,
        })
        .flatten()
        .copied()
        .collect();
    verbs.sort_unstable();
    verbs.dedup();
    verbs
}

#[cfg(test)]
mod tests;
