"""A real systemd as PID 1 of its own namespaces, over a copy-on-write view of this machine's root."""

import os
import signal
import subprocess
import uuid
from pathlib import Path

from support.waiting import eventually

# Mounts what systemd expects, makes the view the root, and becomes systemd. $1: an empty directory.
BOOT = r"""
set -e
mount --make-rprivate /
mount -t tmpfs -o size=1g tmpfs "$1"
mkdir "$1/upper" "$1/work" "$1/root"
mount -t overlay overlay -o "lowerdir=/,upperdir=$1/upper,workdir=$1/work" "$1/root"
cd "$1/root"
mount -t proc proc proc
mount -t sysfs -o ro sysfs sys 2>/dev/null || mount --rbind /sys sys
mount -t cgroup2 cgroup2 sys/fs/cgroup
mount -t tmpfs -o mode=755 tmpfs dev
for node in null:1:3 zero:1:5 full:1:7 random:1:8 urandom:1:9 tty:5:0; do
  IFS=: read -r name major minor <<<"$node"
  mknod -m 666 "dev/$name" c "$major" "$minor"
done
mkdir dev/pts dev/shm
mount -t devpts -o newinstance,ptmxmode=0666,mode=620 devpts dev/pts
ln -s pts/ptmx dev/ptmx
ln -s /proc/self/fd dev/fd
mount -t tmpfs -o mode=755 tmpfs run
mount -t tmpfs tmpfs tmp
rm -rf etc/systemd/system/*.wants etc/systemd/system/*.requires
ip link set lo up
mkdir -p .old
pivot_root . .old
umount -l /.old
exec env -i container=unshare PATH=/usr/sbin:/usr/bin:/sbin:/bin /lib/systemd/systemd --unit=basic.target --log-target=console </dev/null
"""


class World:
    """systemd with basic.target. Nothing that runs in it changes a file of this machine."""

    def __init__(self, place):
        self.place = Path(place) / "world"
        self.place.mkdir()
        mixed = Path("/sys/fs/cgroup/unified")
        self.cgroup = (mixed if mixed.is_dir() else Path("/sys/fs/cgroup")) / f"bootlatch-test-{uuid.uuid4().hex[:8]}"
        self.cgroup.mkdir()
        self.log = self.place.with_name("world.log")

        with open(self.log, "wb") as log:
            self.process = subprocess.Popen(
                ["sh", "-c", 'echo $$ > "$0" && exec "$@"', self.cgroup / "cgroup.procs", "unshare", "--mount", "--pid", "--uts", "--ipc", "--net", "--cgroup", "--fork", "--kill-child",
                 "bash", "-c", BOOT, "world", self.place],
                stdin=subprocess.DEVNULL, stdout=log, stderr=log, start_new_session=True)
        try:
            assert eventually(self.is_running, 60), f"systemd is running: {self.log.read_text()[-3000:]}"
        except BaseException:
            self.close()
            raise

    def pid(self):
        """Returns systemd's process identifier outside of its namespaces; None before it has one."""
        children = Path(f"/proc/{self.process.pid}/task/{self.process.pid}/children")
        found = children.read_text().split() if children.exists() else []
        return int(found[0]) if found else None

    def is_running(self):
        assert self.process.poll() is None, f"systemd has ended: {self.log.read_text()[-3000:]}"
        return self.pid() and self.try_run("systemctl", "is-system-running").stdout.strip() in ("running", "degraded")

    def try_run(self, *words, stdin=None):
        """Runs a program in the world, and returns how it ended."""
        enter = ["nsenter", "-t", str(self.pid()), "-m", "-p", "-u", "-i", "-n", "-C", "-r", "-w"]
        environment = ["env", "-i", "PATH=/usr/sbin:/usr/bin:/sbin:/bin"]
        return subprocess.run([*enter, *environment, *map(str, words)], input=stdin, capture_output=True, text=True)

    def run(self, *words, stdin=None):
        """Runs a program that must succeed, and returns its output."""
        done = self.try_run(*words, stdin=stdin)
        assert done.returncode == 0, f"{' '.join(map(str, words))}: {done.returncode}: {done.stdout[-2000:]}{done.stderr[-2000:]}"
        return done.stdout

    def write(self, path, text):
        self.run("sh", "-c", 'mkdir -p "$(dirname "$1")" && cat >"$1"', "sh", path, stdin=text)

    def close(self):
        if pid := self.pid():
            os.kill(pid, signal.SIGKILL)
        if self.process.poll() is None:
            self.process.wait(30)

        def is_gone():
            for folder, _, _ in os.walk(self.cgroup, topdown=False):
                try:
                    os.rmdir(folder)
                except OSError:
                    return False
            return True

        assert eventually(is_gone, 20), f"{self.cgroup} can be removed"
