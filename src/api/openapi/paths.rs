//! The paths of the OpenAPI document, from the table of routes.

use serde_json::{Map, Value, json};

use crate::api::openapi::build::{Details, OBJECT, any, content, described_query, path_parameter, plain, reference};
use crate::api::openapi::{machines, objects, redfish};
use crate::api::route::{ApiEndpoint, Caller, Endpoint, Operation, OpsEndpoint, Route};
use crate::api::routes::routes;

/// Returns every route but those of the web page, with its operations.
pub fn all() -> Value {
    let is_api = |route: &&Route| !route.operations.iter().any(|one| matches!(one.endpoint, Endpoint::Ui(_)));
    let paths = routes().filter(is_api).map(|route| {
        let operations = route.operations.iter();
        let item: Map<String, Value> =
            operations.map(|one| (one.method.openapi().to_owned(), operation(route, one))).collect();
        (route.openapi_path(), Value::Object(item))
    });
    Value::Object(paths.collect())
}

fn operation(route: &Route, operation: &Operation) -> Value {
    let Details { parameters, body, responses } = match operation.endpoint {
        Endpoint::Machine(endpoint) => machines::details(route, endpoint),
        Endpoint::Ops(endpoint) => ops(endpoint),
        Endpoint::Api(endpoint) => api(endpoint),
        Endpoint::Object(endpoint) => objects::details(route, endpoint),
        Endpoint::Review(_) => review(),
        Endpoint::Redfish => redfish::details(route, operation),
        Endpoint::Ui(_) => Details::default(),
    };
    let parameters: Vec<Value> = route.parameters().map(path_parameter).chain(parameters).collect();
    let security = match operation.caller {
        Caller::Machine | Caller::Anyone => json!([]),
        Caller::Viewer | Caller::Admin => json!([{"token": []}]),
    };
    let mut described = json!({
        "operationId": operation.id, "summary": operation.summary, "parameters": parameters, "responses": responses,
        "security": security,
    });
    if let Some(body) = body {
        described["requestBody"] = body;
    }
    if let Endpoint::Object(endpoint) = operation.endpoint
        && let Some((kind, action)) = objects::kubernetes_action(route, endpoint)
    {
        described["x-kubernetes-group-version-kind"] = json!({"group": "", "version": "v1", "kind": kind.as_str()});
        described["x-kubernetes-action"] = action.into();
    }
    described
}

fn ops(endpoint: OpsEndpoint) -> Details {
    let details = Details::default();
    match endpoint {
        OpsEndpoint::Live => details.response(200, plain("The process answers.")),
        OpsEndpoint::Ready => details
            .response(200, plain("The server is ready."))
            .response(503, plain("The reasons for which it is not, one per line.")),
        OpsEndpoint::Metrics => details.response(200, plain("Metrics in Prometheus' text format.")),
        OpsEndpoint::Version => details.response(200, any("The version.")),
    }
}

fn api(endpoint: ApiEndpoint) -> Details {
    let details = Details::default();
    let document = || any("The document.");
    match endpoint {
        ApiEndpoint::Versions
        | ApiEndpoint::Groups
        | ApiEndpoint::Resources
        | ApiEndpoint::OpenApiIndex
        | ApiEndpoint::OpenApiV3 => details.response(200, document()).fails(&[401]),
        ApiEndpoint::OpenApiV2 => details.response(200, document()).fails(&[401, 406]),
        ApiEndpoint::GenerateIgnition => generate("IgnitionRequest"),
        ApiEndpoint::GenerateCloudInit => generate("CloudInitRequest"),
        ApiEndpoint::Upload => upload(),
        ApiEndpoint::ListUploads => details.returns(200, "UploadList").fails(&[401]),
        ApiEndpoint::ReadUpload => details.returns(200, "Upload").fails(&[400, 401]),
        ApiEndpoint::DeleteUpload => details.returns(200, "Upload").fails(&[400, 401, 403, 500]),
        ApiEndpoint::Timeline => details.returns(200, "Timeline").fails(&[401]),
        ApiEndpoint::Events => {
            details.query(&[("fieldSelector", "string")]).response(200, any("The events.")).fails(&[400, 401, 406])
        }
        ApiEndpoint::Rehearsal => {
            let mut mac = described_query("mac", "MAC address in any usual spelling.");
            mac["required"] = true.into();
            objects::rehearsal(details.parameter(mac)).fails(&[400, 401, 403, 422, 503])
        }
        ApiEndpoint::Settings => details.returns(200, "SettingList").fails(&[401]),
        ApiEndpoint::Interfaces => details.returns(200, "InterfaceList").fails(&[401, 503]),
        ApiEndpoint::Relays => details.returns(200, "RelayList").fails(&[401, 503]),
        ApiEndpoint::Leases => details.returns(200, "LeaseList").fails(&[401]),
        ApiEndpoint::EndLease => details.returns(200, "Lease").fails(&[400, 401, 403, 404, 500, 503]),
        ApiEndpoint::Drops => details.returns(200, "DropList").fails(&[401]),
        ApiEndpoint::ListNamespaces => details.response(200, any("The namespaces.")).fails(&[400, 401, 406]),
        ApiEndpoint::ReadNamespace => details.response(200, any("The namespace.")).fails(&[401, 404, 406]),
    }
}

fn generate(body: &str) -> Details {
    Details::default()
        .query(&[("dryRun", "string")])
        .body(content(OBJECT, &reference(body)))
        .returns(200, "Generated")
        .fails(&[400, 401, 403, 408, 409, 413, 415, 422, 503])
}

fn upload() -> Details {
    let file = json!({"type": "string", "format": "binary"});
    let form = json!({"type": "object", "required": ["file"], "properties": {
        "name": {"type": "string"}, "description": {"type": "string"}, "sha256": {"type": "string"},
        "bootConfig": {"type": "array", "items": {"type": "string"}}, "file": file,
    }});
    let body = json!({"required": true, "content": {
        "application/octet-stream": {"schema": file}, "multipart/form-data": {"schema": form},
    }});
    let query = [
        ("name", "string"),
        ("description", "string"),
        ("bootConfig", "string"),
        ("sha256", "string"),
        ("resume", "string"),
        ("offset", "integer"),
        ("length", "integer"),
        ("dryRun", "string"),
    ];
    let details = Details::default().query(&query).body(body).returns(200, "Upload").returns(201, "ISCSICdrom");
    details.fails(&[400, 401, 403, 408, 409, 422, 503, 507])
}

/// A review of what the client may do, as Kubernetes' clients ask for it.
fn review() -> Details {
    let body = content(OBJECT, &json!({"type": "object", "properties": {"spec": {"type": "object"}}}));
    let answer = any("Who the client is, or what it may do.");
    Details::default().body(body).response(201, answer).fails(&[400, 401, 408, 413, 415])
}
