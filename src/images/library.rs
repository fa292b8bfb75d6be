//! The media that are open: one file for all who read an image, and the views that hosts have of it.

use std::collections::HashMap;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError, Weak};
use std::time::{Duration, Instant, SystemTime};

use jiff::Timestamp;
use rustix::fs::{Mode, OFlags, ResolveFlags, openat2};
use rustix::io::Errno;

use crate::fleet::{Image, Mac, Name};
use crate::iso::{self, Customization, Examined, Extent, ImageFile, Iso, OverlayView, ReadAt};

/// Bounds the views that are kept after their last reader went, and those that are held under a token.
const VIEWS: usize = 256;

/// Says why a medium cannot be had.
#[derive(Debug, thiserror::Error)]
pub enum ImageError {
    #[error("the ISO is not here but {place}")]
    Elsewhere { place: String },
    #[error("{0}")]
    Broken(String),
    #[error("{}: {}", path.display(), ImageError::CHANGED)]
    Changed { path: PathBuf },
    #[error("{}: {source}", path.display())]
    File { path: PathBuf, source: std::io::Error },
    #[error("{}: {source}", path.display())]
    NotAnIso { path: PathBuf, source: iso::IsoError },
    #[error("the view of {} cannot be made: {source}", path.display())]
    View { path: PathBuf, source: iso::ViewError },
}

impl ImageError {
    const CHANGED: &str = "it is another file than the one that was looked at: it is looked at anew";

    /// Says why without saying where the file lies: for machines, which that is no business of.
    pub fn reason(&self) -> String {
        match self {
            Self::Elsewhere { .. } | Self::Broken(_) => self.to_string(),
            Self::Changed { .. } => Self::CHANGED.to_owned(),
            Self::File { source, .. } => source.to_string(),
            Self::NotAnIso { source, .. } => source.to_string(),
            Self::View { source, .. } => format!("the host's view of it cannot be made: {source}"),
        }
    }
}

/// Holds open images by their path, and views by what is wished of them.
#[derive(Debug)]
pub struct ImageLibrary {
    isos: PathBuf,
    open: Mutex<HashMap<PathBuf, Weak<OpenImage>>>,
    views: Mutex<Vec<CachedView>>,
    /// Wakes who looks at the images' files: one of them could not be opened.
    amiss: tokio::sync::Notify,
    /// Holds what is read under a token, and since when nobody did; the last that was read last.
    held: Mutex<Vec<(String, ImageView, Instant)>>,
    begun: Instant,
}

/// Is a medium as somebody sees it, with what identifies its bytes.
#[derive(Debug, Clone)]
pub struct ImageView {
    pub medium: Arc<dyn ReadAt>,
    /// Is the same for the same bytes, over every transport, for as long as the image's file stays.
    pub tag: String,
    /// Says what of it is not as people may expect.
    pub warnings: Arc<[String]>,
    /// Names the machine whose config is among its bytes, and the config.
    pub carries: Option<(Mac, Name)>,
}

/// Is a view with what it was made of.
#[derive(Debug)]
struct CachedView {
    wishes: Customization,
    base: Arc<OpenImage>,
    seen: ImageView,
}

/// Is an image file as it was when it was opened.
#[derive(Debug)]
pub struct OpenImage {
    pub file: Arc<ImageFile>,
    path: PathBuf,
    stamp: (u64, Option<SystemTime>),
    examined: std::sync::OnceLock<Arc<Examined>>,
}

impl ImageLibrary {
    pub fn new(isos: PathBuf) -> Self {
        Self {
            isos,
            open: Mutex::default(),
            views: Mutex::default(),
            amiss: Default::default(),
            held: Mutex::default(),
            begun: Instant::now(),
        }
    }

    /// Waits until an image could not be opened.
    pub async fn open_failed(&self) {
        self.amiss.notified().await;
    }

    /// Says why an image cannot be served now, by its status and without where its file lies; nothing where it can.
    pub fn reason<'a>(&self, image: &'a Image) -> Option<&'a str> {
        let message = image.status.is_broken().then_some(image.status.message.as_str())?;
        let place = format!("{}: ", self.isos.join(&image.spec.iso_file).display());
        Some(message.strip_prefix(&place).unwrap_or(message))
    }

    /// Opens an image, or joins those who have it open. Only a file that was looked at is served: one that was
    /// replaced since must be looked at first, and whoever does that is woken.
    ///
    /// # Errors
    /// What the file system says, or what was found of the file.
    pub fn open(&self, image: &Image) -> Result<Arc<OpenImage>, ImageError> {
        self.try_open(image).inspect_err(|_| self.amiss.notify_one())
    }

    fn try_open(&self, image: &Image) -> Result<Arc<OpenImage>, ImageError> {
        if let Some(place) = image.spec.remote_location() {
            return Err(ImageError::Elsewhere { place });
        }
        if let Some(reason) = self.reason(image) {
            return Err(ImageError::Broken(reason.to_owned()));
        }
        let path = self.isos.join(&image.spec.iso_file);
        let fail = |source| ImageError::File { path: path.clone(), source };
        let stamp = stamp(&path).map_err(fail)?;
        if !image.status.is_of(stamp.0, stamp.1.and_then(|at| Timestamp::try_from(at).ok())) {
            return Err(ImageError::Changed { path });
        }
        let mut open = self.open.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(opened) = open.get(&path).and_then(Weak::upgrade).filter(|opened| opened.stamp == stamp) {
            return Ok(opened);
        }
        open.retain(|_, opened| opened.strong_count() > 0);
        let file = std::fs::File::open(&path).and_then(ImageFile::new).map_err(fail)?;
        let opened =
            Arc::new(OpenImage { file: Arc::new(file), path: path.clone(), stamp, examined: Default::default() });
        open.insert(path, Arc::downgrade(&opened));
        Ok(opened)
    }

    /// Gives an image as somebody is to see it: the file itself where nothing is wished of it.
    ///
    /// # Errors
    /// The file cannot be read, or the wishes cannot be met.
    pub fn view(&self, image: &Image, wishes: Customization) -> Result<ImageView, ImageError> {
        let opened = self.open(image)?;
        if wishes == Customization::default() {
            return Ok(ImageView::plain(opened.file.clone(), opened.tag()));
        }
        if let Some(seen) = self.known(&wishes, &opened) {
            return Ok(seen);
        }
        // Nobody waits for a view but who wants this one; two who do make the same.
        let seen = opened.compose(&wishes)?;
        let mut views = self.views.lock().unwrap_or_else(PoisonError::into_inner);
        if views.len() == VIEWS {
            views.remove(0);
        }
        views.push(CachedView { wishes, base: opened, seen: seen.clone() });
        Ok(seen)
    }

    /// Finds a view that was made; it is then the last to be forgotten.
    fn known(&self, wishes: &Customization, opened: &Arc<OpenImage>) -> Option<ImageView> {
        let mut views = self.views.lock().unwrap_or_else(PoisonError::into_inner);
        let place = views.iter().position(|kept| kept.wishes == *wishes && Arc::ptr_eq(&kept.base, opened))?;
        views[place..].rotate_left(1);
        views.last().map(|kept| kept.seen.clone())
    }

    /// Holds a medium under a token, whatever becomes of the image and the host meanwhile.
    pub fn hold(&self, token: String, seen: ImageView) {
        let mut held = self.held.lock().unwrap_or_else(PoisonError::into_inner);
        held.retain(|(other, ..)| *other != token);
        if held.len() == VIEWS {
            held.remove(0);
        }
        held.push((token, seen, Instant::now()));
    }

    /// Finds the medium under a token. `is_given` is asked of it, and of the time since it was read last.
    pub fn held(&self, token: &str, is_given: impl FnOnce(&ImageView, Duration) -> bool) -> Option<Option<ImageView>> {
        let mut held = self.held.lock().unwrap_or_else(PoisonError::into_inner);
        let place = held.iter().position(|(known, ..)| known == token)?;
        let (_, seen, last) = &mut held[place];
        if !is_given(seen, last.elapsed()) {
            return Some(None);
        }
        *last = Instant::now();
        held[place..].rotate_left(1);
        held.last().map(|(_, seen, _)| Some(seen.clone()))
    }

    /// Measures how long nothing is known of who read what before: the server's life.
    pub fn age(&self) -> Duration {
        self.begun.elapsed()
    }

    /// Finds a file below a directory; nothing where there is none, or where the name or a link leads out.
    ///
    /// # Errors
    /// What else the file system says.
    pub fn below(directory: &Path, path: &str) -> std::io::Result<Option<ImageView>> {
        // Opening a FIFO must not wait for its writer.
        let flags = OFlags::RDONLY | OFlags::CLOEXEC | OFlags::NONBLOCK | OFlags::NOCTTY;
        let within = ResolveFlags::BENEATH | ResolveFlags::NO_MAGICLINKS;
        let opened = std::fs::File::open(directory)
            .and_then(|root| Ok(openat2(&root, path, flags, Mode::empty(), within)?))
            .map(std::fs::File::from);
        let file = match opened {
            Ok(file) => file,
            Err(error) => {
                let is_none = [
                    Errno::INVAL,
                    Errno::NOENT,
                    Errno::NOTDIR,
                    Errno::XDEV,
                    Errno::LOOP,
                    Errno::NXIO,
                    Errno::NAMETOOLONG,
                ];
                let is_none = is_none.iter().any(|none| error.raw_os_error() == Some(none.raw_os_error()));
                return if is_none { Ok(None) } else { Err(error) };
            }
        };
        let about = file.metadata()?;
        if !about.is_file() {
            return Ok(None);
        }
        let tag = tag((about.len(), about.modified().ok()));
        Ok(Some(ImageView::plain(Arc::new(ImageFile::new(file)?), tag)))
    }

    /// Finds a file within a medium, as the extents that hold it; nothing where links lead round in a circle.
    ///
    /// # Errors
    /// What is damaged of the image.
    pub fn find(medium: &dyn ReadAt, path: &str) -> Result<Option<Vec<Extent>>, iso::IsoError> {
        match Iso::open(medium)?.file_extents(path) {
            Err(iso::IsoError::Links { .. }) => Ok(None),
            found => found,
        }
    }
}

impl ImageView {
    /// Sees bytes as they are.
    fn plain(medium: Arc<dyn ReadAt>, tag: String) -> Self {
        Self { medium, tag, warnings: Arc::default(), carries: None }
    }
}

impl OpenImage {
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

    fn compose(&self, wishes: &Customization) -> Result<ImageView, ImageError> {
        let fail = |source| ImageError::View { path: self.path.clone(), source };
        let identity = format!("{} {:?}", self.path.display(), self.stamp);
        let composed = iso::compose(&*self.file, &*self.examined()?, identity.as_bytes(), wishes).map_err(fail)?;
        for warning in &composed.warnings {
            tracing::info!(image = %self.path.display(), warning, "a view of an image");
        }
        let view = OverlayView::new(self.file.clone(), Arc::new(composed.overlay));
        let tag = view.overlay().tag().to_string();
        Ok(ImageView { medium: Arc::new(view), tag, warnings: composed.warnings.into(), carries: None })
    }
}

fn tag((length, modified): (u64, Option<SystemTime>)) -> String {
    let since = modified.and_then(|at| at.duration_since(SystemTime::UNIX_EPOCH).ok()).unwrap_or_default();
    format!("{length:x}-{:x}", since.as_nanos())
}

fn stamp(path: &Path) -> std::io::Result<(u64, Option<SystemTime>)> {
    let metadata = std::fs::metadata(path)?;
    Ok((metadata.len(), metadata.modified().ok()))
}
