//! Configs as hosts are served them: rendered, where a config has a template.

use std::collections::BTreeMap;
use std::net::IpAddr;
use std::sync::Arc;

use ipnet::Ipv4Net;

use crate::fleet::{BootConfig, ConfigTemplateSpec, Delivery, Host, Image, Name, RenderedTemplate, TemplateVersion};
use crate::gate::Gate;
use crate::gate::render_cache::{RenderInputs, RenderedConfig, Rendering};
use crate::provision::{self, RenderError, TemplateSite};
use crate::store::{Change, StoreError};

impl Gate {
    /// Returns a config as a host is served it, at our address that the machine reached. Nothing is recorded.
    ///
    /// Rendering takes a while: call it off the runtime's threads.
    ///
    /// # Errors
    /// The config has a template that cannot be rendered for the host.
    pub fn render_config(&self, host: &Host, config: &Arc<BootConfig>, at: Option<IpAddr>) -> Rendering {
        let Some(inputs) = self.render_inputs(host, config, at) else { return self.render_at(host, config, None, at) };
        if let Some(known) = self.rendered.look_up(&inputs) {
            return known;
        }
        let rendering = self.render_at(host, config, None, at);
        self.rendered.keep(inputs, rendering.clone());
        rendering
    }

    /// Returns a config as [`Self::render_config`], if nothing has to be rendered for that.
    pub fn rendered_config(&self, host: &Host, config: &Arc<BootConfig>, at: Option<IpAddr>) -> Option<Rendering> {
        if config.spec.template.is_none() {
            return Some(Ok(RenderedConfig { config: config.clone(), version: None }));
        }
        self.rendered.look_up(&self.render_inputs(host, config, at)?)
    }

    /// Returns a config as it was rendered last.
    ///
    /// # Errors
    /// The version is not kept, or cannot be rendered any more.
    pub(super) fn render_version(
        &self,
        host: &Host,
        config: &Arc<BootConfig>,
        last: &RenderedTemplate,
        at: Option<IpAddr>,
    ) -> Rendering {
        self.render_at(host, config, Some(last.version), at)
    }

    /// Renders a version of the template of a config; without one, the version for the host.
    fn render_at(&self, host: &Host, config: &Arc<BootConfig>, version: Option<u64>, at: Option<IpAddr>) -> Rendering {
        let Some(reference) = &config.spec.template else {
            return Ok(RenderedConfig { config: config.clone(), version: None });
        };
        let state = self.store.load();
        let version = version.or_else(|| reference.version_for(&host.metadata.labels));
        let Some(kept) = state.template(&reference.name).and_then(|template| template.version(version)) else {
            let (template, message) = (reference.name.clone(), "this version is not kept".to_owned());
            return Err(RenderError { template, version: version.unwrap_or_default(), message });
        };
        let data = provision::render(&reference.name, kept, host, &self.template_site(at))?;
        let mut rendered = BootConfig::clone(config);
        rendered.spec.data = data;
        Ok(RenderedConfig { config: Arc::new(rendered), version: Some(kept.version) })
    }

    /// Returns what the rendering of a config depends on; `None` if there is nothing to render.
    fn render_inputs(&self, host: &Host, config: &Arc<BootConfig>, at: Option<IpAddr>) -> Option<RenderInputs> {
        let state = self.store.load();
        let spec = state.template_version(config, host)?.spec.clone()?;
        let site = self.template_site(at);
        let scope = provision::template_scope(&spec, host, &site).ok()?;
        Some(RenderInputs {
            mac: host.spec.boot_mac_address,
            address: site.address,
            config: config.clone(),
            spec,
            scope,
        })
    }

    fn template_site(&self, at: Option<IpAddr>) -> TemplateSite {
        let site = self.site_at(at);
        TemplateSite { url: site.url(), address: site.address }
    }

    /// Returns our address that a host reaches: that of the network of its own address. `None` if neither is known.
    pub fn address_for(&self, host: &Host) -> Option<IpAddr> {
        let (site, address) = (self.site(), host.spec.ip.or(host.status.address)?);
        let contains = |net: &Ipv4Net, ip: IpAddr| matches!(ip, IpAddr::V4(ip) if net.contains(&ip));
        let net = site.nets.iter().find(|net| contains(net, address))?;
        site.ours.iter().copied().find(|ours| contains(net, *ours))
    }

    /// Returns the config of a host, not rendered; `None` for a host without one.
    pub fn assigned_config(&self, host: &Host) -> Option<Arc<BootConfig>> {
        host.spec.boot_config_ref.as_ref().and_then(|name| self.store.load().boot_config(name).cloned())
    }

    /// Returns the config of a host as it is served, and keeps its secrets for the lines of its installer; `None` for a host
    /// without one.
    ///
    /// # Errors
    /// As [`Self::render_config`].
    pub fn host_config(&self, host: &Host, at: Option<IpAddr>) -> Result<Option<Arc<BootConfig>>, RenderError> {
        let Some(config) = self.assigned_config(host) else { return Ok(None) };
        let rendered = self.render_config(host, &config, at)?;
        if config.spec.template.is_some() {
            // What is shown may be written to a medium that the machine boots.
            self.note_served(host, &rendered.config);
        }
        Ok(Some(rendered.config))
    }

    /// Renders as [`Self::render_config`] for a machine that asks, and records in the host's status what came of it. A
    /// HEAD records nothing.
    ///
    /// # Errors
    /// As [`Self::render_config`].
    pub async fn serve_config(
        self: &Arc<Self>,
        host: &Arc<Host>,
        config: &Arc<BootConfig>,
        at: Option<IpAddr>,
        is_head: bool,
    ) -> Result<Arc<BootConfig>, RenderError> {
        let rendering = match self.rendered_config(host, config, at) {
            Some(known) => known,
            None => {
                let (gate, host, of) = (self.clone(), host.clone(), config.clone());
                let rendering = tokio::task::spawn_blocking(move || gate.render_config(&host, &of, at));
                rendering.await.unwrap_or_else(|error| Err(failed(config, &error)))
            }
        };
        if !is_head && let Some(change) = self.note_rendering(host, config, &rendering) {
            let mac = host.spec.boot_mac_address;
            if let Err(error) = self.store.commit(change).await {
                tracing::warn!(%mac, %error, "failed to record a rendered config");
            }
        }
        rendering.map(|rendered| rendered.config)
    }

    /// Records what came of the rendering of a config that a machine gets with its image, and not by a request of its own.
    pub fn record_delivery(&self, image: &Image, host: &Host, at: Option<IpAddr>) {
        let config = match image.spec.config_delivery {
            Delivery::Embed => self.config_in_view(host, image),
            Delivery::Seed => self.assigned_config(host),
            Delivery::Auto | Delivery::None => None,
        };
        let Some(config) = config else { return };
        let rendering = self.render_config(host, &config, at);
        let Some(change) = self.note_rendering(host, &config, &rendering) else { return };
        let mac = host.spec.boot_mac_address;
        let failed = move |error| tracing::warn!(%mac, %error, "failed to record a rendered config");
        let then =
            move |outcomes: Vec<Result<(), StoreError>>| outcomes.into_iter().filter_map(Result::err).for_each(failed);
        if let Err(error) = self.store.change_each(vec![change], then) {
            failed(error);
        }
    }

    /// Keeps the secrets of a rendered config. Returns the change of the host's status, if what came of it is new.
    fn note_rendering(&self, host: &Host, config: &Arc<BootConfig>, rendering: &Rendering) -> Option<Change> {
        if let (Ok(rendered), Some(_)) = (rendering, &config.spec.template) {
            // After a restart the status tells what the machine got before.
            self.served_redactors(host, config);
            self.note_served(host, &rendered.config);
        }
        let rendered = match (rendering, &config.spec.template) {
            (Err(error), _) => {
                let (template, version) = (error.template.clone(), error.version);
                Some(RenderedTemplate { template, version, error: Some(error.to_string()) })
            }
            (Ok(rendered), Some(reference)) => {
                let (template, version) = (reference.name.clone(), rendered.version.unwrap_or_default());
                Some(RenderedTemplate { template, version, error: None })
            }
            (Ok(_), None) => None,
        };
        let rendered = rendered.map(Box::new);
        let is_new = host.status.rendered_template != rendered;
        is_new.then(|| Change::RecordRendering { mac: host.spec.boot_mac_address, rendered })
    }

    /// Calls a function with what a changed template would change in the config of each host that follows its newest
    /// version. Nothing is kept.
    pub fn preview_template(&self, name: &Name, spec: ConfigTemplateSpec, mut each: impl FnMut(ConfigPreview)) {
        let state = self.store.load();
        let version = state.template(name).map_or(1, |template| template.metadata.generation + 1);
        let spec = Some(Arc::new(spec));
        let next = TemplateVersion { version, creation_timestamp: None, reports_completion: None, spec };
        let configs: BTreeMap<&Name, &Arc<BootConfig>> =
            state.configs_of_template(name).map(|config| (&config.metadata.name, config)).collect();
        if configs.is_empty() {
            return;
        }
        for host in state.referring_hosts() {
            let config = host.spec.boot_config_ref.as_ref().and_then(|name| configs.get(name).copied());
            let Some((config, reference)) = config.and_then(|config| Some((config, config.spec.template.as_ref()?)))
            else {
                continue;
            };
            if reference.version_for(&host.metadata.labels).is_some() {
                continue;
            }
            let at = self.address_for(&host);
            let before = self.render_at(&host, config, None, at).map(|rendered| rendered.config.spec.data.clone());
            let after = provision::render(name, &next, &host, &self.template_site(at));
            each(ConfigPreview { host: host.clone(), config: config.clone(), before, after });
        }
    }
}

/// Returns the error of a rendering that ended by a fault of ours.
fn failed(config: &BootConfig, error: &tokio::task::JoinError) -> RenderError {
    tracing::error!(%error, "failed to render a config");
    let template = config.spec.template.as_ref().map_or(&config.metadata.name, |reference| &reference.name);
    RenderError { template: template.clone(), version: 0, message: "internal error: see the server's log".into() }
}

/// What a changed template would change for a host.
#[derive(Debug)]
pub struct ConfigPreview {
    /// The host.
    pub host: Arc<Host>,
    /// Its config.
    pub config: Arc<BootConfig>,
    /// The files as they are rendered now.
    pub before: Result<BTreeMap<String, String>, RenderError>,
    /// The files as they would be rendered.
    pub after: Result<BTreeMap<String, String>, RenderError>,
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;
    use crate::boot::Reason;
    use crate::fleet::Kind;
    use crate::gate::fixture::{Fixture, VM};
    use crate::gate::{ConfigVisibility, MediaError};
    use crate::store::Observation;

    /// Declares a template of one text, a config of it, and the host `vm` with an image that embeds the config.
    async fn fixture(text: &str) -> Fixture {
        let fixture = Fixture::new("hold");
        fixture.put(Kind::ConfigTemplate, "t", json!({"format": "kickstart", "data": {"ks.cfg": text}})).await;
        fixture.put(Kind::BootConfig, "c", json!({"format": "kickstart", "template": {"name": "t"}})).await;
        fixture.put_image(json!({"configDelivery": "embed", "bootConfigs": ["c"]})).await;
        fixture.put_host(json!({"bootConfigRef": "c", "values": {"a": 1}})).await;
        fixture
    }

    fn rendered(fixture: &Fixture) -> Arc<BootConfig> {
        let host = fixture.vm();
        let config = fixture.gate.assigned_config(&host).unwrap();
        fixture.gate.render_config(&host, &config, None).unwrap().config
    }

    #[tokio::test]
    async fn a_config_is_rendered_once_for_what_it_depends_on() {
        let fixture = fixture("{{ values.a }}\n").await;
        let (first, before) = (rendered(&fixture), fixture.vm());
        let change = RenderedTemplate { template: "t".parse().unwrap(), version: 1, error: None };
        let change = Change::RecordRendering { mac: VM, rendered: Some(Box::new(change)) };
        fixture.gate.store.commit(change).await.unwrap();
        assert_ne!(fixture.vm().metadata.resource_version, before.metadata.resource_version);
        assert!(Arc::ptr_eq(&rendered(&fixture), &first), "a status that templates do not see");
        fixture.put_host(json!({"bootConfigRef": "c", "values": {"a": 2}})).await;
        assert_eq!(rendered(&fixture).spec.data["ks.cfg"], "2\n");
        fixture.put(Kind::ConfigTemplate, "t", json!({"format": "kickstart", "data": {"ks.cfg": "new\n"}})).await;
        assert_eq!(rendered(&fixture).spec.data["ks.cfg"], "new\n");
    }

    #[tokio::test]
    async fn a_failure_of_an_embedded_config_is_recorded_by_its_name() {
        let fixture = fixture("{{ values.b }}\n").await;
        let (gate, host) = (&fixture.gate, fixture.vm());
        let image = gate.store.load().image(&"live".parse().unwrap()).unwrap().clone();
        let own = Some((host.as_ref(), ConfigVisibility::Whole));
        assert!(gate.medium_now(&image, own, None).is_none(), "nothing is rendered on a thread of the runtime");
        let error = MediaError::from(gate.medium(&image, own, None).unwrap_err());
        assert_eq!(error.refusal(), Reason::ConfigNotRendered, "{error}");
        gate.record_delivery(&image, &host, None);
        // The writer makes changes in their order.
        gate.store.commit(Change::Observe { mac: VM, observation: Observation::default() }).await.unwrap();
        let found = fixture.vm().status.rendered_template.clone().unwrap();
        assert!(found.error.is_some_and(|error| error.contains("values.b is undefined")));
    }
}
