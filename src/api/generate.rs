//! `/api/v1/configs/.../generate`: configs from a few words, as objects, and as files in a volume. The files are on disk
//! before the objects are made, and the objects before anybody is answered; where either fails, neither is there.

use std::collections::BTreeSet;
use std::sync::Arc;

use hyper::body::Incoming;
use hyper::{Request, StatusCode};
use serde_json::{Map, Value, json};
use tokio::sync::Mutex;

use crate::admission::prepare::{self, Places};
use crate::fleet::{BootConfig, Key, Kind, Meta, Name, Object, Volume};
use crate::gate::Gate;
use crate::provision::generate::{Generated, NewConfig, cloudinit, file_name, ignition};
use crate::store::{Change, Expect, StoreError};

use crate::api::objects::body;
use crate::api::objects::handlers::Tries;
use crate::api::objects::options::Options;
use crate::api::objects::status::Status;
use crate::api::state::Shared;
use crate::http::reply::{Reply, json as reply};
use crate::store::volumes::{self, NewFile, Volumes, Written};

/// Marks a config that was generated, and says by what.
const GENERATED: &str = "bootlatch.org/generated";
/// Names the volume that a generated config's files are in.
const VOLUME: &str = "bootlatch.org/volume";

/// Says what is generated.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Maker {
    Ignition,
    CloudInit,
}

impl Maker {
    fn as_str(self) -> &'static str {
        match self {
            Self::Ignition => "ignition",
            Self::CloudInit => "cloudinit",
        }
    }
}

/// Says whether a config was generated here.
pub fn is_generated(config: &BootConfig) -> bool {
    config.metadata.labels.get(GENERATED).is_some()
}

/// Answers a generation: where each of its files is.
pub async fn generate(shared: &Shared, maker: Maker, request: Request<Incoming>) -> Result<Reply, Status> {
    let (head, body) = request.into_parts();
    let options = Options::parse(head.uri.query(), &head.headers, None)?;
    let value = body::parse(body::media_type(&head.headers), &body::read(body).await?)?;
    let generated = match maker {
        Maker::Ignition => ignition(value),
        Maker::CloudInit => cloudinit(value),
    };
    let generated = generated.map_err(|fault| Status::unfit_field(&fault.field, &fault.message))?;
    let work = Work {
        gate: shared.gate.clone(),
        places: shared.places.clone(),
        volumes: shared.folders.volumes.clone(),
        losers: shared.retry_queue.clone(),
        maker,
        generated,
        dry_run: options.dry_run,
    };
    // It goes on to its end, whoever hangs up meanwhile: files without their objects would be left.
    let answer = tokio::spawn(work.carry_out()).await.map_err(|error| Status::internal(error.to_string()))??;
    Ok(reply(StatusCode::OK, &answer))
}

/// Takes a config's files out of their volume, once the config is gone.
pub async fn forget(shared: &Shared, gone: &Object) {
    let Some((name, files)) = placed(gone) else { return };
    let volumes = shared.folders.volumes.clone();
    let _turn = volumes.lock().await;
    let is_back = shared.gate.store.load().get(&gone.key()).is_some();
    if let Some(volume) = volumes.find(&name).filter(|_| !is_back) {
        clear(volume, files).await;
    }
}

struct Work {
    gate: Arc<Gate>,
    places: Places,
    volumes: Arc<Volumes>,
    losers: Arc<Mutex<()>>,
    maker: Maker,
    generated: Generated,
    dry_run: bool,
}

/// Is a config that will be, and what it was.
struct Step {
    object: Object,
    before: Option<Object>,
}

impl Work {
    async fn carry_out(self) -> Result<Value, Status> {
        let picked = self.volumes.pick(self.generated.volume.as_deref());
        let volume = picked.map_err(|message| Status::unfit_field("volume", &message))?;
        let _turn = self.volumes.lock().await;
        let mut tries = Tries::of(&self.losers);
        loop {
            let made = self.attempt(volume).await;
            if !tries.again(&made).await {
                return made.map(|()| self.answer(volume));
            }
        }
    }

    async fn attempt(&self, volume: Option<&Volume>) -> Result<(), Status> {
        let steps = self.generated.configs.iter().map(|config| self.step(config, volume));
        let steps = steps.collect::<Result<Vec<Step>, Status>>()?;
        let changes: Vec<Change> = steps.iter().map(Step::change).collect();
        let key = |index: usize| steps[index.min(steps.len() - 1)].object.key();
        if self.dry_run {
            for (index, change) in changes.into_iter().enumerate() {
                self.gate.store.dry_run(change).map_err(|error| Status::of_store(&error, &key(index)))?;
            }
            return Ok(());
        }
        let written = match volume {
            Some(volume) => Some(write(volume, &steps).await?),
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
                _ => key(0),
            };
            return Err(Status::of_store(&error, &key));
        }
        let names: Vec<String> = steps.iter().map(|step| step.object.meta().name.to_string()).collect();
        tracing::info!(configs = names.join(" "), volume = volume.map(|volume| &volume.name), "configs were generated");
        self.sweep(volume, &steps).await;
        Ok(())
    }

    fn step(&self, config: &NewConfig, volume: Option<&Volume>) -> Result<Step, Status> {
        let key = Key { kind: Kind::BootConfig, namespace: None, name: config.name.clone() };
        let before = self.gate.store.load().get(&key).cloned();
        let maker = self.maker.as_str();
        let mut metadata = match &before {
            None => Meta::named(config.name.clone(), None),
            Some(before) if before.meta().labels.get(GENERATED).is_some_and(|by| by == maker) => before.meta().clone(),
            Some(_) => {
                let message = format!("{key} exists, and was not generated so: remove it, or name this one otherwise");
                return Err(Status::already_there(message));
            }
        };
        metadata.labels.insert(GENERATED.into(), maker.into());
        let place = volume.map_or(Volume::BUILT_IN, |volume| volume.name.as_str());
        metadata.annotations.insert(VOLUME.into(), place.into());
        let mut spec = config.spec.clone();
        spec.confidential |= matches!(&before, Some(Object::BootConfig(before)) if before.spec.confidential);
        let object = Object::BootConfig(Arc::new(BootConfig { metadata, spec, status: Default::default() }));
        let object = prepare::prepare(object, before.as_ref(), &self.places)
            .map_err(|wrong| Status::invalid(Kind::BootConfig, config.name.as_str(), &wrong))?;
        Ok(Step { object, before })
    }

    /// Takes away the files of before that are no longer: those of another volume, and those that are not made again.
    async fn sweep(&self, volume: Option<&Volume>, steps: &[Step]) {
        for step in steps {
            let Some((name, mut files)) = step.before.as_ref().and_then(placed) else { continue };
            if volume.is_some_and(|volume| volume.name == name) {
                let kept: BTreeSet<String> = step.files().map(|file| file.name).collect();
                files.retain(|file| !kept.contains(file));
            }
            if let Some(volume) = self.volumes.find(&name).filter(|_| !files.is_empty()) {
                clear(volume, files).await;
            }
        }
    }

    fn answer(&self, volume: Option<&Volume>) -> Value {
        let mut configs = Map::new();
        for config in &self.generated.configs {
            for (called, file) in &config.files {
                let file = file_name(&config.name, file).unwrap_or_default();
                let reference = match volume {
                    Some(volume) => volume.reference(&file),
                    None => format!("{}:{file}", Volume::BUILT_IN),
                };
                configs.insert((*called).into(), reference.into());
            }
        }
        let url = format!("{}/configs/", self.gate.site.url());
        let mut answer = json!({"configs": configs, "servingUrl": url, "warnings": self.generated.warnings});
        // The files of one machine are named beside it as well, for who reads them there.
        if let (Maker::CloudInit, Some(answer)) = (self.maker, answer.as_object_mut()) {
            answer.append(&mut configs);
        }
        answer
    }
}

impl Step {
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
            Object::Host(_) | Object::Image(_) => None,
        };
        config.into_iter().flat_map(|config| {
            let confidential = config.spec.confidential;
            config.spec.data.iter().filter_map(move |(file, text)| {
                Some(NewFile { name: file_name(&config.metadata.name, file)?, text: text.clone(), confidential })
            })
        })
    }
}

/// Finds where a generated config's files were put: the volume's name, and theirs.
fn placed(object: &Object) -> Option<(String, BTreeSet<String>)> {
    let Object::BootConfig(config) = object else { return None };
    let volume = config.metadata.annotations.get(VOLUME).filter(|_| is_generated(config))?;
    let name: &Name = &config.metadata.name;
    Some((volume.clone(), config.spec.data.keys().filter_map(|file| file_name(name, file)).collect()))
}

async fn write(volume: &Volume, steps: &[Step]) -> Result<Written, Status> {
    let files: Vec<NewFile> = steps.iter().flat_map(Step::files).collect();
    let ours = steps.iter().filter_map(|step| placed(step.before.as_ref()?)).filter(|(name, _)| *name == volume.name);
    let ours: BTreeSet<String> = ours.flat_map(|(_, files)| files).collect();
    let volume = volume.clone();
    let written = tokio::task::spawn_blocking(move || volumes::write(&volume, &files, &ours)).await;
    written.map_err(|error| Status::internal(error.to_string()))?.map_err(|error| match error {
        volumes::VolumeError::Foreign { .. } => Status::already_there(error.to_string()),
        volumes::VolumeError::File { .. } => {
            tracing::warn!(%error, "configs could not be generated");
            Status::unavailable(error.to_string())
        }
    })
}

async fn clear(volume: &Volume, files: BTreeSet<String>) {
    let volume = volume.clone();
    match tokio::task::spawn_blocking(move || volumes::remove(&volume, &files)).await {
        Ok(Ok(())) => {}
        Ok(Err(error)) => tracing::warn!(%error, "a config's file could not be removed"),
        Err(error) => tracing::warn!(%error, "a config's file could not be removed"),
    }
}
