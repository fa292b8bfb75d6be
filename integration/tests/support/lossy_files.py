"""A directory whose file system loses what was not synced, for tests of a loss of power.

`lossy_files.c` records what the program under test does to its files. After the program was killed, `lose_power` sets
the directory to a state that a disk may have after a loss of power. The model:

- A write or a change of length is durable once an fsync or fdatasync of the file that began after it has ended.
- A creation, a rename, a link or a removal of a name is durable once an fsync of its directory has. Later ones of the
  directory are lost from some point on, in their order, as on a file system with a journal.
- Each change of a file that is not durable is there, is not, or is there in part: whole sectors of 512 bytes.
- Memory that is mapped from a file is never durable.
"""

import os
import shutil
import struct
import subprocess
from pathlib import Path

from lab.process import tool

SOURCE = Path(__file__).with_suffix(".c")
RECORD = struct.Struct("<IccHQQII")
MAGIC = 0x4C4F5353
SECTOR = 512
SYNC_DELAY = 2000  # microseconds


class File:
    """A file by its bytes on the disk and the later changes that no sync has made durable."""

    def __init__(self, data=b""):
        self.durable, self.pending = bytearray(data), []

    def change(self, moment, *change):
        self.pending.append((moment, change))

    def sync(self, moment):
        """Makes the changes before a moment durable."""
        while self.pending and self.pending[0][0] < moment:
            self._apply(self.durable, *self.pending.pop(0)[1])

    def after_loss(self, dice, share):
        """Returns the bytes after a loss of power; `share` is the probability that a pending change is there."""
        data = bytearray(self.durable)
        for _, (kind, *about) in self.pending:
            if kind == "length":
                if dice.random() < share:
                    self._apply(data, kind, *about)
            elif dice.random() < 0.7:
                if dice.random() < share:
                    self._apply(data, kind, *about)
            else:
                self._apply_sectors(data, dice, *about)
        return bytes(data)

    @staticmethod
    def _apply(data, kind, at, written=b""):
        if kind == "length":
            del data[at:]
            data.extend(bytes(at - len(data)))
            return
        data.extend(bytes(max(0, at - len(data))))
        data[at:at + len(written)] = written

    def _apply_sectors(self, data, dice, at, written):
        end = at + len(written)
        for sector in range(at // SECTOR, -(-end // SECTOR)):
            first, last = max(at, sector * SECTOR), min(end, (sector + 1) * SECTOR)
            if dice.random() < 0.5:
                self._apply(data, "data", first, written[first - at:last - at])


class LossyFiles:
    """A directory on such a file system. Only one program uses it at a time, and it is killed before `lose_power`.

    A sync takes up to `SYNC_DELAY`. With `ignore_syncs` no sync makes anything durable.
    """

    def __init__(self, folder, root, ignore_syncs=False):
        self.folder, self.root, self.ignore_syncs = Path(folder), Path(os.path.realpath(root)), ignore_syncs
        self.library = self.folder / "lossy_files.so"
        if not self.library.exists():
            subprocess.run([tool("cc"), "-O1", "-shared", "-fPIC", "-o", self.library, SOURCE, "-ldl"], check=True)
        self.journals, self.moment = 0, 0
        self.root.mkdir(exist_ok=True)
        self._take_as_durable()

    def environment(self, kill_at=None):
        """Returns the variables with which the program is started. Each start has a journal of its own.

        The program is killed within its sync number `kill_at`, counted from 1."""
        self.journals += 1
        more = {"LOSSY_NO_SYNC": "1"} if self.ignore_syncs else {}
        if kill_at:
            more["LOSSY_KILL_AT"] = str(kill_at)
        return {"LD_PRELOAD": str(self.library), "LOSSY_ROOT": str(self.root), "LOSSY_JOURNAL": str(self._journal()),
                "LOSSY_DELAY": str(SYNC_DELAY), **more}

    def _journal(self):
        return self.folder / f"journal-{self.journals}"

    def _take_as_durable(self):
        """Takes the directory as it is for what the disk holds."""
        self.names, self.pending, self.inodes = {}, [], {}
        for path in sorted(self.root.rglob("*")):
            about = path.lstat()
            if path.is_dir():
                self.names[str(path)] = None
            elif path.is_file():
                if about.st_ino not in self.inodes:
                    self.inodes[about.st_ino] = File(path.read_bytes())
                self.names[str(path)] = self.inodes[about.st_ino]

    def program_ended(self):
        """Reads the journal of the program that was killed. What it left unsynced stays so until a later sync."""
        data, at = self._journal().read_bytes(), 0
        begun = {}
        while at + RECORD.size <= len(data):
            magic, kind, is_directory, path_length, inode, number, length, _ = RECORD.unpack_from(data, at)
            assert magic == MAGIC, f"{self._journal()}: no record at {at}"
            end = at + RECORD.size + path_length + length
            if end > len(data):
                break  # the kill came within the record, so before the call returned
            path = data[at + RECORD.size:at + RECORD.size + path_length].decode()
            self.moment += 1
            self._replay(kind.decode(), is_directory != b"\0", inode, number, path, data[end - length:end], begun)
            at = end
        self._journal().unlink()

    def _replay(self, kind, is_directory, inode, number, path, data, begun):
        if kind == "W":
            self.inodes[inode].change(self.moment, "data", number, data)
        elif kind == "T":
            self.inodes[inode].change(self.moment, "length", number)
        elif kind == "B":
            begun[number] = self.moment
        elif kind == "E" and is_directory:
            self._sync_directory(path, begun[number])
        elif kind == "E":
            self.inodes[inode].sync(begun[number])
        elif kind == "C":
            self.inodes[inode] = File()
            self.pending.append((self.moment, os.path.dirname(path), "put", path, self.inodes[inode]))
        else:
            self._replay_name(kind, inode, path)

    def _replay_name(self, kind, inode, path):
        first, _, second = path.partition("\n")
        file = self.inodes.get(inode)
        change = {"M": ("put", first, None), "U": ("remove", first), "L": ("put", second, file),
                  "R": ("rename", first, second, file)}[kind]
        self.pending.append((self.moment, os.path.dirname(first), *change))

    def _sync_directory(self, directory, moment):
        kept = []
        for change in self.pending:
            if change[1] == directory and change[0] < moment:
                self._rename(*change[2:])
            else:
                kept.append(change)
        self.pending = kept

    def _rename(self, kind, path, *more):
        if kind == "put":
            self.names[path] = more[0]
        else:
            self.names.pop(path, None)
        if kind == "rename":
            self.names[more[0]] = more[1]

    def lose_power(self, dice):
        """Sets the directory to what a disk may hold now; `dice` is a random.Random."""
        share = dice.choice([0.0, 0.3, 0.7, 1.0])
        for directory in {change[1] for change in self.pending}:
            changes = [change for change in self.pending if change[1] == directory]
            for change in changes[:dice.randint(0, len(changes))]:
                self._rename(*change[2:])
        about = {str(path): path.stat() for path in self.root.rglob("*") if path.is_file()}
        for path in self.root.iterdir():
            shutil.rmtree(path) if path.is_dir() and not path.is_symlink() else path.unlink()
        written = {}
        for name, file in sorted(self.names.items()):
            path = Path(name)
            if not path.parent.is_dir():
                continue  # its directory was lost
            if file is None:
                path.mkdir()
            elif id(file) in written:
                os.link(written[id(file)], path)
            else:
                path.write_bytes(file.after_loss(dice, share))
                path.chmod(about[name].st_mode & 0o777 if name in about else 0o600)
                if name in about and not file.pending:
                    os.utime(path, ns=(about[name].st_atime_ns, about[name].st_mtime_ns))
                written[id(file)] = path
        self._take_as_durable()
