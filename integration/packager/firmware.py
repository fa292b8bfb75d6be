"""The boot programs that firmware/stage staged, and the copyright file of their package."""

import re

from packager.licences import FORMAT
from packager.release import ROOT

# A row of firmware/README.md: files, use, package, licence, source packages.
ROW = re.compile(r"^\| (`[^|]*`) \| ([^|]*) \| ([^|]*) \| ([^|]*) \| ([^|]*) \|$")
COMMON = {"GPL-2+": "GPL-2", "GPL-3+": "GPL-3"}
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


def record(staged):
    """Returns package -> (version, suite) and file -> package, as the staging folder's manifest has them."""
    packages, origin, name = {}, {}, None
    for line in (staged / "manifest").read_text().splitlines():
        words = line.split()
        if words[:1] == ["package"]:
            name = words[3]
            packages[name] = (words[4], words[1])
        elif words[:1] == ["file"]:
            origin[words[1]] = name
    return packages, origin


def licence_rows():
    """Returns package -> (licence, source packages), from the table that people read."""
    rows = {}
    for line in (ROOT / "firmware/README.md").read_text().splitlines():
        if row := ROW.match(line):
            for package in row.group(3).split(", "):
                rows[package.strip()] = (row.group(4).strip(), row.group(5).strip())
    return rows


def copyright_file(staged):
    """Returns the machine-readable copyright file: each program with its licence, and where its source is."""
    packages, origin = record(staged)
    rows = licence_rows()
    texts = []
    paragraphs = [f"Format: {FORMAT}\nUpstream-Name: bootlatch-firmware\nComment:\n Programs of other projects, as Debian built them."
                  "\n The source of each is Debian's, of the version that is named: `apt-get source SOURCE=VERSION` with a deb-src line,"
                  "\n or https://snapshot.debian.org/source/SOURCE/\n .\n Parts of them have other licences, listed by the file copyright of the same Debian package."]
    for name, (version, suite) in packages.items():
        licence, sources = rows[name]
        own = sorted(file for file, package in origin.items() if package == name and (staged / file).exists())
        if not own:
            continue
        texts.append(licence)
        paragraphs.append("Files: " + "\n       ".join(f"usr/share/bootlatch/firmware/{file}" for file in own)
                          + f"\nCopyright: {HOLDERS[name]}\nLicense: {licence}\nComment: From Debian {suite}'s package {name} {version}; source: {sources}.")
    for licence in sorted(set(texts)):
        text = BSD_2 if licence not in COMMON else (
            f" GNU General Public License, version {licence[4]} or later.\n On Debian systems its text is in /usr/share/common-licenses/{COMMON[licence]};"
            f" elsewhere\n https://www.gnu.org/licenses/gpl-{licence[4]}.0.txt")
        paragraphs.append(f"License: {licence}\n{text}")
    return "\n\n".join(paragraphs) + "\n"
