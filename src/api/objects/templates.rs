//! The versions of templates, and what hosts get of them.

use std::sync::Arc;

use hyper::StatusCode;
use hyper::header::HeaderValue;

use crate::api::objects::redaction::{List, ListMeta, View};
use crate::api::objects::status::Status;
use crate::api::objects::write::find;
use crate::api::state::Shared;
use crate::fleet::{BootConfig, Host, Key, Object};
use crate::http::reply::{Reply, bytes, json};
use crate::provision::RenderError;

/// Answers GET .../versions: the template as it was at each version that is kept, oldest first.
///
/// # Errors
/// 404 if the template does not exist.
pub fn versions(shared: &Shared, key: &Key) -> Result<Reply, Status> {
    let Object::ConfigTemplate(template) = find(shared, key)? else { return Err(Status::no_route()) };
    let kept = template.status.versions.iter().filter_map(|kept| template.at_version(kept));
    let kept: Vec<_> = kept.map(|template| Object::ConfigTemplate(Arc::new(template))).collect();
    let metadata = ListMeta { resource_version: template.metadata.resource_version.to_string(), next: String::new() };
    let (kind, items) = (format!("{}List", key.kind), kept.iter().map(View).collect());
    Ok(json(StatusCode::OK, &List { api_version: "v1", kind, metadata, items }))
}

/// Returns a host's config as its machine would get it, for somebody who may read it; `None` for a host without one.
///
/// # Errors
/// 403 if it is confidential, 422 if it cannot be rendered. `what` is what the client asked for.
pub async fn shown_config(shared: &Shared, host: &Arc<Host>, what: &str) -> Result<Option<Arc<BootConfig>>, Status> {
    if shared.gate.assigned_config(host).is_some_and(|config| config.spec.confidential) {
        let message = format!("the host's config is confidential: only its machine gets the {what}");
        return Err(Status::forbidden(&message));
    }
    rendered(shared, host).await?.map_err(|error| Status::unprocessable(error.to_string()))
}

/// Renders a host's config, on a thread that may take its time.
///
/// # Errors
/// 500 if that thread fails.
pub async fn rendered(
    shared: &Shared,
    host: &Arc<Host>,
) -> Result<Result<Option<Arc<BootConfig>>, RenderError>, Status> {
    let (gate, host) = (shared.gate.clone(), host.clone());
    let rendered = tokio::task::spawn_blocking(move || gate.host_config(&host, gate.address_for(&host)));
    rendered.await.map_err(|error| Status::internal(error.to_string()))
}

/// Answers GET .../config: a file of a host's config, byte for byte as its machine would get it. Nothing is recorded.
///
/// # Errors
/// 404 if the host has no config, or the config no such file; 403 if it is confidential; 422 if it cannot be rendered.
pub async fn host_config(shared: &Shared, key: &Key, query: Option<&str>) -> Result<Reply, Status> {
    let Object::Host(host) = find(shared, key)? else { return Err(Status::no_route()) };
    let pairs = form_urlencoded::parse(query.unwrap_or_default().as_bytes());
    let file = pairs.filter(|(name, _)| name == "file").last().map(|(_, file)| file.into_owned());
    let config = shown_config(shared, &host, "config").await?;
    let config = config.ok_or_else(|| Status::not_found_message("no config is assigned to the host"))?;
    let Some(content) = config.file(file.as_deref()) else {
        let (name, wanted) = (&config.metadata.name, file.as_deref().unwrap_or(config.spec.format.main_file()));
        let names: Vec<_> = config.spec.file_names().collect();
        let message = format!("the config {name} has no file {wanted:?}; it has {}", names.join(", "));
        return Err(Status::not_found_message(&message));
    };
    let kind = match std::str::from_utf8(content) {
        Ok(_) => "text/plain; charset=utf-8",
        Err(_) => "application/octet-stream",
    };
    Ok(bytes(StatusCode::OK, HeaderValue::from_static(kind), content.to_vec()))
}

#[cfg(test)]
mod tests {
    use hyper::StatusCode;
    use serde_json::{Value, json};

    use crate::api::fixture::{ApiFixture, VM, host, status_and_text};
    use crate::fleet::{Kind, Phase};

    /// Declares a template of one file, a config of it, and the host `vm` with values, which was served its script.
    async fn offered(text: &str, config: Value, values: Value) -> ApiFixture {
        let fixture = ApiFixture::new();
        let spec = json!({"format": "kickstart", "data": {"ks.cfg": text}});
        fixture.put(Kind::ConfigTemplate, json!({"metadata": {"name": "t"}, "spec": spec})).await;
        fixture.put_config(config).await;
        fixture.put_image(b"the bytes of an image", &["cfg"]).await;
        let spec = json!({"image": "live", "bootConfigRef": "cfg", "values": values});
        fixture.put(Kind::BareMetalHost, host(spec)).await;
        fixture.machine("GET", &format!("/ipxe?mac={VM}")).await;
        fixture
    }

    fn config() -> Value {
        json!({"format": "kickstart", "template": {"name": "t"}})
    }

    const CONFIG: &str = "/api/v1/namespaces/default/baremetalhosts/vm/config";

    #[tokio::test]
    async fn a_machine_is_served_what_a_client_reads_before() {
        let fixture = offered("{{ host.name }} {{ values.a }} {{ site.address }}\n", config(), json!({"a": 1})).await;
        let shown = fixture.admin("GET", CONFIG, "").await;
        assert_eq!(fixture.phase(), Phase::Offered, "a client moves no install");
        let served = fixture.machine("GET", "/api/v1/bootconfig").await;
        assert_eq!((served.status(), served.body()), (shown.status(), shown.body()));
        assert!(status_and_text(&served).1.starts_with("vm 1 "), "{served:?}");
        assert_eq!(fixture.phase(), Phase::Installing);
    }

    #[tokio::test]
    async fn a_config_that_cannot_be_rendered_moves_no_install() {
        let fixture = offered("text\n{{ values.a }}\n", config(), json!({})).await;
        let reply = fixture.machine("GET", "/api/v1/bootconfig").await;
        let (code, text) = status_and_text(&reply);
        assert!(
            code == 503 && text.starts_with("template t version 1: ks.cfg line 2: values.a is undefined"),
            "{text}"
        );
        assert_eq!(fixture.phase(), Phase::Offered);
        let state = fixture.shared.gate.store.load();
        let found = state.host_by_mac(VM).unwrap().status.rendered_template.clone().unwrap();
        assert!(found.version == 1 && found.error.is_some_and(|error| error.contains("values.a")));
        assert_eq!(fixture.admin("GET", CONFIG, "").await.status(), 422);
    }

    #[tokio::test]
    async fn a_confidential_config_is_shown_to_its_machine_only() {
        let spec = json!({"format": "kickstart", "data": {"ks.cfg": "rootpw x\n"}, "confidential": true});
        let fixture = offered("text\n", spec, json!({})).await;
        assert_eq!(fixture.admin("GET", CONFIG, "").await.status(), 403);
        let reply = fixture.machine("GET", "/api/v1/bootconfig").await;
        assert_eq!(status_and_text(&reply), (200, "rootpw x\n"));
    }

    #[tokio::test]
    async fn a_template_is_not_confidential() {
        let fixture = offered("text\n", config(), json!({})).await;
        let body = json!({"apiVersion": "v1", "kind": "BootConfig", "metadata": {"name": "other"}, "spec":
                          {"format": "kickstart", "template": {"name": "t"}, "confidential": true}});
        let reply = fixture.admin("POST", "/api/v1/bootconfigs", &body.to_string()).await;
        let (code, text) = status_and_text(&reply);
        assert!(code == 422 && text.contains("spec.confidential"), "{text}");
    }

    #[tokio::test]
    async fn a_head_request_records_nothing() {
        let fixture = offered("{{ values.a }}\n", config(), json!({})).await;
        let rendered = || fixture.shared.gate.store.load().host_by_mac(VM).unwrap().status.rendered_template.clone();
        assert_eq!(fixture.machine("HEAD", "/api/v1/bootconfig").await.status(), 503);
        assert_eq!(rendered(), None);
        assert_eq!(fixture.machine("GET", "/api/v1/bootconfig").await.status(), 503);
        assert!(rendered().is_some());
    }

    #[tokio::test]
    async fn the_condition_goes_with_the_template() {
        let fixture = offered("text\n", config(), json!({})).await;
        let rendered = || fixture.shared.gate.store.load().host_by_mac(VM).unwrap().status.rendered_template.clone();
        fixture.machine("GET", "/api/v1/bootconfig").await;
        assert_eq!(rendered().unwrap().version, 1);
        fixture.put_config(json!({"format": "kickstart", "data": {"ks.cfg": "other\n"}})).await;
        assert_eq!(status_and_text(&fixture.machine("GET", "/api/v1/bootconfig").await), (200, "other\n"));
        assert_eq!(rendered(), None);
    }

    #[tokio::test]
    async fn a_rendered_seed_has_the_address_that_the_host_reaches() {
        let fixture = ApiFixture::new();
        let spec = json!({"format": "cloud-init", "data": {"user-data": "#cloud-config\n# at {{ site.url }}\n"}});
        fixture.put(Kind::ConfigTemplate, json!({"metadata": {"name": "t"}, "spec": spec})).await;
        fixture.put_config(json!({"format": "cloud-init", "template": {"name": "t"}})).await;
        let spec = json!({"bootConfigRef": "cfg", "ip": "10.77.0.10"});
        fixture.put(Kind::BareMetalHost, host(spec)).await;
        let shown = fixture.admin("GET", CONFIG, "").await;
        let seed = fixture.admin("GET", "/api/v1/namespaces/default/baremetalhosts/vm/seed", "").await;
        assert_eq!((shown.status(), seed.status()), (StatusCode::OK, StatusCode::OK), "{seed:?}");
        let line = status_and_text(&shown).1.lines().last().unwrap().to_owned();
        assert!(line.starts_with("# at http://"), "{line}");
        assert!(String::from_utf8_lossy(seed.body()).contains(&line), "both are for the address of the host");
    }

    #[tokio::test]
    async fn a_preview_has_the_hosts_that_change() {
        let fixture = offered("a {{ values.a }}\n", config(), json!({"a": 1})).await;
        let preview = async |text: &str| -> Value {
            let body = json!({"spec": {"format": "kickstart", "data": {"ks.cfg": text}}});
            let reply = fixture.admin("POST", "/api/v1/configtemplates/t/preview", &body.to_string()).await;
            serde_json::from_slice(reply.body()).unwrap()
        };
        let same = preview("{# the same #}a {{ values.a }}\n").await;
        assert_eq!((&same["hosts"], &same["unchanged"]), (&json!([]), &json!(1)));
        let other = preview("b {{ values.a }}\n").await;
        let file = json!({"name": "ks.cfg", "before": "a 1\n", "after": "b 1\n"});
        assert_eq!((&other["hosts"][0]["name"], &other["hosts"][0]["files"][0]), (&json!("vm"), &file));
        let wrong = preview("{{ values.b }}\n").await;
        assert!(wrong["hosts"][0]["error"].as_str().unwrap().contains("template t version 2: ks.cfg line 1: values.b"));
        assert_eq!(preview("{% if %}").await["code"], 422);
    }

    #[tokio::test]
    async fn an_old_version_can_be_read() {
        let fixture = offered("one\n", config(), json!({})).await;
        let spec = json!({"format": "kickstart", "data": {"ks.cfg": "two\n"}});
        fixture.put(Kind::ConfigTemplate, json!({"metadata": {"name": "t"}, "spec": spec})).await;
        let reply = fixture.admin("GET", "/api/v1/configtemplates/t/versions", "").await;
        let list: Value = serde_json::from_slice(reply.body()).unwrap();
        let found: Vec<_> = list["items"].as_array().unwrap().iter().collect();
        let text =
            |at: usize| (found[at]["metadata"]["generation"].as_u64(), found[at]["spec"]["data"]["ks.cfg"].as_str());
        assert_eq!((text(0), text(1)), ((Some(1), Some("one\n")), (Some(2), Some("two\n"))));
    }
}
