"""iPXE scripts: what one names, and an interpreter of the commands that our scripts use."""

import re

# iPXE's numbers for what can go wrong (https://ipxe.org/err/NUMBER). ${errno} shows them so.
CONNECTION_RESET, TIMED_OUT, CERTIFICATE_REFUSED, NOT_BOOTABLE = 0x0F0A6039, 0x4C0A6035, 0x0216EB3C, 0x2E852001
OUT_OF_MEMORY = 0x31006001
MAX_COMMANDS = 1000


class Script:
    """The text of a script, and what is in it."""

    def __init__(self, text):
        self.text = text

    def _find(self, pattern):
        found = re.search(pattern, self.text)
        return found and found[1]

    @property
    def target(self):
        """The iSCSI target that is booted, or None."""
        return self._find(r"san(?:boot|hook) (?:--\S+ )*iscsi:[^:]*::\d*:[^:]*:(\S+)")

    @property
    def initiator(self):
        return self._find(r"set initiator-iqn (\S+)")

    @property
    def token(self):
        return self._find(r"set config-url \S+?(?:token=|/nocloud/|/config/)([0-9a-f]{16,})")

    @property
    def medium(self):
        """The path of the ISO that is booted over HTTP, or None."""
        return self._find(r"sanboot http://[^/]+(/\S+)")

    @property
    def files(self):
        """The paths of the kernel and the initrds that are loaded over HTTP."""
        return re.findall(r"^(?:kernel|initrd) http://[^/]+(/\S+)", self.text, re.M)

    @property
    def boots_disk(self):
        return "--drive" in self.text or bool(re.search(r"^exit\b", self.text, re.M)) and self.target is None

    def __repr__(self):
        return f"<script {self.text[:400]!r}>"


class Left(Exception):
    """The script ended without a boot; the argument is iPXE's exit code."""


class Interpreter:
    """Runs a script. `platform` is efi or pcbios.

    `boots(command, words)` is called for sanboot, sanhook, kernel, initrd, boot and foreign chains; it returns 0, or the number of the
    error. `fetches(path)` returns the text of a script of the server. `waits(seconds)` sleeps. `chains` bounds how many scripts are
    fetched by chain."""

    def __init__(self, server, platform, boots, fetches, waits, chains=1):
        self.server, self.boots, self.fetches, self.waits, self.chains = server, boots, fetches, waits, chains
        self.settings = {"platform": platform, "buildarch": "x86_64" if platform == "efi" else "i386", "errno": 0}
        self.booted = None

    def run(self, text):
        """Runs a script and those that it chains; returns the last one. Ends at a boot that succeeds."""
        self.lines, self.text, at = text.splitlines(), text, 0
        for _ in range(MAX_COMMANDS):
            if at >= len(self.lines):
                return self.text
            self.target = None
            line, at = self.lines[at].strip(), at + 1
            if line and line[0] not in "#:":
                chained = self.line(line)
                if self.booted:
                    return self.text
                if chained is not None:
                    self.lines, self.text, at = chained.splitlines(), chained, 0
                elif self.target is not None:
                    at = self.lines.index(f":{self.target}") + 1
        raise AssertionError(f"a script without an end: {text}")

    def line(self, line):
        """Runs the commands of a line. Returns the text of a chained script, if there is one."""
        words, failed = re.split(r"(?:^|\s)(\|\||&&)(?:\s|$)", line), False
        self.chained = None
        for at in range(0, len(words), 2):
            is_due = at == 0 or failed == (words[at - 1] == "||")
            if is_due and words[at].strip():
                failed = self.command(words[at].strip())
            elif is_due:
                failed = False
            if self.chained is not None or self.target is not None or self.booted:
                return self.chained
        if failed:
            raise Left(1)
        return None

    def command(self, text):
        """Runs a command; returns whether it failed."""
        name, *words = self.expanded(text).split()
        if name == "set":
            self.settings[words[0]] = " ".join(words[1:])
        elif name == "goto":
            self.target = words[0]
        elif name == "iseq":
            return words[0] != words[1]
        elif name == "isset":
            return not words or not words[0]
        elif name == "sleep":
            self.waits(float(words[0]))
        elif name == "exit":
            raise Left(int(words[0]) if words else 0)
        elif name in ("chain", "imgfetch", "imgexec"):
            return self.chain([word for word in words if "://" in word])
        elif name in ("sanboot", "sanhook", "kernel", "initrd", "boot"):
            self.settings["errno"] = self.boots(name, words)
            self.booted = name in ("sanboot", "boot") and not self.settings["errno"]
            return bool(self.settings["errno"])
        return False

    def chain(self, words):
        server, path = re.match(r"\w+://([^/]+)(/\S*)", words[0]).groups()
        if server != self.server:
            self.settings["errno"] = self.boots("chain", words)
            self.booted = not self.settings["errno"]
            return bool(self.settings["errno"])
        if self.chains == 0:
            raise Left(0)
        text = self.fetches(path)
        if text.startswith("#!ipxe"):
            self.chains -= 1
            self.chained = text
        return False

    def expanded(self, text):
        """Replaces ${name} and ${name:type}."""
        def value(match):
            name, _, kind = match[1].partition(":")
            found = self.settings.get(name, "")
            if isinstance(found, int):
                return f"{found:08x}" if kind.startswith("hex") else f"{found:#x}" if found else "0"
            return found.replace(":", "-") if kind == "hexhyp" else found
        return re.sub(r"\$\{([\w:./-]+)\}", value, text)
