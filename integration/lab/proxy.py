"""ProxyDHCP next to a real DHCP server: the replies to each kind of client, and which clients get none."""

from .lab import Lab
from .network import APPLIANCE_ADDRESS, DHCP_ADDRESS
from .process import LabError
from .pxe_client import Client, collect, packet, rom, socket_in

BIOS, UEFI_X64, UEFI_ARM64 = 0, 7, 11
# Option 175 of Debian 13's snponly.efi: it supports HTTP (19), iSCSI (17) and EFI (36).
IPXE_FEATURES = bytes.fromhex("b105011af41041eb030100002601011701012701012401011301011401011101012901011b0101150101120101")


def expect(held, what):
    if not held:
        raise LabError(what)


def both(xid):
    """Returns a condition: both the LAN's server and bootlatch have replied to a transaction."""
    return lambda replies: {DHCP_ADDRESS, APPLIANCE_ADDRESS} <= {one.sender for one in replies if one.xid == xid}


def reply_of(replies, xid, sender):
    """Returns the reply of a server to a transaction."""
    return next(one for one in replies if one.xid == xid and one.sender == sender)


def check_offers(client, options):
    """Checks that the LAN's server offers the address, and bootlatch the boot file and no address; returns both offers."""
    xid = client.broadcast(options)
    replies = client.replies(both(xid))
    address, proxy = reply_of(replies, xid, DHCP_ADDRESS), reply_of(replies, xid, APPLIANCE_ADDRESS)
    expect(address.yiaddr.startswith("10.77.0.") and not address.file, f"the LAN's offer: {address}")
    expect(proxy.yiaddr == "0.0.0.0" and 51 not in proxy.options, f"an address was offered: {proxy}")
    expect(proxy.options.get(60) == b"PXEClient", f"option 60: {proxy.options.get(60)}")
    expect(proxy.options.get(54) is not None and proxy.siaddr == APPLIANCE_ADDRESS, f"server identifier: {proxy}")
    return address, proxy


def check_file(client, architecture, program):
    """Checks that a ROM of that architecture gets its program by DHCP, and on port 4011."""
    options = rom(architecture, client.mac)
    address, proxy = check_offers(client, options)
    expect(proxy.file.endswith(program), f"architecture {architecture}: {proxy.file!r}, not {program}")
    client.take_address(address.yiaddr)
    with socket_in(client.space, 4011) as second:
        xid, raw = packet(client.mac, 3, options, ciaddr=address.yiaddr, broadcast=False)
        def send():
            second.sendto(raw, (APPLIANCE_ADDRESS, 4011))
        send()
        reply = collect(second, send, lambda replies: any(one.xid == xid for one in replies))[-1]
    expect(reply.file.endswith(program), f"port 4011, architecture {architecture}: {reply}")


def check_ipxe(client):
    """Checks that iPXE gets the script; an iPXE without the features that the script needs gets our iPXE."""
    claims = {**rom(UEFI_X64, client.mac), 60: b"PXEClient", 77: b"iPXE"}
    _, able = check_offers(client, {**claims, 175: IPXE_FEATURES})
    expect(able.file.startswith(f"http://{APPLIANCE_ADDRESS}"), f"iPXE gets {able.file!r}, not the script")
    _, unable = check_offers(client, {**claims, 175: bytes([36, 1, 1])})
    expect(unable.file.endswith(".efi"), f"an iPXE without HTTP gets {unable.file!r}")


def check_silence(client):
    """Checks that a DHCP client that does not boot gets no reply from bootlatch."""
    plain = client.broadcast({55: bytes([1, 3, 6]), 12: b"workstation"})
    client.replies(lambda replies: any(one.xid == plain for one in replies))
    boot = client.broadcast(rom(UEFI_X64, client.mac))  # its reply would come after a reply to the first request
    replies = client.replies(both(boot))
    expect(not [one for one in replies if one.xid == plain and one.sender == APPLIANCE_ADDRESS],
           f"a plain DHCP client got a reply: {replies}")


def proxied(kit, dhcp_server):
    with Lab(kit, f"proxy-{dhcp_server}", dhcp_server) as lab:
        lab.serve()
        for number, (architecture, program) in enumerate(
                [(BIOS, "undionly.kpxe"), (UEFI_X64, ".efi"), (UEFI_ARM64, "ipxe-arm64.efi")]):
            client = Client(lab.network, f"52:54:00:78:00:{number:02x}")
            check_file(client, architecture, program)
            client.close()
        ipxe = Client(lab.network, "52:54:00:78:00:10")
        check_ipxe(ipxe)
        ipxe.close()
        plain = Client(lab.network, "52:54:00:78:00:11")
        check_silence(plain)
        plain.close()
        lab.appliance.stop()


SCENARIOS = {f"ProxyDHCP next to {name} replies to boot ROMs and to no other client":
             lambda kit, server=name.split()[0].lower(): proxied(kit, server) for name in ("dnsmasq", "Kea")}
