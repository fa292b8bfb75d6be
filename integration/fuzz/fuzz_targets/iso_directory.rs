#![no_main]
//! Reads a damaged image completely: it is rejected with a reason, or read.

mod damaged;

use bootlatch::iso::{EntryKind, Iso, OverlayBuilder, examine};
use libfuzzer_sys::fuzz_target;

fuzz_target!(|data: &[u8]| {
    let base = damaged::image(data);
    let mut draft = OverlayBuilder::new(&base);
    damaged::damage(&mut draft, data);
    if let Err(why) = examine(&draft) {
        assert!(!why.to_string().is_empty());
    }
    let Ok(iso) = Iso::open(&draft) else { return };
    for path in
        ["/boot/grub/grub.cfg", "/D/E/F/A file with a long name indeed", "/link", "/none", "/isolinux/../efi.img"]
    {
        if let Ok(Some(entry)) = iso.find(path) {
            assert!(
                entry.kind != EntryKind::File
                    || entry.extents.iter().all(|extent| extent.ensure_within(base.0.len() as u64, path).is_ok())
            );
        }
        let _ = iso.read(path);
        let _ = iso.list(path);
    }
    let _ = iso.walk(&mut |_, _| Ok(()));
});
