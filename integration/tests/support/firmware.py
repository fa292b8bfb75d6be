"""What clients that boot over the network send over DHCP, and when: from captures of real ones (fixtures/captures), and from
the sources of EDK2 (PxeBcDhcp4.c, PxeBcMtftp.c) and iPXE (dhcp.c)."""

import struct
from dataclasses import dataclass

UEFI_PARAMETERS = bytes.fromhex("0102030405060c0d0f111216171c28292a2b3233363a3b3c")
PXE_PARAMETERS = UEFI_PARAMETERS + bytes.fromhex("4243618081828384858687")
HTTP_PARAMETERS = UEFI_PARAMETERS + bytes.fromhex("eb4361")
IPXE_PARAMETERS = bytes.fromhex("010306070c0f111a2a2b3c4243778081828384858687afcb")
ROM_PARAMETERS = bytes([1, 2, 3, 5, 6, 11, 12, 13, 16, 17, 18, 43, 54, 60, 67, 128, 129, 130, 131, 132, 133, 134, 135])
UEFI_FEATURES = bytes.fromhex("b105011af41041eb030100002601011701012701012401011301011401011101012901011b0101150101120101")
BIOS_FEATURES = bytes.fromhex("b105011af41041eb03010000260101170101270101220101130101140101110101190101290101100102210101150101180101120101")
X64, ARM64, ARM32, BIOS, HTTP_X64 = 7, 11, 10, 0, 16


@dataclass(frozen=True)
class DhcpIdentity:
    """The part of a client's DHCP messages that tells what it is.

    `times` are the seconds after its first DISCOVER at which it sends one. A UEFI firmware and a BIOS ROM write them into the
    field `secs`; iPXE counts its messages there. `window` is the time for which it collects offers."""

    architecture: int
    vendor_class: bytes
    parameters: bytes
    times: tuple = (0, 4, 12, 28)
    window: float = 3.75
    flags: int = 0x8000
    features: bytes = b""  # of iPXE: option 175
    undi: bytes = b"\x01\x03\x00"

    @property
    def is_ipxe(self):
        return bool(self.features)

    def secs(self, number, kind=1):
        """Returns the field `secs` of the DISCOVER of that number, or of the REQUEST after it."""
        if self.is_ipxe:
            return (number + 1) * 4 + (7 if kind == 3 else 0)
        return self.times[min(number, len(self.times) - 1)]

    def options(self, mac, uuid, taken=()):
        """Returns the options of a message; `taken` are those that name the server and the address of a REQUEST."""
        architecture, machine = (93, struct.pack("!H", self.architecture)), (97, b"\0" + uuid)
        if self.is_ipxe:
            return [(57, b"\x05\xc0"), architecture, (94, self.undi), (60, self.vendor_class), (77, b"iPXE"), (55, self.parameters),
                    (175, self.features), (61, b"\x01" + bytes.fromhex(mac.replace(":", ""))), machine, *taken]
        return [*taken, (57, b"\x05\xc0"), (55, self.parameters), machine, (94, self.undi), architecture, (60, self.vendor_class)]


def pxe_class(architecture, undi="003000"):
    return f"PXEClient:Arch:{architecture:05}:UNDI:{undi}".encode()


def uefi_pxe(architecture=X64):
    """Returns the identity of UEFI's PXE client (ovmf-2025-pxe-x64.pcap, aavmf-2022-pxe-arm64.pcap)."""
    return DhcpIdentity(architecture, pxe_class(architecture), PXE_PARAMETERS)


UEFI = uefi_pxe()
# ovmf-2022-http-x64.pcap.
UEFI_HTTP = DhcpIdentity(HTTP_X64, b"HTTPClient:Arch:00016:UNDI:003000", HTTP_PARAMETERS)
# PXE 2.1: the ROM of a network card, which waits for the whole time of a DISCOVER.
BIOS_ROM = DhcpIdentity(BIOS, pxe_class(BIOS, "002001"), ROM_PARAMETERS, window=4.0, undi=b"\x01\x02\x01")
IPXE_TIMES = (0, 1, 3, 7)
# bios-ipxe-rom-2025.pcap: the ROM itself is iPXE.
IPXE_ROM = DhcpIdentity(BIOS, pxe_class(BIOS, "002001"), IPXE_PARAMETERS, IPXE_TIMES, 1.0, 0, BIOS_FEATURES, b"\x01\x02\x01")
# bios-rom-2019-then-undionly.pcap, ovmf-2025-pxe-x64.pcap: loaded over PXE, it repeats the server's class.
IPXE_BIOS = DhcpIdentity(BIOS, b"PXEClient", IPXE_PARAMETERS, IPXE_TIMES, 1.0, 0x8000, BIOS_FEATURES, b"\x01\x02\x01")
IPXE_UEFI = DhcpIdentity(X64, b"PXEClient", IPXE_PARAMETERS, IPXE_TIMES, 1.0, 0x8000, UEFI_FEATURES, b"\x01\x03\x0a")


def ipxe_of(firmware):
    """Returns the identity of the iPXE that a firmware has loaded."""
    return IPXE_BIOS if firmware.architecture == BIOS else IPXE_UEFI


# Seconds. TFTP: PXEBC_MTFTP_TIMEOUT and PXEBC_MTFTP_RETRIES of EDK2. Port 4011: its waits for a reply (PxeBcDhcp4Discover).
TFTP_WAIT, TFTP_TRIES = 4.0, 6
PORT_4011_WAITS = (1, 2, 3, 4)
# From the end of a boot program's transfer to the first packet of iPXE; from there to its DISCOVER (ovmf-2025-pxe-x64.pcap).
IPXE_START, IPXE_LINK = 0.5, 1.5
SCRIPT_RETRY = 10.0  # of our scripts, after a failed attempt to boot
SOLICIT_TIMES = (0, 1, 3, 7)  # of DHCPv6: SOL_TIMEOUT is 1 s, and doubles (RFC 8415, 7.6)
