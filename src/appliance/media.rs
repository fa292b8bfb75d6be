//! The images that are open: one file for all the sessions that read it.

use std::collections::HashMap;
use std::path::PathBuf;
use std::sync::{Arc, Mutex, PoisonError, Weak};

use crate::admit::Places;
use crate::fleet::Image;
use crate::iso::{ImageFile, ReadAt};

/// Holds open images by their path, for as long as somebody reads them.
#[derive(Debug)]
pub struct Media {
    places: Places,
    open: Mutex<HashMap<PathBuf, Weak<ImageFile>>>,
}

impl Media {
    pub fn new(places: Places) -> Self {
        Self { places, open: Mutex::new(HashMap::new()) }
    }

    /// Opens an image, or joins those who have it open.
    ///
    /// # Errors
    /// What the file system says.
    pub fn open(&self, image: &Image) -> std::io::Result<Arc<ImageFile>> {
        let path = self.places.iso(&image.spec.iso_file);
        let mut open = self.open.lock().unwrap_or_else(PoisonError::into_inner);
        open.retain(|_, file| file.strong_count() > 0);
        let length = std::fs::metadata(&path)?.len();
        if let Some(file) = open.get(&path).and_then(Weak::upgrade).filter(|file| file.len() == length) {
            return Ok(file);
        }
        let file = Arc::new(ImageFile::new(std::fs::File::open(&path)?)?);
        open.insert(path, Arc::downgrade(&file));
        Ok(file)
    }
}
