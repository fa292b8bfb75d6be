#![no_main]
//! Composes a view of a damaged image: it is rejected with a reason, or can be read completely.

mod damaged;

use std::sync::Arc;

use bootlatch::iso::{
    self, Customization, DigestPolicy, MemoryImage, MenuEdit, OverlayBuilder, OverlayView, ReadAt, Segment,
};
use libfuzzer_sys::fuzz_target;

fuzz_target!(|data: &[u8]| {
    let base = damaged::image(data);
    let mut draft = OverlayBuilder::new(&base);
    let rest = damaged::damage(&mut draft, data);
    let Ok(examined) = iso::examine(&draft) else { return };
    let many = rest.first().is_some_and(|byte| byte & 1 != 0);
    let wishes = Customization {
        edit: MenuEdit {
            append: vec!["ds=nocloud;s=http://h/".into(), "x".repeat(if many { 1000 } else { 10 })],
            remove: vec!["quiet".into()],
            timeout: Some(1),
        },
        files: (0..if many { 20 } else { 1 }).map(|at| (format!("/seed-{at}.cfg"), rest.to_vec().into())).collect(),
        ignition: examined.core_os.as_ref().and_then(|core_os| core_os.ignition).map(|_| rest.to_vec().into()),
        digest: if many { DigestPolicy::Recompute } else { DigestPolicy::Remove },
    };
    let mut whole = vec![0; draft.len() as usize];
    draft.read_at(0, &mut whole).expect("the draft reads in full");
    let Ok(composed) = iso::compose(&draft, &examined, b"base", &wishes) else { return };
    let overlay = Arc::new(composed.overlay);
    let view = OverlayView::new(Arc::new(MemoryImage::from(whole.clone())), overlay.clone());
    let mut seen = vec![0xaa; view.len() as usize];
    view.read_at(0, &mut seen).expect("the view reads in full");
    let mut at = 0;
    for piece in overlay.segments(0, u64::MAX) {
        let here = &seen[at..at + piece.length() as usize];
        match &piece {
            Segment::Base(extent) => assert_eq!(here, &whole[extent.offset as usize..][..here.len()]),
            Segment::Bytes(bytes) => assert_eq!(here, &bytes[..]),
            Segment::Zeros(_) => assert!(here.iter().all(|byte| *byte == 0)),
        }
        at += here.len();
    }
    assert_eq!(at, seen.len());
    // A view of an undamaged image is an image again, with the new file in it.
    if whole == base.0 && data.first() != Some(&0xff) {
        let iso = iso::Iso::open(&view).expect("the view is an image");
        assert_eq!(iso.read("/seed-0.cfg").expect("the root is whole").as_deref(), Some(rest));
        iso::examine(&view).expect("the view is sound");
    }
});
