"""The existing DHCP servers of a LAN. They assign addresses and know nothing about network boot."""

import json
import shutil

from .process import Program, tool


def dnsmasq(network, folder):
    """Starts dnsmasq as a plain DHCP server and waits until it listens."""
    command = [tool("dnsmasq"), "--keep-in-foreground", "--conf-file=/dev/null", "--port=0",
               "--interface=lan0", "--bind-interfaces", "--no-ping", "--dhcp-authoritative",
               "--dhcp-range=10.77.0.100,10.77.0.199,255.255.255.0,1h", "--dhcp-option=option:router",
               f"--dhcp-leasefile={folder}/leases", f"--pid-file={folder}/dnsmasq.pid",
               "--user=root", "--log-facility=-", "--log-dhcp"]
    server = Program("dnsmasq", network.inside(network.dhcp, *command), folder / "dnsmasq.log")
    server.wait_for("DHCP, IP range", 10)
    return server


def kea(network, folder):
    """Starts Kea as a plain DHCP server and waits until it listens."""
    config = {"Dhcp4": {
        "interfaces-config": {"interfaces": ["lan0"], "dhcp-socket-type": "raw"},
        "lease-database": {"type": "memfile", "persist": False},
        "valid-lifetime": 3600,
        "subnet4": [{"id": 1, "subnet": "10.77.0.0/24", "pools": [{"pool": "10.77.0.100 - 10.77.0.199"}]}],
        "loggers": [{"name": "kea-dhcp4", "severity": "INFO", "output_options": [{"output": "stdout"}]}],
    }}
    file = folder / "kea.json"
    file.write_text(json.dumps(config))
    environment = {"PATH": "/usr/sbin:/usr/bin:/sbin:/bin", "KEA_LOCKFILE_DIR": "none",
                   "KEA_PIDFILE_DIR": str(folder)}
    # Debian's AppArmor profile applies to the program's path and forbids our files. A copy is not confined.
    program = shutil.copy(tool("kea-dhcp4"), folder / "kea-dhcp4")
    server = Program("kea-dhcp4", network.inside(network.dhcp, str(program), "-c", str(file)),
                     folder / "kea.log", env=environment)
    server.wait_for("DHCP4_STARTED", 15)
    return server


SERVERS = {"dnsmasq": dnsmasq, "kea": kea}
