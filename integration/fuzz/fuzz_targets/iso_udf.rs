//! The UDF volume of a damaged image: it is rejected with a reason, or each listed name is found again.
#![no_main]

mod damaged;

use std::collections::BTreeSet;

use bootlatch::iso::{DirectoryEntry, EntryKind, OverlayBuilder, UdfVolume};
use libfuzzer_sys::fuzz_target;

/// Number of directories and of names that are read; damage makes loops.
const DIRECTORIES: usize = 16;
const NAMES: usize = 32;

fn check_refused<T>(result: Result<T, bootlatch::iso::IsoError>) -> Option<T> {
    result.inspect_err(|why| assert!((1..1000).contains(&why.to_string().len()), "{why}")).ok()
}

fuzz_target!(|data: &[u8]| {
    let base = damaged::image(data);
    let mut draft = OverlayBuilder::new(&base);
    damaged::damage(&mut draft, data);
    let Some(volume) = check_refused(UdfVolume::open(&draft)) else { return };
    let Some(Some(root)) = check_refused(volume.find("/")) else { return };
    let mut left = vec![(String::new(), root)];
    for _ in 0..DIRECTORIES {
        let Some((path, directory)) = left.pop() else { break };
        let Some(entries) = check_refused(volume.list(&directory)) else { continue };
        if directory.kind != EntryKind::Directory {
            continue;
        }
        let mut seen = BTreeSet::new();
        for entry in entries.into_iter().take(NAMES).filter(|entry| seen.insert(entry.name.clone())) {
            let DirectoryEntry { name, kind, extents, .. } = &entry;
            assert!(extents.iter().all(|extent| extent.length > 0), "{name}: an empty extent");
            if name.is_empty() || name.contains('/') || name == "." || name == ".." {
                continue;
            }
            let path = format!("{path}/{name}");
            let found = volume.find(&path).expect("it was listed").expect("it was listed");
            assert_eq!((&found.name, &found.kind, &found.extents), (name, kind, extents), "{path}");
            if *kind == EntryKind::Directory {
                left.push((path, entry));
            }
        }
    }
});
