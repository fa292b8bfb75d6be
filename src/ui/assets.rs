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

/// Makes the table of the files. The build script compresses all files of the folder.
macro_rules! assets {
    ($($media_type:literal: $($name:literal),+;)+) => {
        static ASSETS: &[Asset] = &[$($(Asset {
            name: $name,
            media_type: $media_type,
            gzip: include_bytes!(concat!(env!("OUT_DIR"), "/", $name, ".gz")),
        }),+),+];
    };
}

assets! {
    "text/css; charset=utf-8": "app.css";
    "image/svg+xml": "icon.svg";
    "text/javascript; charset=utf-8":
        "actions.js", "activity.js", "advice.js", "bulk.js", "configs.js", "dialogs.js", "elements.js", "frame.js", "host.js",
        "host_field.js", "host_rows.js", "hosts.js", "isos.js", "lanes.js", "needs.js", "network.js", "power.js", "requests.js", "rows.js",
        "settings.js", "timeline.js", "times.js", "uploads.js";
}

/// The modules that every page with rows needs.
const COMMON: [&str; 6] = ["dialogs.js", "elements.js", "frame.js", "requests.js", "rows.js", "times.js"];

/// Returns the module of a page, and those that it needs at once: the browser loads them together, not one after
/// another as it finds their imports.
pub fn modules(page: &str) -> (&'static str, Vec<&'static str>) {
    let (module, more): (&str, &[&str]) = match page {
        "hosts" => ("hosts.js", &["actions.js", "bulk.js", "host_field.js", "host_rows.js", "needs.js", "power.js"]),
        "host" => (
            "host.js",
            &[
                "actions.js",
                "advice.js",
                "bulk.js",
                "host_field.js",
                "host_rows.js",
                "lanes.js",
                "power.js",
                "timeline.js",
            ],
        ),
        "isos" => ("isos.js", &["uploads.js"]),
        "configs" => ("configs.js", &["bulk.js"]),
        "activity" => ("activity.js", &["timeline.js"]),
        "network" => ("network.js", &[]),
        "settings" => ("settings.js", &[]),
        _ => return ("frame.js", vec!["elements.js"]),
    };
    (module, [&COMMON, more].concat())
}

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
    use std::collections::BTreeSet;
    use std::fs;
    use std::io::Read;

    use flate2::read::GzDecoder;

    use super::*;

    /// Maximum number of lines of a file.
    const MAX_LINES: usize = 600;

    fn text(name: &str) -> String {
        let mut text = String::new();
        GzDecoder::new(asset(name).unwrap().gzip).read_to_string(&mut text).unwrap();
        text
    }

    /// Returns the modules that a module imports before it runs.
    fn imports(name: &str) -> Vec<String> {
        let lines: String = text(name).lines().take_while(|line| !line.starts_with("class ")).collect();
        let quoted = lines.split("import ").skip(1).filter_map(|import| import.split("\"./").nth(1)?.split('"').next());
        quoted.map(str::to_owned).collect()
    }

    fn closure(name: &str, found: &mut BTreeSet<String>) {
        for import in imports(name) {
            assert!(!imports(&import).iter().any(|back| back == name), "{name} and {import} import each other");
            if found.insert(import.clone()) {
                closure(&import, found);
            }
        }
    }

    #[test]
    fn the_files_are_small_and_known_by_name() {
        let bytes: usize = ASSETS.iter().map(|asset| asset.gzip.len()).sum();
        assert!(bytes < 56 * 1024, "{bytes} bytes: the whole page must be under 60 KB");
        let folder = fs::read_dir(concat!(env!("CARGO_MANIFEST_DIR"), "/src/ui/assets")).unwrap();
        let there: BTreeSet<String> = folder.map(|entry| entry.unwrap().file_name().into_string().unwrap()).collect();
        assert_eq!(there, ASSETS.iter().map(|asset| asset.name.to_owned()).collect(), "each file is served");
        for Asset { name, .. } in ASSETS {
            let count = text(name).lines().count();
            assert!(count <= MAX_LINES, "{name}: {count} lines");
        }
        assert!(asset("app").is_none() && path("hosts.js").ends_with("/hosts.js"));
    }

    #[test]
    fn a_page_names_all_modules_that_it_needs() {
        for page in ["hosts", "host", "isos", "configs", "activity", "network", "settings", "login", "none"] {
            let (module, others) = modules(page);
            let mut needed = BTreeSet::new();
            closure(module, &mut needed);
            assert_eq!(others.iter().map(|name| (*name).to_owned()).collect::<BTreeSet<_>>(), needed, "{page}");
        }
    }
}
