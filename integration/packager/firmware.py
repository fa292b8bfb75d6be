"""The boot programs that firmware/stage staged, and the copyright file of their package."""

import hashlib
import subprocess

from packager.licences import FORMAT
from packager.release import ROOT

# SPDX -> the names of Debian's copyright files.
NAMES = {"GPL-2.0-or-later": "GPL-2+", "GPL-3.0-or-later": "GPL-3+", "BSD-2-Clause": "BSD-2-clause"}
BSD_2 = """ Redistribution and use in source and binary forms, with or without modification, are permitted provided that the
 following conditions are met: redistributions of source code must retain the copyright notice, this list of conditions
 and the following disclaimer; redistributions in binary form must reproduce them in the documentation and/or other
 materials provided with the distribution.
 .
 THIS SOFTWARE IS PROVIDED BY THE COPYRIGHT HOLDERS AND CONTRIBUTORS "AS IS" AND ANY EXPRESS OR IMPLIED WARRANTIES,
 INCLUDING, BUT NOT LIMITED TO, THE IMPLIED WARRANTIES OF MERCHANTABILITY AND FITNESS FOR A PARTICULAR PURPOSE ARE
 DISCLAIMED. IN NO EVENT SHALL THE COPYRIGHT HOLDER OR CONTRIBUTORS BE LIABLE FOR ANY DIRECT, INDIRECT, INCIDENTAL,
 SPECIAL, EXEMPLARY, OR CONSEQUENTIAL DAMAGES (INCLUDING, BUT NOT LIMITED TO, PROCUREMENT OF SUBSTITUTE GOODS OR
 SERVICES; LOSS OF USE, DATA, OR PROFITS; OR BUSINESS INTERRUPTION) HOWEVER CAUSED AND ON ANY THEORY OF LIABILITY,
 WHETHER IN CONTRACT, STRICT LIABILITY, OR TORT (INCLUDING NEGLIGENCE OR OTHERWISE) ARISING IN ANY WAY OUT OF THE USE
 OF THIS SOFTWARE, EVEN IF ADVISED OF THE POSSIBILITY OF SUCH DAMAGE."""
HOLDERS = {
    "ipxe": "2006-2025 Michael Brown and the other authors of iPXE",
    "pxelinux": "1994-2019 H. Peter Anvin and the other authors of Syslinux",
    "syslinux-common": "1994-2019 H. Peter Anvin and the other authors of Syslinux",
    "syslinux-efi": "1994-2019 H. Peter Anvin and the other authors of Syslinux",
    "shim-signed": "2012-2025 Red Hat, Inc. and the other authors of shim",
    "grub-efi-amd64-signed": "1999-2025 Free Software Foundation, Inc.",
}


def files(staged):
    """Returns every file of the staging folder: programs, the record of their versions, licences."""
    return sorted(path for path in staged.rglob("*") if path.is_file() and not path.name.startswith("."))


def lists_of_licences(staged):
    """Returns the folder with the licences and sources of what is staged. It is fetched once for each record of versions."""
    key = hashlib.sha256((staged / "manifest").read_bytes()).hexdigest()[:12]
    folder = ROOT / f"integration/.cache/firmware-licences-{key}"
    # SOURCES is written last.
    if not (folder / "SOURCES").exists():
        subprocess.run([str(ROOT / "firmware/stage"), "--licences", str(folder), str(staged)], check=True, stdout=subprocess.DEVNULL)
    return sorted(folder.iterdir())


def record(staged):
    """Returns package -> (version, suite, files) of what is staged, as its manifest has it."""
    packages, name = {}, None
    for line in (staged / "manifest").read_text().splitlines():
        words = line.split()
        if words[:1] == ["package"]:
            name = words[3]
            packages[name] = (words[4], words[1], [])
        elif words[:1] == ["file"]:
            packages[name][2].append(words[1])
    return packages


def licences():
    """Returns package -> licence, as firmware/manifest names it."""
    found, name = {}, None
    for line in (ROOT / "firmware/manifest").read_text().splitlines():
        words = line.split()
        if words[:1] == ["package"]:
            name = words[3]
        elif words[:1] == ["licence"]:
            found[name] = words[1]
    return found


def copyright_file(staged):
    """Returns the machine-readable copyright file: each program with its licence. SOURCES says where its source is."""
    named = licences()
    paragraphs = [f"Format: {FORMAT}\nUpstream-Name: bootlatch-firmware\nComment:\n Programs of other projects, as Debian built them. SOURCES, next to this file, names the"
                  "\n source package of each with its version, and where it is. The files *.copyright are Debian's own lists"
                  "\n of all licences of each package."]
    for name, (version, suite, files) in record(staged).items():
        own = "\n       ".join(f"usr/share/bootlatch/firmware/{file}" for file in sorted(files))
        paragraphs.append(f"Files: {own}\nCopyright: {HOLDERS[name]}\nLicense: {NAMES[named[name]]}\nComment: From Debian {suite}'s package {name} {version}.")
    for name in sorted({NAMES[named[package]] for package in record(staged)}):
        text = BSD_2 if not name.startswith("GPL") else (
            f" GNU General Public License, version {name[4]} or later.\n On Debian systems its text is in /usr/share/common-licenses/{name[:-1]}; elsewhere"
            f"\n https://www.gnu.org/licenses/gpl-{name[4]}.0.txt")
        paragraphs.append(f"License: {name}\n{text}")
    return "\n\n".join(paragraphs) + "\n"
