"""Real DHCP clients: each function runs one once and returns the variables that its script received."""

from lab.process import copied, run, tool


def variables(path):
    """Reads the environment that a client's script wrote; empty if the client got no lease."""
    if not path.exists():
        return {}
    return dict(line.split("=", 1) for line in path.read_text().splitlines() if "=" in line)


def executable(path, text):
    path.write_text(text)
    path.chmod(0o755)
    return path


def udhcpc(lan, space, *more, limit=20, persists=False):
    """Runs busybox's client. It gives up after three requests without a reply, or begins anew if it persists."""
    out = lan.folder / f"udhcpc-{next(lan.count)}"
    script = executable(lan.folder / "udhcpc.sh", '#!/bin/sh\n[ "$1" = bound ] || exit 0\nenv > "$OUT"\n')
    run(*lan.inside(space, "env", f"OUT={out}", tool("busybox"), "udhcpc", "-i", "lan0", "-q", "-f", "-t", "5", "-T", "2",
                    *(["-A", "1"] if persists else ["-n"]), "-s", str(script), *more), limit=limit, check=False)
    return variables(out)


def dhclient_command(lan, files, conf=""):
    """Returns ISC dhclient's command line up to its script, all its files in one folder."""
    files.mkdir(exist_ok=True)
    (files / "conf").write_text(conf)
    return [copied(lan.folder, "dhclient"), "-4", "-v", "-cf", str(files / "conf"), "-sf", str(files / "script"),
            "-lf", str(files / "leases"), "-pf", str(files / "pid")]


def dhclient(lan, space, *words):
    """Runs ISC dhclient; with "-r" it releases its lease."""
    files = lan.folder / f"dhclient-{space}"
    command = dhclient_command(lan, files)
    received, pid = files / "received", files / "pid"
    executable(files / "script", f"#!/bin/sh\ncase $reason in BOUND|REBOOT|RENEW) env > {received}; "
                                 "ip address replace $new_ip_address/24 dev lan0;; esac\nexit 0\n")
    received.unlink(missing_ok=True)
    run(*lan.inside(space, *command, "-1", *words, "lan0"), check=False, limit=30)
    if pid.exists() and "-r" not in words:
        run("kill", pid.read_text().strip(), check=False)
    return variables(received)


def dhcpcd(lan, space):
    """Runs dhcpcd."""
    out = lan.folder / f"dhcpcd-{next(lan.count)}"
    script = executable(lan.folder / "dhcpcd.sh", f'#!/bin/sh\ncase $reason in BOUND) env > {out};; esac\nexit 0\n')
    # It keeps its files in the system's folders: it gets empty ones.
    run(*lan.inside(space, "unshare", "-m", "sh", "-c",
                    "mount -t tmpfs none /var/lib/dhcpcd && mount -t tmpfs none /run && "
                    f"exec {tool('dhcpcd')} -4 -1 -B -t 15 -A -c {script} lan0"), check=False, limit=40)
    return variables(out)
