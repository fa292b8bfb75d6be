//! Edits Syslinux configurations: the kernels stay, their arguments stay, and the new ones are there.
#![no_main]

mod edited;

use bootlatch::iso::Dialect;
use libfuzzer_sys::fuzz_target;

fuzz_target!(|data: &[u8]| edited::check(Dialect::Syslinux, "/isolinux/isolinux.cfg", data));
