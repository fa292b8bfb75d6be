"""Debian's cloud-init, run in a machine's network namespace over a copy of this system's root that ends with it."""

import json
import subprocess
from pathlib import Path

from support import iso_images

# The stages of cloud-init's units, in their order.
STAGES = (["init", "--local"], ["init"], ["modules", "--mode", "config"], ["modules", "--mode", "final"])

CONFIG = """
datasource_list: [NoCloud]
cloud_init_modules: [write-files]
cloud_config_modules: [runcmd]
cloud_final_modules: [scripts-user]
network: {config: disabled}
system_info: {distro: debian, default_user: {name: debian}, paths: {cloud_dir: /var/lib/cloud/, run_dir: /run/cloud-init/}}
"""

# A private root: the system's own below, what is written above it in memory.
ROOT = """
set -e
mount -t tmpfs tmpfs "$1"
mkdir "$1/above" "$1/work" "$1/root"
mount -t overlay overlay -o "lowerdir=/,upperdir=$1/above,workdir=$1/work" "$1/root"
cd "$1/root"
for one in proc sys dev; do mount --rbind /$one $one; done
mount -t tmpfs tmpfs run
mkdir -p etc/cloud/templates run/cloud-init
cp "$2/cloud.cfg" etc/cloud/cloud.cfg
shift 2
exec chroot . "$@"
"""

# Runs the stages, and prints in its last line the config that cloud-init and Subiquity then see.
PROGRAM = """
import json, subprocess, sys
for stage in json.loads(sys.argv[1]):
    subprocess.run([sys.executable, "-m", "cloudinit.cmd.main", *stage])
from cloudinit import stages
init = stages.Init()
init.read_cfg()
init.fetch(existing="trust")
print()
print(json.dumps(init.cfg, default=str))
"""


def boot(machine, arguments, limit=120):
    """Runs all stages of cloud-init with kernel arguments in a machine's network; returns the merged config, and what was printed."""
    iso_images.fetch_material()
    folder = Path(machine.lan.folder) / "cloud-init"
    (folder / "root").mkdir(parents=True, exist_ok=True)
    (folder / "cloud.cfg").write_text(CONFIG)
    command = machine.lan.inside(machine.space, "unshare", "--mount", "sh", "-c", ROOT, "sh", str(folder / "root"), str(folder),
                                 "env", f"DEBUG_PROC_CMDLINE=quiet {arguments}", f"PYTHONPATH={iso_images.Material.python['PYTHONPATH']}", "/usr/bin/python3", "-c", PROGRAM, json.dumps(STAGES))
    printed = subprocess.run(command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, timeout=limit).stdout
    try:
        return json.loads(printed.splitlines()[-1]), printed
    except (IndexError, ValueError):
        raise AssertionError(f"cloud-init ran: {printed[-3000:]}") from None
