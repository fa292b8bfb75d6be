"""The trees of files that the packages are made of. All formats are written from the same trees."""

import gzip
import os
import shutil
import subprocess
import tempfile
from pathlib import Path

from packager import elf, firmware, licences, manpage
from packager.release import ROOT

COMPLETIONS = {
    "bash": "usr/share/bash-completion/completions/bootlatch",
    "zsh": "usr/share/zsh/vendor-completions/_bootlatch",
    "fish": "usr/share/fish/vendor_completions.d/bootlatch.fish",
}
DOC = "usr/share/doc/bootlatch"
TARGETS = {"amd64": "x86_64-unknown-linux-gnu", "arm64": "aarch64-unknown-linux-gnu",
           "armhf": "armv7-unknown-linux-gnueabihf", "armel": "armv5te-unknown-linux-gnueabi"}


def put(tree, path, content, mode=0o644):
    """Writes a file of a tree: a text, bytes, or the copy of a file."""
    target = tree / path
    target.parent.mkdir(parents=True, exist_ok=True)
    if isinstance(content, Path):
        shutil.copyfile(content, target)
    else:
        target.write_bytes(content.encode() if isinstance(content, str) else content)
    target.chmod(mode)


def compressed(content):
    return gzip.compress(content.encode() if isinstance(content, str) else content, 9, mtime=0)


def man_pages(program, release):
    """Returns the man pages by name: one of each command, and bootlatch.toml(5)."""
    with tempfile.TemporaryDirectory() as folder:
        subprocess.run([program, "man", folder], check=True)
        pages = {path.name: path.read_text() for path in Path(folder).iterdir()}
    pages["bootlatch.toml.5"] = manpage.page((ROOT / "config/bootlatch.toml").read_text(), release.version, release.day())
    return pages


def stripped(binary, architecture):
    """Returns the bytes of a program without symbols."""
    if not elf.has_symbols(binary):
        return binary.read_bytes()
    prefix = {"arm64": "aarch64-linux-gnu-", "armhf": "arm-linux-gnueabihf-", "armel": "arm-linux-gnueabi-"}.get(architecture, "")
    with tempfile.TemporaryDirectory() as folder:
        copy = Path(folder) / "program"
        subprocess.run([f"{prefix}strip", "--strip-all", "-o", str(copy), str(binary)], check=True)
        return copy.read_bytes()


def stage_bootlatch(tree, binary, architecture, native, release, static=False):
    """Fills a tree with the program and all that belongs to it. `native` is a program of the same source that runs here."""
    put(tree, "usr/bin/bootlatch", stripped(binary, architecture), 0o755)
    put(tree, "usr/lib/systemd/system/bootlatch.service", ROOT / "systemd/bootlatch.service")
    put(tree, "usr/lib/sysusers.d/bootlatch.conf", ROOT / "systemd/bootlatch.sysusers")
    put(tree, "usr/lib/sysctl.d/50-bootlatch.conf", ROOT / "systemd/bootlatch.sysctl")
    put(tree, "etc/bootlatch/bootlatch.toml", ROOT / "packaging/bootlatch.toml")
    (tree / "etc/bootlatch/conf.d").mkdir()
    for name, text in man_pages(native, release).items():
        put(tree, f"usr/share/man/man{name[-1]}/{name}.gz", compressed(text))
    for shell, path in COMPLETIONS.items():
        put(tree, path, subprocess.run([native, "completions", shell], check=True, capture_output=True).stdout)
    stage_documents(tree)
    put(tree, f"{DOC}/copyright", licences.rust_copyright(ROOT, TARGETS[architecture], static))
    settle(tree, release.epoch)


def stage_documents(tree):
    """Puts README, guides, changelog, licence and examples into the tree."""
    put(tree, f"{DOC}/README.md", ROOT / "README.md")
    for name in ("LICENSE-MIT", "LICENSE-APACHE", "SECURITY.md"):
        put(tree, f"{DOC}/{name}", ROOT / name)
    put(tree, f"{DOC}/changelog.gz", compressed((ROOT / "CHANGELOG.md").read_text()))
    for name in ("bootlatch.toml", "grafana-dashboard.json", "prometheus-rules.yaml"):
        put(tree, f"{DOC}/examples/{name}", ROOT / "config" / name)
    for path in sorted((ROOT / "docs").rglob("*.md")):
        put(tree, f"{DOC}/{path.relative_to(ROOT)}", path)


def stage_firmware(tree, staged, release):
    """Fills a tree with the boot programs that firmware/stage put into a folder, their digests and their licences."""
    for path in firmware.files(staged):
        put(tree, f"usr/share/bootlatch/firmware/{path.relative_to(staged)}", path)
    stage_firmware_documents(tree, staged)
    put(tree, "usr/share/doc/bootlatch-firmware/README.md", ROOT / "firmware/README.md")
    settle(tree, release.epoch)


def stage_firmware_documents(tree, staged):
    """Puts the licences of the boot programs, and where their sources are, into the tree."""
    put(tree, "usr/share/doc/bootlatch-firmware/copyright", firmware.copyright_file(staged))
    for path in firmware.lists_of_licences(staged):
        put(tree, f"usr/share/doc/bootlatch-firmware/{path.name}", path)


def settle(tree, epoch):
    """Gives every file and folder the same time, and folders their mode."""
    for folder, _, names in os.walk(tree, topdown=False):
        os.chmod(folder, 0o755)
        for name in names:
            os.utime(Path(folder, name), (epoch, epoch), follow_symlinks=False)
        os.utime(folder, (epoch, epoch))
