"""A file system that stops answering: a FUSE mount whose server, once told to, leaves every request unanswered.

The kernel waits for the answer as it waits for a dead NFS server. The server speaks the protocol itself (fuse(4),
linux/fuse.h), so that no library is needed.
"""

import contextlib
import ctypes
import errno
import os
import select
import stat
import struct
import threading

_libc = ctypes.CDLL(None, use_errno=True)
MNT_FORCE, MNT_DETACH = 1, 2
LOOKUP, GETATTR, OPEN, READ, RELEASE, INIT, OPENDIR, READDIR, RELEASEDIR = 1, 3, 14, 15, 18, 26, 27, 28, 29
FORGET, INTERRUPT, BATCH_FORGET = 2, 36, 42
HEADER = struct.Struct("<IIQQIIIHH")
ROOT = 1


class DeadMount:
    """A directory of files that are served until `die`; `asked` is set once a request waits for an answer that never comes."""

    def __init__(self, place, files):
        self.place = place
        self.names = list(files)
        self.files = [bytes(files[name]) for name in self.names]
        self.dead = False
        self.asked = threading.Event()
        self.closing = threading.Event()
        place.mkdir()
        self.device = os.open("/dev/fuse", os.O_RDWR | os.O_CLOEXEC)
        options = f"fd={self.device},rootmode=40000,user_id=0,group_id=0,allow_other"
        if _libc.mount(b"dead", os.fsencode(place), b"fuse", 0, options.encode()):
            number = ctypes.get_errno()
            os.close(self.device)
            raise OSError(number, f"mount: {os.strerror(number)}")
        self.thread = threading.Thread(target=self.serve, daemon=True)
        self.thread.start()

    def die(self):
        """Answers no request from now on."""
        self.dead = True
        self.asked.clear()

    def attributes(self, node):
        is_root = node == ROOT
        size = 0 if is_root else len(self.files[node - 2])
        mode = stat.S_IFDIR | 0o755 if is_root else stat.S_IFREG | 0o644
        return struct.pack("<QQQQQQIIIIIIIIII", node, size, 0, 1, 1, 1, 0, 0, 0, mode, 1, 0, 0, 0, 4096, 0)

    def serve(self):
        poller = select.poll()
        poller.register(self.device, select.POLLIN)
        with contextlib.suppress(OSError):
            while not self.closing.is_set():
                events = dict(poller.poll(50))
                if events.get(self.device, 0) & (select.POLLERR | select.POLLHUP):
                    return
                if not events:
                    continue
                if self.dead:
                    # Not read: a process that waits for it can be killed, as one that waits for a dead NFS server.
                    self.asked.set()
                    self.closing.wait(0.05)
                    continue
                request = os.read(self.device, 1 << 17)
                _, operation, unique, node, *_ = HEADER.unpack_from(request)
                if operation in (FORGET, INTERRUPT, BATCH_FORGET):
                    continue
                code, body = self.answer(operation, node, request[HEADER.size:])
                os.write(self.device, struct.pack("<IiQ", 16 + len(body), -code, unique) + body)

    def answer(self, operation, node, body):
        if operation == INIT:
            return 0, struct.pack("<IIIIHHIIHHI", 7, 31, 0, 0, 12, 9, 1 << 16, 1, 0, 0, 0) + bytes(28)
        if operation == LOOKUP:
            name = os.fsdecode(body.rstrip(b"\0"))
            if name not in self.names:
                return errno.ENOENT, b""
            # Nothing is cached: each look at the file asks this server.
            return 0, struct.pack("<QQQQII", self.names.index(name) + 2, 0, 0, 0, 0, 0) + self.attributes(self.names.index(name) + 2)
        if operation == GETATTR:
            return 0, struct.pack("<QII", 0, 0, 0) + self.attributes(node)
        if operation in (OPEN, OPENDIR):
            return 0, struct.pack("<QII", 0, 0, 0)
        if operation == READ:
            _, offset, size = struct.unpack_from("<QQI", body)
            return 0, self.files[node - 2][offset:offset + size]
        if operation == READDIR:
            _, offset, _ = struct.unpack_from("<QQI", body)
            return 0, b"".join(self.entry(at) for at in range(offset, len(self.names)))
        if operation in (RELEASE, RELEASEDIR):
            return 0, b""
        return errno.ENOSYS, b""

    def entry(self, at):
        name = os.fsencode(self.names[at])
        text = struct.pack("<QQII", at + 2, at + 1, len(name), stat.S_IFREG >> 12) + name
        return text + bytes(-len(text) % 8)

    def close(self):
        """Ends the mount; every request that waits fails."""
        self.closing.set()
        for how in (MNT_FORCE, MNT_DETACH):  # The first aborts the connection, the second also unmounts a busy mount.
            _libc.umount2(os.fsencode(self.place), how)
        self.thread.join(5)
        os.close(self.device)


@contextlib.contextmanager
def dead_mount(place, files):
    """Mounts files by name at a new directory; the mount ends with the block."""
    mount = DeadMount(place, files)
    try:
        yield mount
    finally:
        mount.close()
