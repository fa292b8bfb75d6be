"""The LANs that boots are staged on. Each function returns a LAN that is not started yet."""

import tempfile
import threading
from pathlib import Path

from support.address_server import Treatment
from support.dhcp_servers import dnsmasq
from support.objects import IMAGES
from support.staged_images import bootable_iso
from support.staged_lan import SERVER, StagedLan

RIVAL, RIVAL_MAC = "10.88.0.3", "52:54:00:88:ff:03"
ROGUE, ROGUE_MAC = "192.168.99.1", "52:54:00:88:ff:99"
FOREIGN_URL = "https://boot.example.org/live.ipxe"
TOKEN_TTL, INSTALL_TIMEOUT, MAX_BOOTS = 10, 25, 3


class Isos:
    """The ISOs that all LANs serve, made once."""

    lock, folder, made = threading.Lock(), None, {}

    @classmethod
    def path(cls, name, **kind):
        """Returns the path of an ISO of `bootable_iso`."""
        with cls.lock:
            cls.folder = cls.folder or tempfile.TemporaryDirectory(prefix="bisos-", dir="/var/tmp")
            if name not in cls.made:
                cls.made[name] = bootable_iso(Path(cls.folder.name), name, **kind)
            return cls.made[name]


def live():
    return Isos.path("live")


class MainLan(StagedLan):
    """A LAN where all is well, but for single machines. It has images that cannot be booted in several ways."""

    def __init__(self):
        uefi_only = Isos.path("uefi", bios=False)
        super().__init__(isos={"live": live(), "gone": live(), "shrunk": live(), "web": live(), "kernel": live(), "uefi": uefi_only})

    def start(self):
        super().start()
        self.change(IMAGES, "web", method="http")
        self.change(IMAGES, "kernel", method="kernel")
        self.make(IMAGES, "ISCSICdrom", "foreign", {"method": "chain", "url": FOREIGN_URL, "bootConfigs": ["cfg"]})


class StrictLan(StagedLan):
    """A LAN whose server bounds installs and tokens closely, and gives a config only to the machine's address with its token."""

    def __init__(self):
        super().__init__(f'[install]\ntimeout = "{INSTALL_TIMEOUT}s"\nmax_boots = {MAX_BOOTS}\n'
                         f'[config_access]\nrequire = "both"\ntoken_ttl = "{TOKEN_TTL}s"\n', isos={"live": live()})


class AddresslessLan(StagedLan):
    """A LAN whose DHCP server does not run."""

    def __init__(self):
        super().__init__(isos={"live": live()})
        self.dhcp.usual = Treatment(is_mute=True)


class SnoopingLan(StagedLan):
    """A LAN whose switch drops the DHCP messages of our server: DHCP snooping."""

    def __init__(self):
        super().__init__(isos={"live": live()})
        port = self.inside(self.lan.switch, "bridge", "-o", "link").splitlines()[0].split()[1].split("@")[0]
        self.inside(self.lan.switch, "nft", "add table bridge b; add chain bridge b f { type filter hook forward priority 0; }; "
                    f"add rule bridge b f iifname {port} udp sport 67 drop")

    def trust_port(self):
        """Makes the switch pass our DHCP messages."""
        self.inside(self.lan.switch, "nft", "delete table bridge b")


class ClaimingLan(StagedLan):
    """A LAN whose DHCP server sends option 60, as one does that WDS ran on."""

    def __init__(self):
        super().__init__(isos={"live": live()})
        self.dhcp.usual = Treatment(options=[(60, b"PXEClient")])


class RivalLan(StagedLan):
    """A LAN with a second ProxyDHCP server: dnsmasq."""

    def __init__(self):
        super().__init__(isos={"live": live()})
        self.rival_space = self.lan.client("rival", mac=RIVAL_MAC, address=f"{RIVAL}/24")

    def start(self):
        super().start()
        self.rival = dnsmasq(self.lan, self.rival_space, "--dhcp-range=10.88.0.0,proxy", "--pxe-service=X86-64_EFI,net,rival",
                             "--pxe-service=BC_EFI,net,rival", "--no-ping", "--user=root")


class RogueLan(StagedLan):
    """A LAN that somebody plugged a router into: it answers first, with addresses of another network."""

    def __init__(self):
        super().__init__(isos={"live": live()})
        space = self.lan.client("rogue", mac=ROGUE_MAC, address=f"{ROGUE}/24")
        self.rogue = self.address_server(space, ROGUE)
        self.rogue.pool = ["192.168.99.50"]
        self.dhcp.usual = Treatment(is_mute=True)

    def unplug(self):
        """Removes the router; the LAN's own server answers."""
        self.rogue.usual = Treatment(is_mute=True)
        self.dhcp.usual = Treatment()


class UnheardLan(StagedLan):
    """A LAN whose DHCP server names our boot program itself; our server reads no DHCP (mode = "off")."""

    def __init__(self):
        super().__init__('[dhcp]\nmode = "off"\n', isos={"live": live()})
        self.dhcp.usual = Treatment(file="snponly.efi", next_server=SERVER)


class FullTableLan(StagedLan):
    """A LAN whose server reads the counters of the neighbour table from a file.

    Linux has one table for all namespaces, and shows its limits (gc_thresh) and its counters in the first one only: a table that is
    really full would stop every other program of the computer. All else below /proc/net is the kernel's."""

    COUNTERS = "entries  allocs   table_fulls\n00000001 00000001 {:08x}\n"

    def __init__(self):
        super().__init__(isos={"live": live()})
        self.net, self.proc = self.folder / "net", self.folder / "proc"
        (self.net / "stat").mkdir(parents=True)
        self.proc.mkdir()
        for name in ("arp", "tcp", "tcp6", "route", "packet", "udp", "udp6", "dev", "if_inet6"):
            (self.net / name).symlink_to(self.proc / "self/net" / name)
        self.set_refused(0)
        hide = f'mount -t proc proc {self.proc} && mount --bind {self.net} /proc/$$/net && exec "$@"'
        self.wrapper = ("unshare", "--mount", "sh", "-c", hide, "sh")

    def set_refused(self, count):
        """Sets how many entries found no place in the table."""
        fresh = self.folder / "arp_cache"
        fresh.write_text(self.COUNTERS.format(count))
        fresh.replace(self.net / "stat/arp_cache")


def plain():
    return StagedLan(isos={"live": live()})


NETWORKS = {"main": MainLan, "strict": StrictLan, "addressless": AddresslessLan, "snooping": SnoopingLan, "claiming": ClaimingLan,
            "rival": RivalLan, "rogue": RogueLan, "relayed": plain, "stopped": plain,
            "flooded": plain, "pxelinux": MainLan, "unheard": UnheardLan, "full_table": FullTableLan}
