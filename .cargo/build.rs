//! The build script: compresses the files of the web page and the OpenAPI document, and leaves the unwind tables out of
//! a program that aborts on a panic.
//!
//! The tables are 1 MB of the release binary. Nothing unwinds there, and it has no symbols that a backtrace could show.
//! The compiler's own switch (`-C force-unwind-tables=no`) cannot be set for one profile.

use std::io::Write;
use std::path::{Path, PathBuf};
use std::{env, fs, io};

use flate2::Compression;
use flate2::write::{GzEncoder, ZlibEncoder};
use sha2::{Digest, Sha256};

/// The OpenAPI document, from the root of the tree.
const OPENAPI: &str = "docs/reference/openapi.json";

/// Adds to the linker's own script: the section goes nowhere.
const DISCARD: &str = "SECTIONS { /DISCARD/ : { *(.eh_frame) } } INSERT AFTER .text;\n";

/// The folder of the web page's files.
const ASSETS: &str = "src/ui/assets";

fn main() -> io::Result<()> {
    println!("cargo::rerun-if-changed=.cargo/build.rs");
    let out = PathBuf::from(env::var_os("OUT_DIR").unwrap_or_default());
    compress_assets(&out)?;
    compress_openapi(&out.join("openapi.json.zlib"))?;
    discard_unwind_tables(&out)
}

/// Writes each file of the web page compressed, and sets `UI_VERSION`, which changes with their content.
fn compress_assets(out: &Path) -> io::Result<()> {
    println!("cargo::rerun-if-changed={ASSETS}");
    let mut digest = Sha256::new();
    let mut paths: Vec<PathBuf> = fs::read_dir(ASSETS)?.map(|entry| Ok(entry?.path())).collect::<io::Result<_>>()?;
    paths.sort();
    for path in paths {
        let name = path.file_name().unwrap_or_default().display();
        let bytes = fs::read(&path)?;
        digest.update(&bytes);
        let mut encoder = GzEncoder::new(fs::File::create(out.join(format!("{name}.gz")))?, Compression::best());
        encoder.write_all(&bytes)?;
        encoder.finish()?;
    }
    println!("cargo::rustc-env=UI_VERSION={}", &hex::encode(digest.finalize())[..12]);
    Ok(())
}

fn discard_unwind_tables(out: &Path) -> io::Result<()> {
    let is = |key: &str, value: &str| env::var(key).is_ok_and(|found| found == value);
    // The release profile of Cargo.toml sets panic = "abort"; Cargo does not report the setting to build scripts.
    if !(is("PROFILE", "release") && is("CARGO_CFG_TARGET_OS", "linux")) {
        return Ok(());
    }
    let script = out.join("discard-unwind-tables.ld");
    fs::write(&script, DISCARD)?;
    println!("cargo::rustc-link-arg-bins=-Wl,-T,{}", script.display());
    // Functions with the same machine code are one. Rust's linker for this target is LLD, which can do that.
    if is("CARGO_CFG_TARGET_ARCH", "x86_64") {
        println!("cargo::rustc-link-arg-bins=-Wl,--icf=all");
    }
    Ok(())
}

/// Writes the OpenAPI document in compressed form: a twentieth of its size.
fn compress_openapi(to: &Path) -> io::Result<()> {
    println!("cargo::rerun-if-changed={OPENAPI}");
    let mut encoder = ZlibEncoder::new(fs::File::create(to)?, Compression::best());
    encoder.write_all(&fs::read(OPENAPI)?)?;
    encoder.finish()?;
    Ok(())
}
