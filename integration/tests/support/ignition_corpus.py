"""Ignition configs made at random from values that are right, nearly right, and wrong: each rule is met and broken often."""

import random

VERSIONS = ("3.0.0", "3.1.0", "3.2.0", "3.3.0", "3.4.0-experimental")
PATHS = ("/a", "/a/b", "/a/b/c", "/b", "/c", "/", "a", "/a/", "/a//b", "/a/../b", "", "/etc/systemd/system/x.service")
URLS = ("http://x/y", "https://x", "HTTP://x", "http://", "http://x:y", "http://x:/", "http://x/%zz", "http://[::1/x", "http://a b/", "http://a^b/", "http://a%41b/",
        "tftp://a/b", "s3://b/k", "s3://b/k?versionId=", "gs://b/k", "arn:aws:s3:::b/k", "arn:aws:s3:::b", "ftp://x", "x", "", "/x", "a b:c", ":x", "mailto:x%zz", "http://x/\u007f",
        "data:,x", "data:,", "data:x", "data:,a b", "data:,%zz", "data:,a#b", "data:,a\u00e9", "Data:,x", "data:;base64,YQ==", "data:;base64,", "data:;base64,Y", "data:;base64,YQ=",
        "data:text/plain;charset=utf-8,x", 'data:text/plain;charset="a,b",x', "data:;charset=utf-8,x", "data:;foo,x", "data:foo/bar,x", "data:text,x", None)
HASHES = ("sha512-" + "0" * 128, "sha256-" + "0" * 64, "sha512-0", "md5-0", "x", "sha512" + "0" * 128, None)
DEVICES = ("/dev/sda", "/dev/sdb", "sda", "/dev//sda")
GUIDS = ("", "01234567-89AB-CDEF-EDCB-A98765432101", "x", "01234567-89ab-cdef-edcb-a9876543210")
UNIT_NAMES = ("a.service", "b.socket", "x.service", "a@.service", "a.mount", "a.nothing", "a", ".service")
UNIT_TEXTS = ("", "[Unit]\nA=b\n", "[Install]\nWantedBy=x", "[Unit", "[Unit] x\n", "[Unit]\nx\n", "x\n[Unit]\n", "# c\n[Unit]\nA=b\\\nc\n", "[Unit]\nA=" + "x" * 3000 + "\n",
              "[Unit]\n=b\n", "[Unit]\nA=b\\\n\nx=y", "[Unit]\n;x\\\n y\nA=b", "[Unit]\r\nA=b\r\n", "[Unit]\nlast", "[Unit]\nA=\\", "  [Unit]\nA=1", "[Unit]\n[Install]\n", None)


class Corpus:
    """Makes configs from a seed."""

    def __init__(self, seed):
        self.random = random.Random(seed)

    def maybe(self, into, chance, key, make):
        if self.random.random() < chance:
            into[key] = make()

    def pick(self, *values):
        return lambda: self.random.choice(values)

    def some(self, make, most):
        return [make() for _ in range(self.random.randint(0, most))]

    def resource(self):
        made = {}
        self.maybe(made, 0.9, "source", self.pick(*URLS))
        self.maybe(made, 0.2, "compression", self.pick("gzip", "", "xz", None))
        self.maybe(made, 0.2, "verification", lambda: {"hash": self.random.choice(HASHES)})
        self.maybe(made, 0.2, "httpHeaders", lambda: self.some(lambda: {"name": self.pick("A", "B", "")(), "value": self.pick("1", "", None)()}, 3))
        return made

    def node(self):
        made = {"path": self.random.choice(PATHS)}
        for key in ("user", "group"):
            self.maybe(made, 0.2, key, self.pick({"id": 1}, {"name": "a"}, {"id": 0, "name": "a"}, {"id": 1, "name": ""}, {}))
        self.maybe(made, 0.2, "overwrite", self.pick(True, False, None))
        return made

    def with_mode(self):
        made = self.node()
        self.maybe(made, 0.3, "mode", self.pick(420, 0, -1, 4095, 4096, 1000, None))
        return made

    def file(self):
        made = self.with_mode()
        self.maybe(made, 0.5, "contents", self.resource)
        self.maybe(made, 0.2, "append", lambda: self.some(self.resource, 2))
        return made

    def link(self):
        made = {**self.node(), "target": self.pick("/a", "/b", "x", "", "../b", "/c/../b")()}
        self.maybe(made, 0.4, "hard", self.pick(True, False))
        return made

    def partition(self):
        made = {}
        self.maybe(made, 0.6, "number", self.pick(0, 1, 2, 3, -1))
        self.maybe(made, 0.5, "label", self.pick("a", "b", "", "x" * 36, "x" * 37, "a:b", None))
        self.maybe(made, 0.3, "startMiB", self.pick(0, 1, 5, 10, None))
        self.maybe(made, 0.3, "sizeMiB", self.pick(0, 1, 5, 10, None))
        self.maybe(made, 0.2, "guid", self.pick(*GUIDS))
        self.maybe(made, 0.2, "typeGuid", self.pick(*GUIDS))
        self.maybe(made, 0.2, "shouldExist", self.pick(True, False, None))
        return made

    def disk(self):
        return {"device": self.random.choice(DEVICES), "partitions": self.some(self.partition, 3)}

    def raid(self):
        made = {"name": self.random.choice("ab"), "level": self.pick("raid0", "raid1", "1", "linear", "x", "", "raid10", "stripe")(),
                "devices": self.some(self.pick(*DEVICES), 3)}
        self.maybe(made, 0.3, "spares", self.pick(0, 1))
        self.maybe(made, 0.3, "options", lambda: ["a", "a"])
        return made

    def luks(self):
        made = {"name": self.pick("a", "b", "a/b")()}
        self.maybe(made, 0.8, "device", self.pick(*DEVICES))
        self.maybe(made, 0.3, "label", self.pick("", "x" * 47, "x" * 48))
        self.maybe(made, 0.4, "keyFile", self.resource)
        clevis = {}
        self.maybe(clevis, 0.3, "tang", lambda: self.some(lambda: {"url": self.pick("http://x", "x", "http://x/%z", "", "https://y")(), "thumbprint": self.pick("a", "", None)()}, 2))
        self.maybe(clevis, 0.3, "tpm2", self.pick(True, False))
        self.maybe(clevis, 0.3, "threshold", self.pick(0, 1))
        self.maybe(clevis, 0.3, "custom", lambda: {"pin": self.pick("tpm2", "sss", "x", "")(), "config": self.pick("x", "")()})
        self.maybe(made, 0.4, "clevis", lambda: clevis)
        return made

    def filesystem(self):
        made = {"device": self.random.choice(DEVICES)}
        self.maybe(made, 0.7, "format", self.pick("ext4", "xfs", "swap", "vfat", "none", "btrfs", "x", "", None))
        self.maybe(made, 0.4, "path", self.pick("/", "/a", "a", "", "/a/"))
        self.maybe(made, 0.4, "label", self.pick("", *("x" * length for length in (11, 12, 13, 16, 17, 257))))
        self.maybe(made, 0.2, "mountOptions", self.pick([], ["a", "a"]))
        self.maybe(made, 0.2, "wipeFilesystem", self.pick(True, False))
        self.maybe(made, 0.2, "uuid", self.pick("", "a"))
        return made

    def unit(self):
        made = {"name": self.random.choice(UNIT_NAMES)}
        self.maybe(made, 0.7, "contents", self.pick(*UNIT_TEXTS))
        self.maybe(made, 0.4, "enabled", self.pick(True, False))
        self.maybe(made, 0.3, "dropins", lambda: self.some(lambda: {"name": self.pick("a.conf", "b.conf", "x", ".conf")(), "contents": self.pick(*UNIT_TEXTS)()}, 2))
        return made

    def user(self):
        made = {"name": self.random.choice("abc")}
        self.maybe(made, 0.3, "groups", lambda: self.some(self.pick(*"xyz"), 3))
        self.maybe(made, 0.3, "sshAuthorizedKeys", lambda: self.some(self.pick(*"xyz"), 3))
        return made

    def proxy(self):
        return {"httpProxy": self.pick("http://p", "x", "https://p", "")(), "httpsProxy": self.pick("http://p", "https://p")(), "noProxy": self.some(self.pick("x", "y"), 2)}

    def config(self):
        """Returns a config in which one or two sections have values."""
        version = self.random.choice(VERSIONS)
        ignition, storage = {"version": version}, {}
        made = {"ignition": ignition, "storage": storage}
        section = self.random.choice(("files", "links", "disks", "raid", "luks", "filesystems", "systemd", "passwd", "ignition", "kernelArguments"))
        if section == "files":
            storage["files"] = self.some(self.file, 2)
            self.maybe(made, 0.3, "systemd", lambda: {"units": self.some(self.unit, 2)})
        elif section == "links":
            storage |= {"directories": self.some(self.with_mode, 2), "links": self.some(self.link, 2), "files": self.some(self.file, 1)}
        elif section == "luks":
            # Before 3.3.0 Ignition ignores it, or reads other keys.
            storage[section] = self.some(self.luks, 1) if version > "3.2" else []
        elif section in ("disks", "raid", "filesystems"):
            storage[section] = self.some({"disks": self.disk, "raid": self.raid, "filesystems": self.filesystem}[section], 2)
        elif section == "systemd":
            made[section] = {"units": self.some(self.unit, 2)}
        elif section == "passwd":
            made[section] = {"users": self.some(self.user, 3), "groups": self.some(lambda: {"name": self.random.choice("abc")}, 2)}
        elif section == "kernelArguments":
            made[section] = {"shouldExist": self.some(self.pick(*"xyz"), 2), "shouldNotExist": self.some(self.pick(*"xyz"), 2)}
        else:
            ignition["config"] = {"merge": self.some(self.resource, 2)}
            self.maybe(ignition["config"], 0.3, "replace", self.resource)
            self.maybe(ignition, 0.3, "proxy", self.proxy)
            self.maybe(ignition, 0.3, "security", lambda: {"tls": {"certificateAuthorities": self.some(self.resource, 2)}})
        return made
