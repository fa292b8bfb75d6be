"""Programs of each architecture, built by cargo: linked with the system's libraries, or static."""

import os
import shutil
import subprocess

from packager.release import ROOT
from packager.stage import TARGETS

# gcc of the architecture, whose package has the C library too.
LINKERS = {"arm64": "aarch64-linux-gnu-gcc", "armhf": "arm-linux-gnueabihf-gcc", "armel": "arm-linux-gnueabi-gcc"}


class Missing(Exception):
    """Something that the build needs is not installed."""


def target_folder():
    return ROOT / os.environ.get("CARGO_TARGET_DIR", "target")


def setting(architecture):
    """Returns the environment of cargo for an architecture: its linker, and a Rust that has its standard library."""
    if architecture == "amd64":
        return {}
    if not shutil.which(LINKERS[architecture]):
        raise Missing(f"{architecture}: no {LINKERS[architecture]}: apt-get install {LINKERS[architecture].replace('-gcc', '')} (package gcc-...)")
    triple = TARGETS[architecture]
    found = subprocess.run(["rustc", "--print", "target-libdir", "--target", triple], capture_output=True, text=True).stdout.strip()
    environment = {f"CARGO_TARGET_{triple.upper().replace('-', '_')}_LINKER": LINKERS[architecture]}
    if not (found and os.path.isdir(found)):
        rustc = subprocess.run([str(ROOT / "integration/setup/cross-rust"), architecture], capture_output=True, text=True)
        if rustc.returncode != 0:
            raise Missing(f"{architecture}: no Rust standard library: rustup target add {triple} ({rustc.stderr.strip()})")
        environment |= {"RUSTC": rustc.stdout.strip()}
    return environment


def program(architecture, static, profile="release", small=False):
    """Builds the program and returns its path. The static one is the other one's objects, linked again.

    `small` builds without link-time optimization, for machines that have an hour and not four.
    """
    where = ["--target", TARGETS[architecture]] if architecture != "amd64" else []
    environment = {**os.environ, **setting(architecture)}
    more = []
    if small:
        environment |= {"CARGO_PROFILE_RELEASE_LTO": "false", "CARGO_PROFILE_RELEASE_CODEGEN_UNITS": "16", "CARGO_PROFILE_RELEASE_OPT_LEVEL": "s"}
        more = ["--config", 'profile.release.package."*".opt-level="s"']
    last = []
    if static:
        # The flags are of the last step only: the C library is chosen there.
        last = ["--", "-C", "target-feature=+crt-static", "-C", f"linker={ROOT / 'integration/packager/static-linker'}"]
        environment["STATIC_LINKER"] = LINKERS.get(architecture, "cc")
    command = ["cargo", "rustc", "--locked", "--profile", profile, "--bin", "bootlatch", *where, *more, *last]
    subprocess.run(command, cwd=ROOT, env=environment, check=True)
    folder = target_folder() / (TARGETS[architecture] if where else "") / {"dev": "debug"}.get(profile, profile)
    if not static:
        return folder / "bootlatch"
    kept = folder / "bootlatch-static"
    shutil.copy2(folder / "bootlatch", kept)
    return kept
