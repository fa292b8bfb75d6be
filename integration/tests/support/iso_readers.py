"""The ISO library by its example program, and what other programs read from an ISO: xorriso, isoinfo, GRUB, sgdisk."""

import filecmp
import os
import re
import subprocess
import tempfile
from pathlib import Path

from support.iso_images import run, text
from support.programs import helper

URL = "http://10.0.0.1:8080/nocloud/0123456789abcdef/"
ARGUMENTS = ["console=ttyS0,115200", f"ds=nocloud;s={URL}", "autoinstall"]


def environment():
    return {**os.environ, "RUST_BACKTRACE": "0"}


def driver(*arguments):
    """Runs the library's program, which must succeed; returns its output."""
    return text(helper("iso"), *arguments, env=environment())


def refused(*arguments):
    """Runs the library's program, which must fail; returns the reason that it gives."""
    done = subprocess.run([helper("iso"), *map(str, arguments)], capture_output=True, env=environment())
    assert done.returncode == 1, f"{arguments} is refused: {done.returncode} {done.stderr[-300:]!r}"
    return done.stderr.decode(errors="replace")


def content(iso, path):
    """Returns a file of an ISO as the library reads it."""
    return run(helper("iso"), "cat", iso, path)


def with_arguments(*more):
    """Returns the options of a view that adds `ARGUMENTS`."""
    return [part for argument in ARGUMENTS for part in ("--append", argument)] + list(more)


def long_arguments(count, length, letter="x"):
    """Returns the options of a view that adds long kernel arguments."""
    return [part for number in range(count) for part in ("--append", f"a{number}=" + letter * length)]


def extracted(iso, here):
    """Extracts an ISO with xorriso; returns the folder."""
    out = Path(tempfile.mkdtemp(dir=here))
    run("xorriso", "-osirrox", "on", "-indev", iso, "-extract", "/", out / "x")
    run("chmod", "-R", "u+rwX", out / "x")
    return out / "x"


def differences(before, after):
    """Returns the new content of each file that differs between two trees; no file may be missing."""
    paths = lambda top: {str(path.relative_to(top)): path for path in top.rglob("*") if path.is_file()}
    old, new = paths(before), paths(after)
    assert not set(old) - set(new), f"no file is missing: {set(old) - set(new)}"
    return {name: path.read_bytes() for name, path in new.items()
            if name not in old or not filecmp.cmp(old[name], path, shallow=False)}


def changed_files(iso, view, here):
    """Returns the new content of each file in which a view differs from its ISO."""
    return differences(extracted(iso, here), extracted(view, here))


def isoinfo(iso, path, *how):
    return run("isoinfo", *how, "-i", iso, "-x", path)


def grub_reads(iso, path):
    """Reads a file with GRUB's own ISO 9660 driver."""
    return run("grub-fstest", iso, "cat", f"(loop0){path}")


def kernel_lines(menu):
    """Returns the lines of a menu that name a kernel or its arguments."""
    return [line for line in menu.decode(errors="replace").splitlines() if re.match(r"\s*(linux\w*|append)\s", line)]


def assert_has_arguments(menu, quoted):
    """Checks that each kernel line of a menu has `ARGUMENTS` in order, before any "---"."""
    lines = kernel_lines(menu)
    assert lines, f"the menu has kernel lines: {menu}"
    spelled = [f"'{argument}'" if quoted and ";" in argument else argument for argument in ARGUMENTS]
    for line in lines:
        words = line.split()
        at = [words.index(word) for word in spelled]
        assert at == sorted(at), f"the arguments are in order: {line}"
        assert "---" not in words or max(at) < words.index("---"), f"the arguments are before the ---: {line}"


def table_problems(iso):
    """Returns what sgdisk reports about the partition tables: isohybrid's overlap by design."""
    report = subprocess.run(["sgdisk", "-v", str(iso)], capture_output=True).stdout.decode()
    assert "Problem" in report or "No problems found" in report, f"sgdisk reads the partition tables: {report}"
    return sorted(line for line in report.splitlines() if line.startswith(("Problem:", "Warning!")))


def assert_tables_as_sound(view, iso):
    """Checks that a view has no other problem in its partition tables than its ISO."""
    assert table_problems(view) == table_problems(iso), "the view's partition tables are as sound as the ISO's"
