"""firmware/stage against a small signed Debian archive on the local disk, read by the real apt. Needs no network.

    python3 -m pytest integration/tests/firmware
"""

import hashlib
import os
import platform
import shutil
import subprocess
import tempfile
from email.utils import formatdate
from pathlib import Path

import pytest

FIRMWARE = Path(__file__).resolve().parents[3] / "firmware"
SUITE = "trixie"
ARCHITECTURES = ("amd64", "arm64")
NOBODY = 65534
# Port 1 of loopback: a connection is refused at once, as on a machine without a route to the archive.
UNREACHABLE = "http://127.0.0.1:1/debian"


def digest(content):
    return hashlib.sha256(content).hexdigest()


def run(*command, **options):
    return subprocess.run([str(word) for word in command], check=True, capture_output=True, **options).stdout


class Key:
    """An OpenPGP key that signs an archive, and the keyring that verifies it."""

    def __init__(self, place):
        self.home = place
        place.mkdir(mode=0o700)
        self.gpg("--quick-generate-key", "archive@example.org", "ed25519", "sign", "never")

    def gpg(self, *words, **options):
        return run("gpg", "--homedir", self.home, "--batch", "--quiet", "--pinentry-mode", "loopback", "--passphrase", "",
                   *words, **options)

    def close(self):
        subprocess.run(["gpgconf", "--homedir", self.home, "--kill", "gpg-agent"], check=True)


class Archive:
    """A Debian archive in a directory: packages that dpkg-deb built, package lists, and a signed InRelease file."""

    def __init__(self, root, key):
        self.root, self.key = root, key
        self.stanzas = {}
        self.keyring = root / "keyring.gpg"
        (root / "pool").mkdir(parents=True)
        self.keyring.write_bytes(key.gpg("--export"))

    @property
    def uri(self):
        return f"file:{self.root}"

    def add(self, name, version, files, architecture="amd64", control=""):
        """Builds a package, adds it to the lists of its architecture, and returns its file."""
        tree = self.root / "build"
        for path, content in files.items():
            (tree / path).parent.mkdir(parents=True, exist_ok=True)
            (tree / path).write_bytes(content)
        (tree / "DEBIAN").mkdir(parents=True)
        (tree / "DEBIAN/control").write_text(
            f"Package: {name}\nVersion: {version}\nArchitecture: {architecture}\n"
            f"Maintainer: Test <test@example.org>\nDescription: test package\n{control}")
        deb = self.root / f"pool/{name}_{version.split(':')[-1]}_{architecture}.deb"
        run("dpkg-deb", "--root-owner-group", "-b", tree, deb)
        shutil.rmtree(tree)
        control = run("dpkg-deb", "-f", deb).decode()
        stanza = (f"{control}Filename: pool/{deb.name}\nSize: {deb.stat().st_size}\n"
                  f"SHA256: {digest(deb.read_bytes())}\n\n")
        lists = ARCHITECTURES if architecture == "all" else (architecture,)
        for each in lists:
            self.stanzas.setdefault((name, version), {})[each] = stanza
        return deb

    def remove(self, name, version):
        del self.stanzas[name, version]

    def publish(self, key=None):
        """Writes the package lists, and the InRelease file signed by the archive's key or another one."""
        suite = self.root / "dists" / SUITE
        sums = []
        for architecture in ARCHITECTURES:
            path = f"main/binary-{architecture}/Packages"
            content = "".join(by.get(architecture, "") for by in self.stanzas.values()).encode()
            (suite / path).parent.mkdir(parents=True, exist_ok=True)
            (suite / path).write_bytes(content)
            sums.append(f" {digest(content)} {len(content)} {path}\n")
        release = (f"Suite: {SUITE}\nCodename: {SUITE}\nArchitectures: {' '.join(ARCHITECTURES)}\nComponents: main\n"
                   f"Date: {formatdate(usegmt=True)}\nSHA256:\n{''.join(sums)}")
        signed = (key or self.key).gpg("--clearsign", "--digest-algo", "SHA512", input=release.encode())
        (suite / "InRelease").write_bytes(signed)


class Stage:
    """A copy of firmware/stage with a manifest of its own, and the directory that it stages into."""

    def __init__(self, place, archive):
        self.archive = archive
        self.firmware, self.directory = place / "firmware", place / "staged"
        self.firmware.mkdir()
        for name in ("stage", "debian-suite.sh"):
            shutil.copy(FIRMWARE / name, self.firmware)
        self.manifest, self.record = self.firmware / "manifest", self.directory / "manifest"
        self.manifest.write_text("")

    def pin(self, name, version, files, package_sum, architecture="amd64"):
        """Adds a package to the manifest. `files` maps the staged name to the path and the expected content."""
        lines = [f"package {SUITE} {architecture} {name} {version} {package_sum}"]
        lines += [f"file {staged} {path} {digest(content)}" for staged, (path, content) in files.items()]
        self.manifest.write_text(self.manifest.read_text() + "".join(f"{line}\n" for line in lines))

    def __call__(self, *options, archive=None, status=0, **process):
        """Runs the script, expects the exit status, and returns all that it printed. "" is the machine's own archive."""
        uri = self.archive.uri if archive is None else archive
        command = [self.firmware / "stage", *(["--archive", uri] if uri else []), "--keyring", self.archive.keyring,
                   *options, self.directory]
        done = subprocess.run([str(word) for word in command], stdout=subprocess.PIPE, stderr=subprocess.STDOUT,
                              text=True, timeout=120, **process)
        assert done.returncode == status, done.stdout
        return done.stdout

    def staged(self, name):
        return (self.directory / name).read_bytes()

    def recorded(self):
        return [line for line in self.record.read_text().splitlines() if not line.startswith("#")]


@pytest.fixture(scope="module")
def keys():
    """The archive's key, and another one that the archive's keyring does not have."""
    # The path must be short: it holds the socket of gpg-agent.
    with tempfile.TemporaryDirectory(prefix="keys-", dir="/tmp") as place:
        both = Key(Path(place) / "archive"), Key(Path(place) / "other")
        yield both
        for key in both:
            key.close()


@pytest.fixture
def shared_folder():
    """A directory that every user can read: apt may run as another user than the test."""
    with tempfile.TemporaryDirectory(prefix="bootlatch-stage-", dir="/var/tmp") as place:
        os.chmod(place, 0o755)
        yield Path(place)


@pytest.fixture
def archive(shared_folder, keys):
    return Archive(shared_folder / "archive", keys[0])


@pytest.fixture
def stage(shared_folder, archive):
    return Stage(shared_folder, archive)


OLD, NEW = b"boot program, old", b"boot program, new"
PATH = "usr/lib/grub/grubnetx64.efi.signed"
FILES = {"grubx64.efi": (PATH, OLD)}


def grub(archive, version, content=OLD):
    """Adds a version of the package to the archive, and returns its digest."""
    return digest(archive.add("grub", version, {PATH: content}).read_bytes())


@pytest.fixture
def pinned(archive, stage):
    """The digest of version 2.9 of the package grub, which the archive has and the manifest pins."""
    package_sum = grub(archive, "2.9")
    stage.pin("grub", "2.9", FILES, package_sum)
    archive.publish()
    return package_sum


def test_the_pinned_version_is_preferred(archive, stage, pinned):
    grub(archive, "2.10", NEW)
    archive.publish()
    output = stage()
    assert f"staged grubx64.efi from grub 2.9 (pinned; package SHA-256 {pinned})" in output
    assert stage.staged("grubx64.efi") == OLD
    assert stage.recorded() == stage.manifest.read_text().splitlines()


def test_the_newest_version_replaces_a_pinned_one_that_is_gone(archive, stage, pinned):
    archive.remove("grub", "2.9")
    archive.add("grub", "2.9+1", {PATH: b"neither"})
    newest = grub(archive, "2.10", NEW)
    archive.publish()
    before = stage.manifest.read_text()
    output = stage()
    assert f"staged grubx64.efi from grub 2.10 (newest: the archive no longer has the pinned 2.9; package SHA-256 {newest})" in output
    assert stage.staged("grubx64.efi") == NEW
    assert stage.recorded() == [f"package {SUITE} amd64 grub 2.10 {newest}", f"file grubx64.efi {PATH} {digest(NEW)}"]
    assert stage.manifest.read_text() == before
    stage(archive=UNREACHABLE)
    stage("--check", archive=UNREACHABLE)


def test_a_newer_pin_replaces_what_was_staged(archive, stage, pinned):
    stage()
    stage.manifest.write_text("")
    stage.pin("grub", "2.10", {"grubx64.efi": (PATH, NEW)}, grub(archive, "2.10", NEW))
    archive.publish()
    assert "grubx64.efi" in stage("--check", status=1)
    stage()
    assert stage.staged("grubx64.efi") == NEW


def test_a_version_older_than_the_pinned_one_is_refused(archive, stage, pinned):
    archive.remove("grub", "2.9")
    grub(archive, "2.8")
    archive.publish()
    output = stage(status=1)
    assert "grubx64.efi: not staged: the archive has only grub 2.8, older than the pinned 2.9" in output
    assert not (stage.directory / "grubx64.efi").exists()


@pytest.mark.parametrize("options", [(), ("--update",)])
def test_a_pinned_version_with_another_digest_is_an_error(archive, stage, pinned, options):
    other = grub(archive, "2.9", NEW)
    grub(archive, "2.10", NEW)
    archive.publish()
    output = stage(*options, status=1)
    outcome = "not updated" if options else "not staged"
    assert f"grubx64.efi: {outcome}: wrong digest of grub 2.9: the archive has {other}, firmware/manifest {pinned}" in output
    assert not (stage.directory / "grubx64.efi").exists()


def test_a_package_that_is_not_the_one_that_the_list_signs_is_an_error(archive, stage, pinned):
    package = archive.root / "pool/grub_2.9_amd64.deb"
    content = bytearray(package.read_bytes())
    content[-1] ^= 1
    package.write_bytes(content)
    assert "grubx64.efi: not staged: wrong digest of grub 2.9" in stage(status=1)
    assert not (stage.directory / "grubx64.efi").exists()


def test_a_file_with_another_digest_than_the_pinned_one_is_an_error(archive, stage):
    stage.pin("grub", "2.9", {"grubx64.efi": (PATH, NEW)}, grub(archive, "2.9"))
    archive.publish()
    output = stage(status=1)
    assert f"grubx64.efi: not staged: wrong digest of /{PATH} in grub 2.9: {digest(OLD)}, firmware/manifest has {digest(NEW)}" in output
    assert not (stage.directory / "grubx64.efi").exists()


def test_a_list_that_was_changed_after_it_was_signed_is_an_error(archive, stage, pinned):
    packages = archive.root / f"dists/{SUITE}/main/binary-amd64/Packages"
    packages.write_text(packages.read_text().replace("Version: 2.9", "Version: 3.0"))
    assert "has a package list of Debian trixie with a wrong digest" in stage(status=1)


def test_a_signature_by_another_key_is_an_error(archive, stage, pinned, keys):
    archive.publish(key=keys[1])
    output = stage(status=1)
    assert "grubx64.efi: not staged: the archive" in output and "has no valid signature on Debian trixie" in output


def test_an_archive_without_a_signature_is_an_error(archive, stage, pinned, shared_folder):
    suite = archive.root / "dists" / SUITE
    signed = (suite / "InRelease").read_text()
    (suite / "InRelease").unlink()
    (suite / "Release").write_text(signed.split("\n\n", 1)[1].split("-----BEGIN PGP SIGNATURE")[0])
    lenient = shared_folder / "apt.conf"
    lenient.write_text('Acquire::AllowInsecureRepositories "true";\nAPT::Get::AllowUnauthenticated "true";\n')
    assert "has no valid signature on Debian trixie" in stage(status=1, env={**os.environ, "APT_CONFIG": str(lenient)})


@pytest.fixture
def incomplete(archive, stage):
    """The newest version of a package, without one of the two files that the manifest takes from it."""
    archive.add("ipxe", "2-1", {"usr/lib/ipxe/undionly.kpxe": NEW}, "all")
    stage.pin("ipxe", "1-1", {"undionly.kpxe": ("usr/lib/ipxe/undionly.kpxe", OLD),
                              "snponly.efi": ("usr/lib/ipxe/snponly.efi", OLD)}, "0" * 64)
    archive.publish()


@pytest.mark.parametrize("options, status", [
    ((), 1),
    (("--require", "snponly.efi"), 1),
    (("--require", "undionly.kpxe"), 0),
    (("--optional", "snponly.efi"), 0),
    (("--optional", "undionly.kpxe"), 1),
    (("--require", "undionly.kpxe", "--require", "snponly.efi"), 1),
])
def test_a_file_that_the_package_does_not_have_is_named(stage, incomplete, options, status):
    output = stage(*options, status=status)
    kind = "not staged" if status else "not staged (not required)"
    assert f"snponly.efi: {kind}: ipxe 2-1 has no file /usr/lib/ipxe/snponly.efi" in output
    assert stage.staged("undionly.kpxe") == NEW
    assert ("required files that are missing: 1" in output) == bool(status)


def test_without_a_network_only_the_file_that_is_missing_is_named(stage, incomplete):
    stage("--optional", "snponly.efi")
    for output in (stage(archive=UNREACHABLE, status=1), stage("--check", status=1)):
        assert "snponly.efi: not staged: " in output and "undionly.kpxe: not staged" not in output
    stage("--require", "undionly.kpxe", archive=UNREACHABLE)
    stage("--check", "--require", "undionly.kpxe")


@pytest.mark.parametrize("options, problem", [
    (("--require", "grubia32.efi"), "firmware/manifest names no file grubia32.efi"),
    (("--update", "--optional", "grubx64.efi"), "--update takes no --require and no --optional"),
    (("--quick",), "no option --quick"),
    (("elsewhere",), "one directory only"),
])
def test_a_wrong_option_is_named(stage, pinned, options, problem):
    assert problem in stage(*options, status=2)


def test_a_package_that_does_not_exist_is_named(archive, stage, pinned):
    archive.remove("grub", "2.9")
    archive.publish()
    assert "grubx64.efi: not staged: Debian trixie (amd64) has no package grub" in stage(status=1)


def test_an_archive_that_cannot_be_reached_is_reported_as_that(stage, pinned):
    stage.pin("shim", "1", {"shimx64.efi": ("usr/lib/shim", OLD)}, "0" * 64)
    output = stage(archive=UNREACHABLE, status=1)
    for name in ("grubx64.efi", "shimx64.efi"):
        assert f"{name}: not staged: the archive {UNREACHABLE} cannot be reached" in output
    assert "no longer" not in output and "has no package" not in output


def test_the_manifest_decides_the_architecture_on_an_arm64_machine(archive, stage, shared_folder):
    """shim-signed exists for both architectures, and an arm64 machine's apt prefers the package for arm64."""
    path = "usr/lib/shim/shim.efi.signed"
    sums = {architecture: digest(archive.add("shim", "1", {path: architecture.encode()}, architecture).read_bytes())
            for architecture in ARCHITECTURES}
    stage.pin("shim", "1", {"shimx64.efi": (path, b"amd64")}, sums["amd64"])
    archive.publish()
    (shared_folder / "bin").mkdir()
    dpkg = shared_folder / "bin/dpkg"
    dpkg.write_text(f'#!/bin/sh\n[ "$1" != --print-architecture ] || {{ echo arm64; exit; }}\nexec {shutil.which("dpkg")} "$@"\n')
    dpkg.chmod(0o755)
    configuration = shared_folder / "apt.conf"
    configuration.write_text('APT::Architecture "arm64";\n#clear APT::Architectures;\nAPT::Architectures { "arm64"; };\n')
    environment = {**os.environ, "PATH": f"{shared_folder / 'bin'}:{os.environ['PATH']}", "APT_CONFIG": str(configuration)}
    assert run("dpkg", "--print-architecture", env=environment) == b"arm64\n"
    assert b'APT::Architecture "arm64";' in run("apt-config", "dump", env=environment)
    stage(env=environment)
    assert stage.staged("shimx64.efi") == b"amd64"


@pytest.mark.parametrize("suite", [None, "stable", "other"])
def test_the_archive_of_the_machines_apt_sources_is_the_default(archive, stage, pinned, shared_folder, suite):
    """The machine's apt has never read a package list, as on a new installation."""
    codename = platform.freedesktop_os_release()["VERSION_CODENAME"]
    for folder in ("sources", "lists/partial"):
        (shared_folder / folder).mkdir(parents=True)
    (shared_folder / "sources/test.sources").write_text(
        f"Types: deb\nURIs: {archive.uri}\nSuites: {suite or codename}\nComponents: main\nSigned-By: {archive.keyring}\n")
    configuration = shared_folder / "apt.conf"
    configuration.write_text(f'Dir::Etc::sourcelist "/dev/null";\nDir::Etc::sourceparts "{shared_folder / "sources"}";\n'
                             f'Dir::State::lists "{shared_folder / "lists"}";\n')
    status = 1 if suite == "other" else 0
    output = stage(archive="", status=status, env={**os.environ, "APT_CONFIG": str(configuration)})
    if status:
        assert f"grubx64.efi: not staged: apt's sources on this machine have no Debian archive for '{codename}'" in output
    else:
        assert stage.staged("grubx64.efi") == OLD


def test_nothing_is_fetched_when_everything_is_staged(stage, pinned):
    stage()
    before = (stage.directory / "grubx64.efi").stat()
    stage.record.unlink()
    output = stage(archive=UNREACHABLE)
    assert "package list" not in output
    after = (stage.directory / "grubx64.efi").stat()
    assert (after.st_ino, after.st_mtime_ns) == (before.st_ino, before.st_mtime_ns)
    assert stage.recorded() == stage.manifest.read_text().splitlines()


@pytest.mark.parametrize("content, reason", [(b"damaged", "its digest in"), (None, "it is not in")])
def test_a_damaged_or_missing_file_is_named_and_staged_again(stage, pinned, content, reason):
    stage()
    path = stage.directory / "grubx64.efi"
    if content:
        path.write_bytes(content)
    else:
        path.unlink()
    assert f"grubx64.efi: not staged: {reason}" in stage("--check", archive=UNREACHABLE, status=1)
    stage()
    assert stage.staged("grubx64.efi") == OLD
    assert sorted(path.name for path in stage.directory.iterdir()) == ["grubx64.efi", "manifest"]


def test_update_writes_the_newest_versions_into_the_manifest(archive, stage, pinned):
    stage.manifest.write_text(f"# A comment.\n{stage.manifest.read_text()}\n# For Secure Boot.\n"
                              f"package {SUITE} amd64 shim 0 -\nfile shimx64.efi   usr/lib/shim -\n")
    archive.remove("grub", "2.9")
    grub_sum = grub(archive, "2.10", NEW)
    shim_sum = digest(archive.add("shim", "1:3~1", {"usr/lib/shim": b"shim"}, "all").read_bytes())
    archive.publish()
    output = stage("--update")
    assert "grub 2.9 -> 2.10" in output and "shim 0 -> 1:3~1" in output
    assert stage.manifest.read_text() == (
        f"# A comment.\npackage {SUITE} amd64 grub 2.10 {grub_sum}\nfile grubx64.efi {PATH} {digest(NEW)}\n\n# For Secure Boot.\n"
        f"package {SUITE} amd64 shim 1:3~1 {shim_sum}\nfile shimx64.efi   usr/lib/shim {digest(b'shim')}\n")
    assert not stage.directory.exists()
    assert "firmware/manifest is up to date" in stage("--update")
    assert stage().count("(pinned; ") == 2


def test_update_leaves_the_manifest_when_a_file_is_missing(stage, incomplete):
    before = stage.manifest.read_text()
    output = stage("--update", status=1)
    assert "snponly.efi: not updated: ipxe 2-1 has no file /usr/lib/ipxe/snponly.efi" in output
    assert stage.manifest.read_text() == before


COPYRIGHT = "usr/share/doc/grub/copyright"


def licensed(archive, stage, files, control=""):
    """Adds a package with its list of licences, and a manifest that names its licence."""
    deb = archive.add("grub", "2.12-1", files, control=control)
    archive.publish()
    stage.pin("grub", "2.12-1", FILES, digest(deb.read_bytes()))
    lines = stage.manifest.read_text().splitlines()
    stage.manifest.write_text("\n".join([lines[0], "licence GPL-3.0-or-later", *lines[1:]]) + "\n")


def test_licences_and_sources_of_what_is_staged(archive, stage, shared_folder):
    control = "Source: grub2 (2.12)\nBuilt-Using: grub-unsigned (= 2.12-1+x), other (= 1:7)\n"
    licensed(archive, stage, {PATH: OLD, COPYRIGHT: b"the licence"}, control)
    stage()
    folder = shared_folder / "licences"
    stage("--licences", folder)
    assert (folder / "grub.copyright").read_bytes() == b"the licence"
    first, *sources = (folder / "SOURCES").read_text().splitlines()
    assert first == "grubx64.efi: GPL-3.0-or-later, of Debian's package grub 2.12-1 (grub.copyright)"
    assert [line.split(",")[0].strip() for line in sources] == ["source: grub2 2.12", "source: grub-unsigned 2.12-1+x", "source: other 1:7"]


def test_licences_of_what_is_not_staged_or_has_none_are_an_error(archive, stage, shared_folder):
    licensed(archive, stage, {PATH: OLD})
    folder = shared_folder / "licences"
    assert "grubx64.efi: no licence: " in stage("--licences", folder, status=1)
    stage()
    assert "grub 2.12-1 has no list of licences" in stage("--licences", folder, status=1)
    assert not (folder / "SOURCES").exists()


def test_staging_works_without_privileges(stage, pinned):
    stage.directory.mkdir()
    process = {}
    if os.geteuid() == 0:
        os.chown(stage.directory, NOBODY, NOBODY)
        process = {"user": NOBODY, "group": NOBODY, "extra_groups": []}
    stage(**process)
    assert stage.staged("grubx64.efi") == OLD
    assert (stage.directory / "grubx64.efi").stat().st_uid == stage.directory.stat().st_uid != 0


def test_a_directory_that_cannot_be_written_is_reported(stage, pinned):
    (stage.directory / "grubx64.efi").mkdir(parents=True)
    output = stage(status=1)
    assert "grubx64.efi: not staged: cannot write it" in output
