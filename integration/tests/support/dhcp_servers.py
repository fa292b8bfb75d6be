"""Other DHCP servers and relays, started in a namespace of the test's LAN."""

import json

from lab.process import copied, run, tool


def dnsmasq(lan, space, *more):
    """Starts dnsmasq without DNS on the namespace's interface."""
    own_config = any(word.startswith("--conf-file") for word in more)
    program = lan.start(space, "dnsmasq", tool("dnsmasq"), "--no-daemon", *([] if own_config else ["--conf-file=/dev/null"]),
                        "--port=0", "--interface=lan0", "--bind-interfaces", "--log-dhcp",
                        f"--dhcp-leasefile={lan.folder}/dnsmasq.leases", *more)
    program.says("sockets bound")
    return program


def kea(lan, space, more=""):
    """Starts Kea; `more` holds further members of its Dhcp4 object as JSON text."""
    config = {"Dhcp4": {
        "interfaces-config": {"interfaces": ["lan0"], "dhcp-socket-type": "raw"},
        "lease-database": {"type": "memfile", "persist": False},
        "subnet4": [{"subnet": "10.88.0.0/24", "pools": [{"pool": "10.88.0.200 - 10.88.0.220"}]}]}}
    config["Dhcp4"] |= json.loads("{" + more + "}")
    path = lan.folder / "kea.json"
    path.write_text(json.dumps(config))
    program = lan.start(space, "kea", "unshare", "-m", "sh", "-c",
                        "mkdir -p /run/kea && mount -t tmpfs none /run/kea && "
                        f"exec {copied(lan.folder, 'kea-dhcp4')} -c {path}")
    program.says("DHCP4_STARTED")
    return program


def isc_dhcpd(lan, space, config):
    """Starts ISC dhcpd with a configuration."""
    path, leases = lan.folder / "dhcpd.conf", lan.folder / "dhcpd.leases"
    leases.touch()
    path.write_text(config)
    program = lan.start(space, "dhcpd", copied(lan.folder, "dhcpd"), "-4", "-f", "-d", "--no-pid", "-user", "root",
                        "-group", "root", "-cf", str(path), "-lf", str(leases), "lan0")
    program.says("Server starting")
    return program


def relay(lan, *servers):
    """Starts dhcrelay on a router between br0 (10.88.0.0/24) and br1 (10.89.0.0/24)."""
    space = lan.client("relay", address="10.88.0.9/24")
    lan.join(space, "br1", "10.89.0.1/24", interface="lan1")
    run(*lan.inside(space, "sysctl", "-qw", "net.ipv4.ip_forward=1"))
    program = lan.start(space, "dhcrelay", tool("dhcrelay"), "-4", "-d", "-a", "-id", "lan1", "-iu", "lan0", *servers)
    program.says("Sending on   Socket/fallback")
    return program
