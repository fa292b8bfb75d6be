//! `/api/v1/configs/.../generate`: configs as objects, and as files in a volume. The files are on disk before the objects
//! are committed, and the objects before the reply is sent. If either fails, neither remains.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use hyper::body::Incoming;
use hyper::{Request, StatusCode};
use schemars::JsonSchema;
use serde::Serialize;
use tokio::sync::Mutex;

use crate::admission::prepare::{self, Places};
use crate::fleet::{BootConfig, Key, Kind, Meta, Name, Object, Volume};
use crate::gate::Gate;
use crate::provision::generate::{Generated, NewConfig, cloudinit, file_name, ignition};
use crate::store::{Change, Expect, StoreError};

use crate::api::objects::body;
use crate::api::objects::options::Options;
use crate::api::objects::status::Status;
use crate::api::objects::write::ConflictRetry;
use crate::api::state::Shared;
use crate::http::reply::{Reply, json};
use crate::store::volumes::{self, NewFile, Volumes, Written};

/// Label of a generated config: its generator.
const GENERATED: &str = "bootlatch.org/generated";
/// Annotation of a generated config: the volume of its files.
const VOLUME: &str = "bootlatch.org/volume";

/// The type of the generated configs.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Generator {
    /// Ignition configs for the machines of a cluster.
    Ignition,
    /// cloud-init's files for one machine.
    CloudInit,
}

impl Generator {
    fn as_str(self) -> &'static str {
        match self {
            Self::Ignition => "ignition",
            Self::CloudInit => "cloudinit",
        }
    }
}

/// The generated configs, with the places of their files.
#[derive(Debug, Clone, PartialEq, Serialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct GeneratedConfigs {
    /// Reference of each file, by role (by userdata, metadata and network for one machine): VOLUME:snippets/FILE, or
    /// bootlatch:FILE.
    configs: BTreeMap<&'static str, String>,
    /// URL below which each file is served. A file with secrets is served to its own machine only.
    serving_url: String,
    /// Parts that a reader may expect in the configs, but that are not there.
    warnings: Vec<String>,
    /// The references of one machine's files again, as in `configs`.
    #[serde(flatten)]
    machine: Option<MachineFiles>,
}

/// References of one machine's cloud-init files.
#[derive(Debug, Clone, Default, PartialEq, Serialize, JsonSchema)]
struct MachineFiles {
    /// Reference of the user-data, for one machine.
    #[serde(skip_serializing_if = "Option::is_none")]
    userdata: Option<String>,
    /// Reference of the meta-data, for one machine.
    #[serde(skip_serializing_if = "Option::is_none")]
    metadata: Option<String>,
    /// Reference of the network-config, for one machine.
    #[serde(skip_serializing_if = "Option::is_none")]
    network: Option<String>,
}

/// Returns whether a config was generated here.
pub fn is_generated(config: &BootConfig) -> bool {
    config.metadata.labels.get(GENERATED).is_some()
}

/// Answers POST .../generate: generates configs, and returns the place of each file.
///
/// # Errors
/// 422 with the field that is wrong, 409 if a config or file of that name was not generated, 503 if it cannot be
/// written.
pub async fn generate(shared: &Shared, generator: Generator, request: Request<Incoming>) -> Result<Reply, Status> {
    let (head, body) = request.into_parts();
    let options = Options::parse(head.uri.query(), &head.headers, Kind::BootConfig, None)?;
    let value = body::parse(body::media_type(&head.headers), &body::read(body).await?)?;
    let generated = match generator {
        Generator::Ignition => ignition(value),
        Generator::CloudInit => cloudinit(value, &shared.gate.site().url()),
    };
    let generated = generated.map_err(|fault| Status::unprocessable_field(&fault.field, &fault.message))?;
    let task = GenerationTask {
        gate: shared.gate.clone(),
        places: shared.places.clone(),
        volumes: shared.folders.volumes.clone(),
        retry_queue: shared.retry_queue.clone(),
        generator,
        generated,
        dry_run: options.dry_run,
    };
    // A task of its own: a client that hangs up must not leave files without their objects.
    let answer = tokio::spawn(task.run()).await.map_err(|error| Status::internal(error.to_string()))??;
    Ok(json(StatusCode::OK, &answer))
}

/// Removes a deleted config's files from their volume.
pub async fn remove_files(shared: &Shared, deleted: &Object) {
    let Some((name, files)) = location(deleted) else { return };
    let volumes = shared.folders.volumes.clone();
    let _turn = volumes.lock().await;
    let is_created_again = shared.gate.store.load().get(&deleted.key()).is_some();
    if let Some(volume) = volumes.find(&name).filter(|_| !is_created_again) {
        remove(volume, files).await;
    }
}

struct GenerationTask {
    gate: Arc<Gate>,
    places: Places,
    volumes: Arc<Volumes>,
    retry_queue: Arc<Mutex<()>>,
    generator: Generator,
    generated: Generated,
    dry_run: bool,
}

/// The write of one config.
struct ConfigWrite {
    object: Object,
    before: Option<Object>,
}

impl GenerationTask {
    async fn run(self) -> Result<GeneratedConfigs, Status> {
        let picked = self.volumes.pick(self.generated.volume.as_deref());
        let volume = picked.map_err(|message| Status::unprocessable_field("volume", &message))?;
        let _turn = self.volumes.lock().await;
        let mut retry = ConflictRetry::new(&self.retry_queue);
        loop {
            let written = self.attempt(volume).await;
            if !retry.should_retry(&written).await {
                return written.map(|()| self.answer(volume));
            }
        }
    }

    async fn attempt(&self, volume: Option<&Volume>) -> Result<(), Status> {
        let writes = self.generated.configs.iter().map(|config| self.plan(config, volume));
        let writes = writes.collect::<Result<Vec<ConfigWrite>, Status>>()?;
        let changes: Vec<Change> = writes.iter().map(ConfigWrite::change).collect();
        let key = |index: usize| writes[index.min(writes.len() - 1)].object.key();
        if self.dry_run {
            for (index, change) in changes.into_iter().enumerate() {
                self.gate.store.dry_run(change).map_err(|error| Status::of_store(&error, &key(index)))?;
            }
            return Ok(());
        }
        let written = match volume {
            Some(volume) => Some(write(volume, &writes).await?),
            None => None,
        };
        if let Err(error) = self.gate.store.commit_all(changes).await {
            if let Some(written) = written {
                let undone = tokio::task::spawn_blocking(move || written.undo()).await;
                undone.map_err(|error| Status::internal(error.to_string()))?;
            }
            let key = match &error {
                StoreError::AlreadyExists(key) | StoreError::NotFound(key) | StoreError::Conflict { key, .. } => {
                    key.clone()
                }
                StoreError::NoSuchMac(_)
                | StoreError::InUse { .. }
                | StoreError::EnrolmentLimit(_)
                | StoreError::DiskNearlyFull
                | StoreError::Invalid(_)
                | StoreError::Unavailable(_)
                | StoreError::Lost { .. }
                | StoreError::Unreadable(_) => key(0),
            };
            return Err(Status::of_store(&error, &key));
        }
        let names: Vec<String> = writes.iter().map(|write| write.object.meta().name.to_string()).collect();
        tracing::info!(configs = names.join(" "), volume = volume.map(|volume| &volume.name), "configs generated");
        self.remove_old_files(volume, &writes).await;
        Ok(())
    }

    /// Returns the write of one config, after the check that a config of this name was generated the same way.
    fn plan(&self, config: &NewConfig, volume: Option<&Volume>) -> Result<ConfigWrite, Status> {
        let key = Key { kind: Kind::BootConfig, namespace: None, name: config.name.clone() };
        let before = self.gate.store.load().get(&key);
        let generator = self.generator.as_str();
        let mut metadata = match &before {
            None => Meta::named(config.name.clone(), None),
            Some(before) if before.meta().labels.get(GENERATED).is_some_and(|by| by == generator) => {
                before.meta().clone()
            }
            Some(_) => {
                let message =
                    format!("{key} exists and was not generated by {generator}: delete it, or use another name");
                return Err(Status::already_exists(message));
            }
        };
        metadata.labels.insert(GENERATED.into(), generator.into());
        let location = volume.map_or(Volume::BUILT_IN, |volume| volume.name.as_str());
        metadata.annotations.insert(VOLUME.into(), location.into());
        let mut spec = config.spec.clone();
        spec.confidential |= matches!(&before, Some(Object::BootConfig(before)) if before.spec.confidential);
        let object = Object::BootConfig(Arc::new(BootConfig { metadata, spec, status: Default::default() }));
        let object = prepare::prepare(object, before.as_ref(), &self.places)
            .map_err(|wrong| Status::invalid(Kind::BootConfig, config.name.as_str(), &wrong))?;
        Ok(ConfigWrite { object, before })
    }

    /// Removes the earlier files of these configs: those in another volume, and those that were not written again.
    async fn remove_old_files(&self, volume: Option<&Volume>, writes: &[ConfigWrite]) {
        for write in writes {
            let Some((name, mut files)) = write.before.as_ref().and_then(location) else { continue };
            if volume.is_some_and(|volume| volume.name == name) {
                let kept: BTreeSet<String> = write.files().map(|file| file.name).collect();
                files.retain(|file| !kept.contains(file));
            }
            if let Some(volume) = self.volumes.find(&name).filter(|_| !files.is_empty()) {
                remove(volume, files).await;
            }
        }
    }

    fn answer(&self, volume: Option<&Volume>) -> GeneratedConfigs {
        let mut configs = BTreeMap::new();
        for config in &self.generated.configs {
            for (role, file) in &config.files {
                let file = file_name(&config.name, file).unwrap_or_default();
                let reference = match volume {
                    Some(volume) => volume.reference(&file),
                    None => format!("{}:{file}", Volume::BUILT_IN),
                };
                configs.insert(*role, reference);
            }
        }
        let machine = (self.generator == Generator::CloudInit).then(|| {
            let of = |role: &str| configs.get(role).cloned();
            MachineFiles { userdata: of("userdata"), metadata: of("metadata"), network: of("network") }
        });
        let serving_url = format!("{}/configs/", self.gate.site().url());
        GeneratedConfigs { configs, serving_url, warnings: self.generated.warnings.clone(), machine }
    }
}

impl ConfigWrite {
    fn change(&self) -> Change {
        let expect = match &self.before {
            Some(before) => Expect::Present(Some(before.meta().resource_version)),
            None => Expect::Absent,
        };
        Change::Put { object: self.object.clone(), expect }
    }

    fn files(&self) -> impl Iterator<Item = NewFile> {
        let config = match &self.object {
            Object::BootConfig(config) => Some(config),
            Object::Host(_) | Object::Image(_) | Object::ConfigTemplate(_) => None,
        };
        config.into_iter().flat_map(|config| {
            let confidential = config.spec.confidential;
            config.spec.data.iter().filter_map(move |(file, text)| {
                Some(NewFile { name: file_name(&config.metadata.name, file)?, text: text.clone(), confidential })
            })
        })
    }
}

/// Returns the place of a generated config's files: the names of the volume and of the files.
fn location(object: &Object) -> Option<(String, BTreeSet<String>)> {
    let Object::BootConfig(config) = object else { return None };
    let volume = config.metadata.annotations.get(VOLUME).filter(|_| is_generated(config))?;
    let name: &Name = &config.metadata.name;
    Some((volume.clone(), config.spec.data.keys().filter_map(|file| file_name(name, file)).collect()))
}

async fn write(volume: &Volume, writes: &[ConfigWrite]) -> Result<Written, Status> {
    let files: Vec<NewFile> = writes.iter().flat_map(ConfigWrite::files).collect();
    let ours =
        writes.iter().filter_map(|write| location(write.before.as_ref()?)).filter(|(name, _)| *name == volume.name);
    let ours: BTreeSet<String> = ours.flat_map(|(_, files)| files).collect();
    let volume = volume.clone();
    let written = tokio::task::spawn_blocking(move || volumes::write(&volume, &files, &ours)).await;
    written.map_err(|error| Status::internal(error.to_string()))?.map_err(|error| match error {
        volumes::VolumeError::Foreign { .. } => Status::already_exists(error.to_string()),
        volumes::VolumeError::File { .. } => {
            tracing::warn!(%error, "failed to write generated configs");
            Status::unavailable(error.to_string())
        }
    })
}

async fn remove(volume: &Volume, files: BTreeSet<String>) {
    let volume = volume.clone();
    match tokio::task::spawn_blocking(move || volumes::remove(&volume, &files)).await {
        Ok(Ok(())) => {}
        Ok(Err(error)) => tracing::warn!(%error, "failed to remove a generated config's file"),
        Err(error) => tracing::warn!(%error, "failed to remove a generated config's file"),
    }
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use crate::api::fixture::ApiFixture;

    const IGNITION: &str = "/api/v1/configs/ignition/generate";
    const CLOUD_INIT: &str = "/api/v1/configs/cloudinit/generate";
    const KEY: &str =
        "ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIAABAgMEBQYHCAkKCwwNDg8QERITFBUWFxgZGhscHR4f core@example.com";

    async fn generate(server: &ApiFixture, path: &str, body: Value) -> (u16, Value) {
        let reply = server.admin("POST", path, &body.to_string()).await;
        (reply.status().as_u16(), serde_json::from_slice(reply.body()).unwrap())
    }

    fn names(server: &ApiFixture) -> Vec<String> {
        let state = server.shared.gate.store.load();
        state.list(crate::fleet::Kind::BootConfig, None).map(|one| one.meta().name.to_string()).collect()
    }

    #[tokio::test]
    async fn a_machines_files_are_one_config() {
        let server = ApiFixture::new();
        let (code, answer) = generate(&server, CLOUD_INIT, json!({"hostname": "node1"})).await;
        assert_eq!((code, &answer["configs"]["userdata"]), (200, &json!("bootlatch:node1-user.yaml")));
        assert_eq!(answer["userdata"], answer["configs"]["userdata"]);
        assert!(answer["servingUrl"].as_str().unwrap().ends_with("/configs/") && answer["network"].is_null());
        assert_eq!(names(&server), ["node1"]);
        // The same again replaces it.
        assert_eq!(generate(&server, CLOUD_INIT, json!({"hostname": "node1"})).await.0, 200);
    }

    #[tokio::test]
    async fn a_dry_run_generates_nothing() {
        let server = ApiFixture::new();
        let path = format!("{CLOUD_INIT}?dryRun=All");
        assert_eq!(generate(&server, &path, json!({"hostname": "node1"})).await.0, 200);
        assert_eq!(names(&server), Vec::<String>::new());
    }

    #[tokio::test]
    async fn a_config_that_was_not_generated_is_not_replaced() {
        let server = ApiFixture::new();
        let spec = json!({"format": "script", "data": {"script": "mine"}});
        server.put(crate::fleet::Kind::BootConfig, json!({"metadata": {"name": "node1"}, "spec": spec})).await;
        let (code, status) = generate(&server, CLOUD_INIT, json!({"hostname": "node1"})).await;
        assert_eq!((code, &status["reason"]), (409, &json!("AlreadyExists")));
    }

    #[tokio::test]
    async fn a_wrong_body_is_refused_with_its_field() {
        let server = ApiFixture::new();
        let cluster = json!({"name": "okd", "baseDomain": "example.com"});
        let rows = [
            (CLOUD_INIT, json!({}), "hostname"),
            (CLOUD_INIT, json!({"hostname": "a", "volume": "nothing"}), "volume"),
            (CLOUD_INIT, json!({"hostname": "a", "template": "nothing"}), "template"),
            (IGNITION, json!({"platform": "okd", "version": "4.19", "cluster": cluster, "sshKey": "x"}), "sshKey"),
            (IGNITION, json!({"platform": "okd", "version": "4.19", "sshKey": KEY}), "cluster"),
        ];
        for (path, body, field) in rows {
            let (code, status) = generate(&server, path, body.clone()).await;
            assert_eq!((code, &status["details"]["causes"][0]["field"]), (422, &json!(field)), "{body} {status}");
        }
        assert_eq!(names(&server), Vec::<String>::new());
    }
}
