"""What is in the packages for Debian, and that the same input gives the same bytes."""

import hashlib
import re
import subprocess

import pytest

from lab.process import tool
from support.packages import EPOCH, debs
from support.programs import ROOT, bootlatch

# The bytes of /etc/bootlatch/bootlatch.toml. dpkg and rpm ask each site that edited the file about every change of it.
SHIPPED_CONFIGURATION = "54467167295b7ba705f2fc1a3d2e0974b5f38ba3844b03821b18951ce39fa9fe"


def digest(path):
    return hashlib.sha256(path.read_bytes()).hexdigest()


def run(*command):
    done = subprocess.run([str(word) for word in command], capture_output=True, text=True)
    assert done.returncode == 0, f"{command}: {done.stdout}{done.stderr}"
    return done.stdout


@pytest.fixture(scope="module")
def unpacked(versions, tmp_path_factory):
    """The folders of both packages."""
    folders = []
    for path in versions["0.1.0"]:
        folders.append(tmp_path_factory.mktemp("unpacked"))
        run("dpkg-deb", "-R", path, folders[-1])
    return folders


def test_two_builds_have_the_same_bytes(versions, tmp_path):
    again = debs(tmp_path, "0.1.0")
    assert [digest(path) for path in again] == [digest(path) for path in versions["0.1.0"]]
    assert again[0].name == "bootlatch_0.1.0-1_amd64.deb" and again[1].name == "bootlatch-firmware_0.1.0-1_all.deb"


def test_lintian_finds_no_error(versions):
    found = subprocess.run([tool("lintian"), "--allow-root", "--fail-on", "error", *map(str, versions["0.1.0"])], capture_output=True, text=True)
    assert found.returncode == 0 and "E: " not in found.stdout, found.stdout + found.stderr
    # An override that matches nothing hides that the reason for it is gone.
    assert "mismatched-override" not in found.stdout, found.stdout


def test_the_program_comes_with_all_that_belongs_to_it(unpacked):
    tree = unpacked[0]
    for name in ("usr/bin/bootlatch", "usr/lib/systemd/system/bootlatch.service", "usr/lib/sysusers.d/bootlatch.conf", "usr/lib/sysctl.d/50-bootlatch.conf",
                 "usr/share/bash-completion/completions/bootlatch", "usr/share/zsh/vendor-completions/_bootlatch",
                 "usr/share/fish/vendor_completions.d/bootlatch.fish", "usr/share/man/man1/bootlatch-serve.1.gz",
                 "usr/share/man/man5/bootlatch.toml.5.gz", "usr/share/doc/bootlatch/README.md",
                 "usr/share/doc/bootlatch/docs/guides/upgrade.md"):
        assert (tree / name).stat().st_size > 0, name
    assert (tree / "etc/bootlatch/conf.d").is_dir()
    example = (tree / "usr/share/doc/bootlatch/examples/bootlatch.toml").read_text()
    assert example == (ROOT / "config/bootlatch.toml").read_text()
    pages = [path.name[:-len(".1.gz")] for path in (tree / "usr/share/man/man1").iterdir()]
    assert {"bootlatch", "bootlatch-host-assign", "bootlatch-iso-add", "bootlatch-doctor"} <= set(pages)
    control = (tree / "DEBIAN/control").read_text()
    assert "Depends: libc6 (>= 2.36), libgcc-s1" in control and "Recommends: bootlatch-firmware" in control
    assert all(int(path.stat().st_mtime) == EPOCH for path in tree.rglob("*") if path.is_file() and "DEBIAN" not in path.parts)


def test_licences_and_changelogs_are_there(unpacked):
    program, firmware = unpacked
    doc = program / "usr/share/doc/bootlatch"
    for name in ("LICENSE-MIT", "LICENSE-APACHE"):
        assert (doc / name).read_bytes() == (ROOT / name).read_bytes()
    assert "## [Unreleased]" in run("zcat", doc / "changelog.gz")
    assert re.match(r"bootlatch \(0\.1\.0-1\) ", run("zcat", doc / "changelog.Debian.gz"))
    assert "Format: https://www.debian.org/doc/packaging-manuals/copyright-format/1.0/" in (firmware / "usr/share/doc/bootlatch-firmware/copyright").read_text()


def paragraphs(path):
    """Returns the paragraphs of a DEP-5 file, each as a dictionary."""
    found = []
    for block in path.read_text().split("\n\n"):
        fields = re.split(r"^(?=[A-Z][A-Za-z-]*:)", block, flags=re.M)
        found.append({name: value.strip() for name, _, value in (field.partition(":") for field in fields if field.strip())})
    return found


def test_the_copyright_file_names_every_crate_that_is_linked(unpacked):
    found = paragraphs(unpacked[0] / "usr/share/doc/bootlatch/copyright")
    named = " ".join(entry.get("Files", "") for entry in found)
    linked = run("cargo", "tree", "--locked", "--manifest-path", ROOT / "Cargo.toml", "--package", "bootlatch", "--edges", "normal,no-proc-macro",
                 "--target", "x86_64-unknown-linux-gnu", "--prefix", "none", "--format", "{p}")
    crates = {tuple(line.split()[:2]) for line in linked.splitlines() if line.strip()} - {("bootlatch", "v0.1.0")}
    assert len(crates) > 150
    missing = [name for name, version in crates if f"{name}-{version[1:]}/*" not in named]
    assert not missing, missing
    texts = {entry["License"].split("\n")[0] for entry in found if "Files" not in entry and "License" in entry}
    for entry in found:
        if "Files" in entry:
            wanted = re.split(r" and | or ", entry["License"].split("\n")[0])
            assert entry["Copyright"] and (set(wanted) <= texts or "\n" in entry["License"]), entry


def test_each_boot_program_has_its_licence_and_its_source(unpacked):
    folder = unpacked[1] / "usr/share/bootlatch/firmware"
    doc = unpacked[1] / "usr/share/doc/bootlatch-firmware"
    found, sources = paragraphs(doc / "copyright"), (doc / "SOURCES").read_text()
    named = {name.strip(): entry for entry in found for name in entry.get("Files", "").split("\n")}
    programs = [path for path in folder.rglob("*") if path.suffix in (".efi", ".kpxe", ".0", ".c32", ".e64")]
    assert len(programs) == 10
    for path in programs:
        entry = named[f"usr/share/bootlatch/firmware/{path.relative_to(folder)}"]
        package = re.search(r"package (\S+) ", entry["Comment"]).group(1)
        assert entry["License"] and (doc / f"{package}.copyright").stat().st_size > 1000, entry
        assert re.search(rf"^{re.escape(path.name)}: .*\n +source: \S+ \S+, https://", sources, re.M), path
    # The digests of the staging folder hold in the package.
    run("sh", "-c", f"cd {folder} && awk '$1 == \"file\" {{ print $4 \"  \" $2 }}' manifest | sha256sum -c")


def test_the_page_of_the_configuration_has_every_key(unpacked):
    page = unpacked[0] / "usr/share/man/man5/bootlatch.toml.5.gz"
    text = run("env", "MANWIDTH=200", "man", "--warnings", "-l", page)
    keys = re.findall(r"^(?:#: )?(\w+) = ", (ROOT / "config/bootlatch.toml").read_text(), re.M)
    assert len(keys) > 80
    shown = re.findall(r"^ {7}(\w+) = ", text, re.M)  # at the indentation of an entry
    assert sorted(shown) == sorted(keys)
    warnings = subprocess.run(["man", "--warnings", "-l", str(page)], capture_output=True, text=True).stderr
    assert warnings == "", warnings


def test_the_shipped_configuration_never_changes(unpacked):
    text = (unpacked[0] / "etc/bootlatch/bootlatch.toml").read_text()
    assert len(text.splitlines()) == 5 and all(line.startswith("#") for line in text.splitlines())
    assert digest(unpacked[0] / "etc/bootlatch/bootlatch.toml") == SHIPPED_CONFIGURATION
    assert (unpacked[0] / "DEBIAN/conffiles").read_text() == "/etc/bootlatch/bootlatch.toml\n"


def test_wrong_options_are_named(tmp_path):
    for words, said in ((["snap"], "no kind snap"), (["deb", "--binary", "amd64=/nothing"], "ARCH=FILE"), (["deb", "--binary", f"z80={bootlatch()}"], "ARCH=FILE")):
        done = subprocess.run([str(ROOT / "integration/package"), *words, "--out", str(tmp_path)], capture_output=True, text=True)
        assert done.returncode == 2 and said in done.stderr, done.stderr
    assert not list(tmp_path.iterdir())


def test_firmware_that_is_not_whole_is_refused(tmp_path):
    done = subprocess.run([str(ROOT / "integration/package"), "deb", "--binary", f"amd64={bootlatch()}", "--firmware", str(tmp_path), "--out", str(tmp_path / "out"),
                           "--fast"], capture_output=True, text=True)
    assert done.returncode == 1 and "undionly.kpxe" in done.stderr, done.stderr
