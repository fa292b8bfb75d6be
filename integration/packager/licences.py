"""The licences of what is linked into the program, as Debian's machine-readable copyright file (DEP-5)."""

import json
import re
import subprocess
from pathlib import Path

FORMAT = "https://www.debian.org/doc/packaging-manuals/copyright-format/1.0/"
# Of a choice between licences the first of these is taken.
PREFERRED = ["MIT", "BSD-2-Clause", "BSD-3-Clause", "ISC", "Zlib", "0BSD", "Unicode-3.0", "Apache-2.0", "MPL-2.0", "Unlicense"]
NAMES = {"BSD-2-Clause": "BSD-2-clause", "BSD-3-Clause": "BSD-3-clause", "MIT": "Expat"}  # SPDX -> Debian
LICENCE_FILES = re.compile(r"^(licen[cs]e|copying|notice|copyright|unlicense)", re.I)
COPYRIGHT = re.compile(r"^\W*(copyright\b(?! (notice|holder|owner|license|and|in|or|\[)).*|\(c\).*|©.*)$", re.I)
# What tells the licence of a file in which it is not named.
MARKS = {
    "MIT": "permission is hereby granted, free of charge, to any person obtaining a copy of this software and associated documentation files",
    "ISC": "permission to use, copy, modify, and/or distribute this software for any purpose with or without fee is hereby granted, provided",
    "Apache-2.0": "apache license version 2.0, january 2004",
    "BSD-3-Clause": "neither the name",
    "BSD-2-Clause": "redistributions in binary form must reproduce",
    "Zlib": "altered source versions must be plainly marked as such",
    "Unicode-3.0": "unicode license v3",
    "MPL-2.0": "mozilla public license version 2.0",
    "Unlicense": "free and unencumbered software released into the public domain",
}
ON_DEBIAN = {name: f" On Debian systems its text is in /usr/share/common-licenses/{name}." for name in ("Apache-2.0", "MPL-2.0")}


def linked_crates(root, target, package="bootlatch"):
    """Returns the crates whose code is in the program: no build scripts, no procedural macros, no tests."""
    command = ["cargo", "metadata", "--locked", "--format-version", "1", "--filter-platform", target]
    metadata = json.loads(subprocess.run(command, cwd=root, capture_output=True, text=True, check=True).stdout)
    crates = {crate["id"]: crate for crate in metadata["packages"]}
    links = {node["id"]: node["deps"] for node in metadata["resolve"]["nodes"]}
    wanted = [crate["id"] for crate in metadata["packages"] if crate["name"] == package]
    own, found = wanted[0], {}
    while wanted:
        name = wanted.pop()
        if name in found or any("proc-macro" in made["kind"] for made in crates[name]["targets"]):
            continue
        found[name] = crates[name]
        wanted += [link["pkg"] for link in links[name] if any(kind["kind"] is None for kind in link["dep_kinds"])]
    del found[own]
    return sorted(found.values(), key=lambda crate: (crate["name"], crate["version"]))


def chosen(expression):
    """Returns the licences of an SPDX expression that hold: all of an AND, the preferred one of an OR."""
    tokens = re.findall(r"[()]|[^\s()]+", expression.replace("/", " OR "))

    def parse_or():
        options = [parse_and()]
        while tokens and tokens[0] == "OR":
            tokens.pop(0)
            options.append(parse_and())
        return min(options, key=lambda names: max(rank(name) for name in names))

    def parse_and():
        names = parse_one()
        while tokens and tokens[0] == "AND":
            tokens.pop(0)
            names = names + [name for name in parse_one() if name not in names]
        return names

    def parse_one():
        token = tokens.pop(0)
        if token == "(":
            names = parse_or()
            tokens.pop(0)
            return names
        if tokens and tokens[0] == "WITH":
            tokens.pop(0)
            return [f"{token} with {tokens.pop(0)}"]
        return [token.removesuffix("+")]

    return parse_or()


def rank(name):
    return PREFERRED.index(name) if name in PREFERRED else len(PREFERRED)


def squeezed(text):
    """Returns a text in which only its words count, without its copyright lines and title."""
    lines = [line for line in text.splitlines() if not COPYRIGHT.match(line.strip())]
    return re.sub(r"[^a-z0-9.,/]+", " ", " ".join(lines).lower()).strip()


def kind_of(text):
    """Returns the licence that a file has, or None."""
    words = re.sub(r"\s+", " ", re.sub(r"[\"“”*#]", "", text.lower()))
    named = [name for name, mark in MARKS.items() if mark in words]
    return min(named, key=list(MARKS).index) if named else None


def files_of(crate):
    """Returns the text of each licence file of a crate, by name."""
    folder = Path(crate["manifest_path"]).parent
    names = sorted(path for path in folder.iterdir() if path.is_file() and LICENCE_FILES.match(path.name))
    return {path.name: path.read_text(errors="replace").replace("\r", "") for path in names}


def without_apache(text):
    """Replaces the whole Apache licence within a text by its name, as Debian asks."""
    return re.sub(r"^\s*Apache License\s+Version 2\.0.*?END OF TERMS AND CONDITIONS", "The Apache License, version 2.0: see /usr/share/common-licenses/Apache-2.0", text,
                  flags=re.S | re.M)


def field(text):
    """Writes lines as a field's continuation."""
    return "\n".join(f" {line.strip()}" if line.strip() else " ." for line in text.strip().splitlines())


class Texts:
    """The licence texts, each once: two with the same words share a name."""

    def __init__(self):
        self.by_name, self.names = {}, {}

    def add(self, licence, text):
        """Returns the name that the text goes by."""
        base = NAMES.get(licence, licence.replace(" ", "-"))
        if licence in ON_DEBIAN:
            self.by_name.setdefault(base, ON_DEBIAN[licence])
            return base
        words = squeezed(text)
        body = words[words.find(MARKS.get(licence, "")[:24]):] if licence in MARKS else words
        if (base, body) not in self.names:
            taken = sum(1 for name, _ in self.names if name == base)
            name = base if not taken else f"{base}-{taken + 1}"
            self.names[base, body] = name
            kept = "\n".join(line for line in without_apache(text).splitlines() if not COPYRIGHT.match(line.strip()))
            self.by_name[name] = field(kept)
        return self.names[base, body]

    def paragraphs(self):
        return [f"License: {name}\n{text}" for name, text in sorted(self.by_name.items())]


def holders(crate, files):
    """Returns the lines that say who has the copyright."""
    lines = []
    for text in files.values():
        for line in text.splitlines():
            line = re.sub(r"^[\W_]*(?=copyright|\(c\)|©)", "", line.strip(), flags=re.I)
            filled = not re.search(r"yyyy|fsf|^\(c\) you\b", line, re.I)
            if COPYRIGHT.match(line) and filled and line not in lines:
                lines.append(line)
    source = crate["repository"] or f"https://crates.io/crates/{crate['name']}"
    return lines or [", ".join(crate["authors"]) or f"the authors of {crate['name']}, {source}"]


def crate_paragraph(crate, texts, standard):
    """Returns the paragraph of one crate; its texts are added to those of all."""
    files = files_of(crate)
    kinds = {name: kind_of(text) for name, text in files.items()}
    names = []
    for licence in chosen(crate["license"] or ""):
        own = [text for name, text in files.items() if kinds[name] == licence.split(" with ")[0]]
        names += [texts.add(licence, text) for text in own or [standard[licence]]]
    # A second file of the same licence, or of one that the expression does not name: of parts that came from elsewhere.
    names += [texts.add("other", text) for name, text in files.items() if re.search(r"other|third|boring", name, re.I)]
    names = list(dict.fromkeys(names))
    return "\n".join([
        f"Files: {crate['name']}-{crate['version']}/*",
        "Copyright: " + "\n           ".join(holders(crate, files)),
        f"License: {' and '.join(names)}",
    ])


def rust_copyright(root, target, static):
    """Returns the copyright file of the program: bootlatch, the crates, Rust's library, SQLite, and glibc if it is linked in."""
    texts = Texts()
    crates = linked_crates(root, target)
    standard = standard_texts(root, crates)
    paragraphs = [
        f"Format: {FORMAT}\nUpstream-Name: bootlatch\n"
        "Comment:\n The program is one file. The paragraphs below name the crates that are linked into it (CRATE-VERSION/*), from\n"
        " the registry crates.io. Of a choice between licences the one that is named here was taken.",
        "Files: *\nCopyright: 2026 the bootlatch authors\nLicense: Expat or Apache-2.0",
    ]
    texts.add("MIT", standard["MIT"])
    texts.add("Apache-2.0", "")
    paragraphs += [crate_paragraph(crate, texts, standard) for crate in crates]
    paragraphs.append("Files: libsqlite3-sys/sqlite3/*\nCopyright: none: its authors dedicated SQLite to the public domain\n"
                      "License: public-domain\n The author disclaims copyright to this source code.")
    paragraphs.append("Files: rust/library/*\nCopyright: The Rust Project Developers (see https://thanks.rust-lang.org)\nLicense: Expat or Apache-2.0")
    if static:
        paragraphs.append("Files: glibc/*\nCopyright: 1991-2026 Free Software Foundation, Inc.\nLicense: LGPL-2.1+\n"
                          " The GNU C Library is linked in. bootlatch's own sources, and Debian's source package glibc, are what a\n"
                          " program with another version of the library is linked from. On Debian systems the text of the licence is\n"
                          " in /usr/share/common-licenses/LGPL-2.1; elsewhere https://www.gnu.org/licenses/lgpl-2.1.html")
    return "\n\n".join(paragraphs + texts.paragraphs()) + "\n"


def standard_texts(root, crates):
    """Returns a text for each licence, for the crates that come without one."""
    found = {"MIT": (root / "LICENSE-MIT").read_text(), "Apache-2.0": ""}
    for crate in crates:
        for text in files_of(crate).values():
            found.setdefault(kind_of(text), text)
    return found
