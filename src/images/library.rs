//! Open images: one file for all readers of an image, and the hosts' views of it.

use std::collections::HashMap;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, Weak};
use std::time::{Duration, Instant, SystemTime};

use jiff::Timestamp;

use crate::fleet::{Image, Mac, Name};
use crate::iso::{self, Customization, Examined, Extent, ImageFile, Iso, OverlayView, ReadAt};

/// Maximum number of cached views, of leases under a token, and of files that were checked a moment ago.
const MAX_VIEWS: usize = 256;
/// Time for which the check of a file counts: an image that is attached again and again is not checked each time.
const CHECK_TTL: Duration = Duration::from_secs(1);
/// Time for which a view is cached that nobody attaches.
const VIEW_TTL: Duration = Duration::from_secs(600);

/// Length and modification time of a file.
type FileStamp = (u64, Option<SystemTime>);

/// The reason for which an image cannot be read.
#[derive(Debug, thiserror::Error)]
pub enum ImageError {
    /// The ISO is served by another server.
    #[error("the ISO is not stored here but {location}")]
    Remote {
        /// Its location, in words.
        location: String,
    },
    /// The image's status says that its file cannot be served.
    #[error("{0}")]
    Broken(String),
    /// The host's config, which its view contains, cannot be rendered.
    #[error("{0}")]
    Config(String),
    /// The file was replaced and has not been examined again.
    #[error("{}: {}", path.display(), ImageError::CHANGED)]
    Changed {
        /// Path of the file.
        path: PathBuf,
    },
    /// The file system failed.
    #[error("{}: {source}", path.display())]
    File {
        /// Path of the file.
        path: PathBuf,
        /// The file system's error.
        source: std::io::Error,
    },
    /// The file is not an ISO image.
    #[error("{}: {source}", path.display())]
    NotAnIso {
        /// Path of the file.
        path: PathBuf,
        /// The fault.
        source: iso::IsoError,
    },
    /// A host's view of the image cannot be composed.
    #[error("cannot compose the view of {}: {source}", path.display())]
    View {
        /// Path of the file.
        path: PathBuf,
        /// The part that cannot be changed.
        source: iso::ViewError,
    },
}

impl ImageError {
    const CHANGED: &str = "the file was replaced; it is being examined again";

    /// Returns the reason without the file's path, which machines must not see.
    pub fn reason(&self) -> String {
        match self {
            Self::Remote { .. } | Self::Broken(_) | Self::Config(_) => self.to_string(),
            Self::Changed { .. } => Self::CHANGED.to_owned(),
            Self::File { source, .. } => source.to_string(),
            Self::NotAnIso { source, .. } => source.to_string(),
            Self::View { source, .. } => format!("cannot compose the host's view: {source}"),
        }
    }
}

/// The library of images: open files by path, and views by their customization.
#[derive(Debug)]
pub struct ImageLibrary {
    isos: PathBuf,
    open: Mutex<HashMap<PathBuf, Weak<OpenImage>>>,
    /// The files that were checked a moment ago, with the time of the check. They stay open without a reader.
    checked: Mutex<HashMap<PathBuf, (Instant, Arc<OpenImage>)>>,
    views: Mutex<Vec<CachedView>>,
    /// Wakes the image watch when an image could not be opened.
    open_failed: tokio::sync::Notify,
    /// Views that are leased under a token, with the time of their last read; the most recently read is last.
    leases: Mutex<Vec<(String, ImageView, Instant)>>,
    started: Instant,
}

/// An image as a reader sees it: the file, or a host's view of it.
#[derive(Debug, Clone)]
pub struct ImageView {
    /// The bytes.
    pub medium: Arc<dyn ReadAt>,
    /// Entity tag: the same for the same bytes over every transport, while the image's file stays the same.
    pub tag: String,
    /// Warnings of the customization.
    pub warnings: Arc<[String]>,
    /// The machine whose config the bytes contain, and the config.
    pub carries: Option<(Mac, Name)>,
}

/// A view with the file and the customization that it was composed from.
#[derive(Debug)]
struct CachedView {
    customization: Customization,
    base: Arc<OpenImage>,
    seen: ImageView,
    used: Instant,
}

/// An open image file.
#[derive(Debug)]
pub struct OpenImage {
    /// The file.
    pub file: Arc<ImageFile>,
    path: PathBuf,
    stamp: FileStamp,
    examined: std::sync::OnceLock<Arc<Examined>>,
}

impl ImageLibrary {
    /// Creates a library; `isos` is the directory of relative `isoFile` paths.
    pub fn new(isos: PathBuf) -> Self {
        Self {
            isos,
            open: Mutex::default(),
            checked: Mutex::default(),
            views: Mutex::default(),
            open_failed: Default::default(),
            leases: Mutex::default(),
            started: Instant::now(),
        }
    }

    /// Waits until opening an image fails.
    pub async fn open_failed(&self) {
        self.open_failed.notified().await;
    }

    /// Returns why an image cannot be served, from its status and without its file's path; `None` if it can.
    pub fn reason<'a>(&self, image: &'a Image) -> Option<&'a str> {
        let message = image.status.is_broken().then_some(image.status.message.as_str())?;
        let place = format!("{}: ", self.isos.join(&image.spec.iso_file).display());
        Some(message.strip_prefix(&place).unwrap_or(message))
    }

    /// Opens an image, or returns the file that is open already. Only an examined file is served: if the file was
    /// replaced, this fails and wakes the image watch, which examines it.
    ///
    /// # Errors
    /// The file system's error, or the reason in the image's status.
    pub fn open(&self, image: &Image) -> Result<Arc<OpenImage>, ImageError> {
        let now = Instant::now();
        let opened = self.try_open(image).inspect_err(|_| self.open_failed.notify_one());
        let before = match &opened {
            Ok(opened) => self.keep_checked(opened, now),
            Err(_) => self.checked().remove(&self.isos.join(&image.spec.iso_file)),
        };
        drop(before);
        opened
    }

    fn checked(&self) -> MutexGuard<'_, HashMap<PathBuf, (Instant, Arc<OpenImage>)>> {
        self.checked.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Returns an image whose file was checked within [`CHECK_TTL`], without asking a file system.
    fn open_now(&self, image: &Image, now: Instant) -> Option<Arc<OpenImage>> {
        if image.spec.remote_location().is_some() || image.status.is_broken() {
            return None;
        }
        let checked = self.checked();
        let (at, opened) = checked.get(&self.isos.join(&image.spec.iso_file))?;
        let is_fresh = now.saturating_duration_since(*at) < CHECK_TTL;
        (is_fresh && opened.is_examined(image)).then(|| opened.clone())
    }

    /// Keeps a file open that was checked. Returns the one that it replaces, to be closed without the lock.
    fn keep_checked(&self, opened: &Arc<OpenImage>, now: Instant) -> Option<(Instant, Arc<OpenImage>)> {
        let mut checked = self.checked();
        if checked.len() < MAX_VIEWS || checked.contains_key(&opened.path) {
            return checked.insert(opened.path.clone(), (now, opened.clone()));
        }
        None
    }

    /// Takes the files that only an old check or an old view keeps open, so that the space of a deleted one is freed. Closing
    /// one may wait for a file server: drop them on a thread that may wait.
    pub fn take_unused(&self, now: Instant) -> Vec<Arc<OpenImage>> {
        let mut unused = Vec::new();
        self.checked().retain(|_, (at, opened)| {
            let is_fresh = now.saturating_duration_since(*at) < CHECK_TTL;
            if !is_fresh {
                unused.push(opened.clone());
            }
            is_fresh
        });
        let mut views = self.views.lock().unwrap_or_else(PoisonError::into_inner);
        views.retain(|view| {
            let is_used = now.saturating_duration_since(view.used) < VIEW_TTL;
            if !is_used {
                unused.push(view.base.clone());
            }
            is_used
        });
        unused
    }

    fn try_open(&self, image: &Image) -> Result<Arc<OpenImage>, ImageError> {
        if let Some(location) = image.spec.remote_location() {
            return Err(ImageError::Remote { location });
        }
        if let Some(reason) = self.reason(image) {
            return Err(ImageError::Broken(reason.to_owned()));
        }
        let path = self.isos.join(&image.spec.iso_file);
        let fail = |source| ImageError::File { path: path.clone(), source };
        let stamp = stamp(&path).map_err(fail)?;
        if !matches(image, stamp) {
            return Err(ImageError::Changed { path });
        }
        let known = |open: &HashMap<PathBuf, Weak<OpenImage>>| {
            open.get(&path).and_then(Weak::upgrade).filter(|opened| opened.stamp == stamp)
        };
        if let Some(opened) = known(&self.open.lock().unwrap_or_else(PoisonError::into_inner)) {
            return Ok(opened);
        }
        // No lock is held here: the file system may not answer, and other images are on others.
        let file = iso::file::open(&path).and_then(ImageFile::new).map_err(fail)?;
        let mut open = self.open.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(opened) = known(&open) {
            return Ok(opened);
        }
        open.retain(|_, opened| opened.strong_count() > 0);
        let opened =
            Arc::new(OpenImage { file: Arc::new(file), path: path.clone(), stamp, examined: Default::default() });
        open.insert(path, Arc::downgrade(&opened));
        Ok(opened)
    }

    /// Returns an image with a customization; the file itself if nothing is customized.
    ///
    /// # Errors
    /// The file cannot be read, or the view cannot be composed.
    pub fn view(&self, image: &Image, customization: Customization) -> Result<ImageView, ImageError> {
        let opened = self.open(image)?;
        if customization == Customization::default() {
            return Ok(ImageView::plain(opened.file.clone(), opened.tag()));
        }
        if let Some(seen) = self.cached(&customization, &opened) {
            return Ok(seen);
        }
        // No lock is held here: two readers that want the same view at once both compose it.
        let seen = opened.compose(&customization)?;
        let mut views = self.views.lock().unwrap_or_else(PoisonError::into_inner);
        if views.len() == MAX_VIEWS {
            views.remove(0);
        }
        views.push(CachedView { customization, base: opened, seen: seen.clone(), used: Instant::now() });
        Ok(seen)
    }

    /// Returns an image with a customization as [`Self::view`], for somebody who does not read it: no view is cached or
    /// evicted, and a file that cannot be opened wakes nobody.
    ///
    /// # Errors
    /// As for [`Self::view`].
    pub fn preview(&self, image: &Image, customization: &Customization) -> Result<ImageView, ImageError> {
        let opened = self.try_open(image)?;
        match *customization == Customization::default() {
            true => Ok(ImageView::plain(opened.file.clone(), opened.tag())),
            false => opened.compose(customization),
        }
    }

    /// Returns an image with a customization as [`Self::view`], if that is possible without asking a file system: the
    /// file was checked a moment ago, and the view is cached.
    pub fn view_now(&self, image: &Image, customization: &Customization) -> Option<ImageView> {
        let opened = self.open_now(image, Instant::now())?;
        if *customization == Customization::default() {
            return Some(ImageView::plain(opened.file.clone(), opened.tag()));
        }
        self.cached(customization, &opened)
    }

    /// Returns a cached view, and makes it the last to be evicted.
    fn cached(&self, customization: &Customization, opened: &Arc<OpenImage>) -> Option<ImageView> {
        let mut views = self.views.lock().unwrap_or_else(PoisonError::into_inner);
        let place =
            views.iter().position(|kept| kept.customization == *customization && Arc::ptr_eq(&kept.base, opened))?;
        views[place..].rotate_left(1);
        let kept = views.last_mut()?;
        kept.used = Instant::now();
        Some(kept.seen.clone())
    }

    /// Leases a view under a token: its bytes stay the same, whatever happens to the image and the host.
    pub fn hold(&self, token: String, seen: ImageView) {
        let mut leases = self.leases.lock().unwrap_or_else(PoisonError::into_inner);
        leases.retain(|(other, ..)| *other != token);
        if leases.len() == MAX_VIEWS {
            leases.remove(0);
        }
        leases.push((token, seen, Instant::now()));
    }

    /// Returns the view under a token; `Some(None)` if `is_given` refuses it. `is_given` gets the view and the time
    /// since its last read.
    pub fn held(&self, token: &str, is_given: impl FnOnce(&ImageView, Duration) -> bool) -> Option<Option<ImageView>> {
        let mut leases = self.leases.lock().unwrap_or_else(PoisonError::into_inner);
        let place = leases.iter().position(|(known, ..)| known == token)?;
        let (_, seen, last) = &mut leases[place];
        if !is_given(seen, last.elapsed()) {
            return Some(None);
        }
        *last = Instant::now();
        leases[place..].rotate_left(1);
        leases.last().map(|(_, seen, _)| Some(seen.clone()))
    }

    /// Returns the time since the server started; reads before that are not known.
    pub fn age(&self) -> Duration {
        self.started.elapsed()
    }

    /// Returns the extents of a file in an ISO; `None` if there is none, or if links form a cycle.
    ///
    /// # Errors
    /// The image is damaged.
    pub fn find(medium: &dyn ReadAt, path: &str) -> Result<Option<Vec<Extent>>, iso::IsoError> {
        match Iso::open(medium)?.file_extents(path) {
            Err(iso::IsoError::Links { .. }) => Ok(None),
            found => found,
        }
    }
}

impl ImageView {
    /// Returns bytes as they are.
    pub fn plain(medium: Arc<dyn ReadAt>, tag: String) -> Self {
        Self { medium, tag, warnings: Arc::default(), carries: None }
    }
}

impl OpenImage {
    /// Returns whether the file is the one that was examined for the image.
    fn is_examined(&self, image: &Image) -> bool {
        matches(image, self.stamp)
    }

    fn tag(&self) -> String {
        tag(self.stamp)
    }

    fn examined(&self) -> Result<Arc<Examined>, ImageError> {
        if let Some(examined) = self.examined.get() {
            return Ok(examined.clone());
        }
        let fail = |source| ImageError::NotAnIso { path: self.path.clone(), source };
        let examined = Arc::new(iso::examine(&*self.file).map_err(fail)?);
        Ok(self.examined.get_or_init(|| examined).clone())
    }

    fn compose(&self, customization: &Customization) -> Result<ImageView, ImageError> {
        let fail = |source| ImageError::View { path: self.path.clone(), source };
        let identity = format!("{} {:?}", self.path.display(), self.stamp);
        let composed =
            iso::compose(&*self.file, &*self.examined()?, identity.as_bytes(), customization).map_err(fail)?;
        for warning in &composed.warnings {
            tracing::info!(image = %self.path.display(), warning, "view of an image composed with a warning");
        }
        let view = OverlayView::new(self.file.clone(), Arc::new(composed.overlay));
        let tag = view.overlay().tag().to_string();
        Ok(ImageView { medium: Arc::new(view), tag, warnings: composed.warnings.into(), carries: None })
    }
}

fn matches(image: &Image, (length, modified): FileStamp) -> bool {
    image.status.matches_file(length, modified.and_then(|at| Timestamp::try_from(at).ok()))
}

/// Returns the tag of a file's bytes, by its length and the time of its last change.
pub fn tag((length, modified): (u64, Option<SystemTime>)) -> String {
    let since = modified.and_then(|at| at.duration_since(SystemTime::UNIX_EPOCH).ok()).unwrap_or_default();
    format!("{length:x}-{:x}", since.as_nanos())
}

fn stamp(path: &Path) -> std::io::Result<FileStamp> {
    let metadata = iso::file::stat(path)?;
    Ok((metadata.len(), metadata.modified().ok()))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::fleet::{ImageSpec, ImageStatus, Meta};

    /// Returns a library with one small ISO image.
    fn library() -> (ImageLibrary, Image) {
        let seeds = Path::new(env!("CARGO_MANIFEST_DIR")).join("integration/fuzz/seeds");
        let metadata = Meta::named("live".parse().unwrap(), None);
        let image = Image { metadata, spec: ImageSpec::of_file("small.iso"), status: ImageStatus::default() };
        (ImageLibrary::new(seeds), image)
    }

    /// Returns a customization that differs from those of other numbers.
    fn customization(number: usize) -> Customization {
        Customization { files: vec![("/ks.cfg".into(), number.to_string().into())], ..Customization::default() }
    }

    #[test]
    fn the_view_that_was_used_longest_ago_is_evicted() {
        let (library, image) = library();
        let tags: Vec<String> =
            (0..MAX_VIEWS).map(|number| library.view(&image, customization(number)).unwrap().tag).collect();
        let opened = library.open(&image).unwrap();
        let cached = |number| library.cached(&customization(number), &opened).map(|view| view.tag);
        assert_eq!(cached(0).as_ref(), tags.first());
        library.view(&image, customization(MAX_VIEWS)).unwrap();
        assert_eq!(library.views.lock().unwrap().len(), MAX_VIEWS);
        assert_eq!((cached(0).as_ref(), cached(1)), (tags.first(), None));
        assert_eq!(library.view(&image, customization(1)).unwrap().tag, tags[1], "it is composed again");
        assert_eq!(library.open.lock().unwrap().len(), 1, "all views share one file");
    }

    #[test]
    fn a_file_that_was_checked_a_moment_ago_is_served_without_another_check() {
        let (library, mut image) = library();
        let (plain, own) = (Customization::default(), customization(1));
        assert!(library.view_now(&image, &plain).is_none(), "nobody has checked the file");
        let tag = library.view(&image, plain.clone()).unwrap().tag;
        assert_eq!(library.view_now(&image, &plain).map(|view| view.tag), Some(tag));
        assert!(library.view_now(&image, &own).is_none(), "the view is not composed");
        let tag = library.view(&image, own.clone()).unwrap().tag;
        assert_eq!(library.view_now(&image, &own).map(|view| view.tag), Some(tag));
        image.status.phase = ImageStatus::BROKEN.into();
        assert!(library.view_now(&image, &plain).is_none(), "the image cannot be served");
        image.status = ImageStatus { size_bytes: Some(1), ..ImageStatus::default() };
        assert!(library.view_now(&image, &plain).is_none(), "another file was examined");
        image.status = ImageStatus::default();
        let later = Instant::now() + CHECK_TTL;
        assert!(library.open_now(&image, later).is_none(), "the check is old");
        drop(library.take_unused(later));
        assert!(library.checked.lock().unwrap().is_empty());
    }

    #[test]
    fn checked_files_are_bounded() {
        let (library, image) = library();
        let opened = library.open(&image).unwrap();
        for number in 0..2 * MAX_VIEWS {
            let path = PathBuf::from(number.to_string());
            let (file, stamp) = (opened.file.clone(), opened.stamp);
            library
                .keep_checked(&Arc::new(OpenImage { file, path, stamp, examined: Default::default() }), Instant::now());
        }
        assert_eq!(library.checked.lock().unwrap().len(), MAX_VIEWS);
    }

    #[test]
    fn the_lease_that_was_read_longest_ago_is_evicted() {
        let (library, image) = library();
        let view = library.view(&image, Customization::default()).unwrap();
        for number in 0..MAX_VIEWS {
            library.hold(number.to_string(), view.clone());
        }
        let held = |number: usize| library.held(&number.to_string(), |_, _| true).map(|view| view.is_some());
        assert_eq!(held(0), Some(true));
        library.hold(0.to_string(), view.clone());
        library.hold(MAX_VIEWS.to_string(), view);
        assert_eq!(library.leases.lock().unwrap().len(), MAX_VIEWS);
        assert_eq!((held(0), held(1), held(MAX_VIEWS)), (Some(true), None, Some(true)));
    }
}
