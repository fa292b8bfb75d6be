"""RPM packages of the same trees, written by rpmbuild."""

import os
import shutil
import subprocess
import tempfile
from pathlib import Path

from packager import elf
from packager.deb import DESCRIPTION, FIRMWARE_DESCRIPTION, HOMEPAGE
from packager.stage import put

ARCHITECTURES = {"amd64": "x86_64", "arm64": "aarch64", "armhf": "armv7hl", "all": "noarch"}
# As %systemd_post and its kin do, which exist on the machine that builds only where systemd's macros are.
SCRIPTS = """
%post
systemd-sysusers bootlatch.conf >/dev/null 2>&1 || :
if [ -d /run/systemd/system ]; then /usr/lib/systemd/systemd-sysctl 50-bootlatch.conf >/dev/null 2>&1 || :; fi
if [ $1 -eq 1 ] && [ -d /run/systemd/system ]; then systemctl --no-reload preset bootlatch.service >/dev/null 2>&1 || :; fi
%preun
if [ $1 -eq 0 ] && [ -d /run/systemd/system ]; then systemctl --no-reload disable --now bootlatch.service >/dev/null 2>&1 || :; fi
%postun
if [ -d /run/systemd/system ]; then
  systemctl daemon-reload >/dev/null 2>&1 || :
  if [ $1 -ge 1 ]; then systemctl try-restart bootlatch.service >/dev/null 2>&1 || :; fi
fi
"""
SETTINGS = {"_buildhost": "localhost", "use_source_date_epoch_as_buildtime": "1", "clamp_mtime_to_source_date_epoch": "1",
            "_build_id_links": "none", "__os_install_post": "%{nil}", "debug_package": "%{nil}"}


def requires(binary):
    """Returns the Requires of a program, by its headers."""
    if (oldest := elf.glibc(binary)) is None:
        return ["systemd"]
    wide = "()(64bit)" if elf.architecture(binary) in ("amd64", "arm64") else ""
    # glibc's own names; DT_RELR has one of its own.
    symbols = ["GLIBC_2.34"] + (["GLIBC_ABI_DT_RELR"] if elf.readelf("-V", binary).find("GLIBC_ABI_DT_RELR") >= 0 else [])
    assert tuple(map(int, oldest.split("."))) >= (2, 34), oldest
    return ["systemd", *[f"libc.so.6({symbol}){wide and '(64bit)'}" for symbol in symbols], f"libgcc_s.so.1{wide}"]


def file_list(tree):
    """Returns the lines of %files: configuration is kept, licences and pages are marked."""
    for path in sorted(path for path in tree.rglob("*") if path.is_file()):
        name = f"/{path.relative_to(tree)}"
        if name.startswith("/etc/"):
            yield f"%config(noreplace) {name}"
        elif name.startswith("/usr/share/doc/"):
            yield f"{'%license' if 'LICENSE' in name or 'copyright' in name else '%doc'} {name}"
        else:
            yield name
    for folder in sorted(path for path in tree.rglob("*") if path.is_dir() and "bootlatch" in str(path.relative_to(tree))):
        yield f"%dir /{folder.relative_to(tree)}"


def rpm_version(release):
    """RPM orders ~ as Debian does."""
    return release.version.replace("-", "~")


def build(tree, out, package, architecture, release, binary=None, fast=False):
    """Writes one package; returns the file. `fast` packs with little compression, for tests."""
    with tempfile.TemporaryDirectory() as folder:
        copy = Path(folder) / "tree"
        shutil.copytree(tree, copy)
        # zsh's place elsewhere than on Debian.
        debian = copy / "usr/share/zsh/vendor-completions/_bootlatch"
        if debian.exists():
            put(copy, "usr/share/zsh/site-functions/_bootlatch", debian)
            shutil.rmtree(debian.parent)
        summary, _, description = (DESCRIPTION if binary else FIRMWARE_DESCRIPTION).partition("\n")
        head = {"Name": package, "Version": rpm_version(release), "Release": "1", "Summary": summary, "URL": HOMEPAGE,
                "License": "MIT OR Apache-2.0" if binary else "GPL-2.0-or-later AND GPL-3.0-or-later AND BSD-2-Clause",
                "BuildArch": None if binary else "noarch", "AutoReqProv": "no"}
        lines = [f"{name}: {value}" for name, value in head.items() if value]
        lines += [f"Requires: {need}" for need in (requires(binary) if binary else [])] + (["Recommends: bootlatch-firmware"] if binary else [])
        lines += ["%description", *[line.strip() for line in description.splitlines()], SCRIPTS if binary else "", "%files", *file_list(copy)]
        spec = Path(folder) / f"{package}.spec"
        spec.write_text("\n".join(lines) + "\n")
        settings = [word for name, value in {**SETTINGS, "_binary_payload": f"w{1 if fast else 19}.zstdio"}.items() for word in ("--define", f"{name} {value}")]
        command = ["rpmbuild", "-bb", "--noclean", "--nodeps", "--target", f"{ARCHITECTURES[architecture]}-linux", "--buildroot", str(copy),
                   "--define", f"_topdir {folder}/top", *settings, str(spec)]
        done = subprocess.run(command, capture_output=True, text=True, env={**os.environ, "SOURCE_DATE_EPOCH": str(release.epoch)})
        if done.returncode != 0:
            raise RuntimeError(f"rpmbuild: {done.stdout[-2000:]}{done.stderr[-2000:]}")
        made = next(Path(folder, "top/RPMS").rglob("*.rpm"))
        return Path(shutil.copy(made, out / made.name))
