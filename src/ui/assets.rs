//! The files of the web page, compressed when the program is built.

/// Version of the files. It changes with their content and is part of their URLs.
pub const VERSION: &str = env!("UI_VERSION");

/// A file of the web page.
#[derive(Debug)]
pub struct Asset {
    /// Name of the file, the last segment of its URL.
    pub name: &'static str,
    /// Media type.
    pub media_type: &'static str,
    /// Bytes, compressed with gzip.
    pub gzip: &'static [u8],
}

/// All files. The build script compresses them.
static ASSETS: [Asset; 3] = [
    Asset {
        name: "app.css",
        media_type: "text/css; charset=utf-8",
        gzip: include_bytes!(concat!(env!("OUT_DIR"), "/app.css.gz")),
    },
    Asset {
        name: "app.js",
        media_type: "text/javascript; charset=utf-8",
        gzip: include_bytes!(concat!(env!("OUT_DIR"), "/app.js.gz")),
    },
    Asset {
        name: "icon.svg",
        media_type: "image/svg+xml",
        gzip: include_bytes!(concat!(env!("OUT_DIR"), "/icon.svg.gz")),
    },
];

/// Returns the file with a name.
pub fn asset(name: &str) -> Option<&'static Asset> {
    ASSETS.iter().find(|asset| asset.name == name)
}

/// Returns the URL path of a file.
pub fn path(name: &str) -> String {
    format!("/ui/assets/{VERSION}/{name}")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_files_are_small_and_known_by_name() {
        let bytes: usize = ASSETS.iter().map(|asset| asset.gzip.len()).sum();
        assert!(bytes < 56 * 1024, "{bytes} bytes: the whole page must be under 60 KB");
        for found in &ASSETS {
            assert!(asset(found.name).is_some_and(|one| one.gzip.starts_with(&[0x1f, 0x8b])));
        }
        assert!(asset("app").is_none() && path("app.js").ends_with("/app.js"));
    }
}
