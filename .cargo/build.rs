//! The build script: leaves the unwind tables out of a program that aborts on a panic.
//!
//! They are 1 MB of the release binary. Nothing unwinds there, and it has no symbols that a backtrace could show. The
//! compiler's own switch (`-C force-unwind-tables=no`) cannot be set for one profile.

use std::{env, fs, io, path};

/// Adds to the linker's own script: the section goes nowhere.
const DISCARD: &str = "SECTIONS { /DISCARD/ : { *(.eh_frame) } } INSERT AFTER .text;\n";

fn main() -> io::Result<()> {
    println!("cargo::rerun-if-changed=.cargo/build.rs");
    let is = |key: &str, value: &str| env::var(key).is_ok_and(|found| found == value);
    // The release profile of Cargo.toml sets panic = "abort"; Cargo does not report the setting to build scripts.
    if !(is("PROFILE", "release") && is("CARGO_CFG_TARGET_OS", "linux")) {
        return Ok(());
    }
    let script = path::Path::new(&env::var_os("OUT_DIR").unwrap_or_default()).join("discard-unwind-tables.ld");
    fs::write(&script, DISCARD)?;
    println!("cargo::rustc-link-arg-bins=-Wl,-T,{}", script.display());
    // Functions with the same machine code are one. Rust's linker for this target is LLD, which can do that.
    if is("CARGO_CFG_TARGET_ARCH", "x86_64") {
        println!("cargo::rustc-link-arg-bins=-Wl,--icf=all");
    }
    Ok(())
}
