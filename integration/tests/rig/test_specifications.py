"""Wrong specifications are refused with file and line (exit status 2), and what the machine lacks is named (3)."""

import json
import subprocess
from pathlib import Path

import pytest

from support.rigs import MENU

WRONG = [
    ("machines: [", "wrong.yaml:1: "),
    ("machines:\n- name: a\n  memory: 1\n", "wrong.yaml:3: machines[0].memory: unknown field `memory`"),
    ("machines:\n- name: a\n  disks:\n  - {id: b, size_gib: big}\n", "wrong.yaml:4: machines[0].disks[0].size_gib: "),
    ("machines: [{name: a}]\nexpect:\n- {phase: Ready}\n", "wrong.yaml:3: expect[0].phase: \"Ready\": expected one of LocalBoot"),
    ("machines:\n- name: a\n  cdroms: [{id: c, iso_path: none.iso}]\n", "none.iso is not a file"),
    ("server: |\n  http_port = 80\n  [dhcp]\n  prot = 67\nmachines: [{name: a}]\nexpect: [{event: offer}]\n", "wrong.yaml:4: server: dhcp.prot: unknown field"),
    ("{\n\t\"machines\": [\n\t\t{\"name\": \"a\", \"firmware\": \"EFI\"}\n\t]\n}", "wrong.yaml:3: machines[0].firmware: unknown variant `EFI`"),
    (MENU, "expect: missing: there is nothing to test"),
]


@pytest.mark.parametrize("text, expected", WRONG, ids=[expected for _, expected in WRONG])
def test_a_wrong_specification_names_its_line(user, text, expected):
    user.write("wrong.yaml", text)
    code, printed = user.run("test", "wrong.yaml", "wrong")
    assert code == 2 and expected in printed, printed


def test_an_object_that_the_server_refuses_is_a_wrong_specification(user):
    user.write("refused.yaml", "images: [{name: lab, iso: lab.iso, spec: {method: magic}}]\n" + MENU + "expect: [{event: offer}]\n")
    code, printed = user.run("test", "refused.yaml", "refused")
    assert code == 2 and "refused.yaml" in printed and "method" in printed, printed


def test_missing_boot_programs_are_named_with_the_package(user):
    spec = user.write("menu.yaml", MENU + "expect: [{event: offer}]\n")
    (user.folder / "empty").mkdir(exist_ok=True)
    code, printed = user.run("test", spec, "missing", "--firmware-dir", user.folder / "empty")
    assert code == 3 and "no boot programs in" in printed and "bootlatch-firmware" in printed, printed


def test_a_supervisor_runs_only_in_the_namespaces_of_a_rig(root):
    options = {"spec": "a", "output": ".", "firmware_dir": None, "strict": False, "keep_disks": False, "stays": False}
    mounts = Path("/proc/self/mounts").read_text()
    said = subprocess.run(root.command("supervise", json.dumps(options)), cwd=root.folder, stdin=subprocess.DEVNULL, capture_output=True, text=True)
    assert said.returncode == 1 and "is only for the namespaces" in said.stderr, said
    assert Path("/proc/self/mounts").read_text() == mounts
