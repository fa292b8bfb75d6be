//! The routes of the templates of configs.

use crate::api::route::Caller::{Admin, Viewer};
use crate::api::route::ObjectEndpoint as O;
use crate::api::route::{Endpoint, Route};
use crate::api::routes::entries::{delete, get, patch, post, put, route};
use crate::fleet::Kind::{BareMetalHost, ConfigTemplate};

/// Every route of templates.
pub(super) static TEMPLATE_ROUTES: &[Route] = &[
    route(
        "/api/v1/configtemplates",
        &[
            get("listConfigTemplate", "Lists or watches templates of configs.", Viewer, Endpoint::Object(O::List)),
            post("createConfigTemplate", "Creates a template of configs.", Admin, Endpoint::Object(O::Create)),
            delete(
                "deleteCollectionConfigTemplate",
                "Deletes the selected templates of configs.",
                Admin,
                Endpoint::Object(O::DeleteCollection),
            ),
        ],
    )
    .of(ConfigTemplate),
    route(
        "/api/v1/configtemplates/{name}",
        &[
            get("readConfigTemplate", "Reads a template of configs.", Viewer, Endpoint::Object(O::Read)),
            put("replaceConfigTemplate", "Replaces a template of configs.", Admin, Endpoint::Object(O::Replace)),
            patch("patchConfigTemplate", "Changes fields of a template of configs.", Admin, Endpoint::Object(O::Patch)),
            delete("deleteConfigTemplate", "Deletes a template of configs.", Admin, Endpoint::Object(O::Delete)),
        ],
    )
    .of(ConfigTemplate),
    route(
        "/api/v1/configtemplates/{name}/versions",
        &[get(
            "listConfigTemplateVersions",
            "Lists the kept versions of a template, oldest first.",
            Viewer,
            Endpoint::Object(O::Versions),
        )],
    )
    .part_of(ConfigTemplate, "versions"),
    route(
        "/api/v1/configtemplates/{name}/preview",
        &[post(
            "previewConfigTemplate",
            "Returns what a changed template would change in the configs of hosts; nothing is recorded.",
            Admin,
            Endpoint::Object(O::Preview),
        )],
    )
    .part_of(ConfigTemplate, "preview"),
    route(
        "/api/v1/namespaces/{namespace}/baremetalhosts/{name}/config",
        &[get(
            "readBareMetalHostConfig",
            "Returns a file of the host's config as its machine would get it; nothing is recorded.",
            Viewer,
            Endpoint::Object(O::Config),
        )],
    )
    .part_of(BareMetalHost, "config"),
];
