"""The clients of the soak test that read an ISO over HTTP and iSCSI while an operator replaces it."""

import http.client
import re
import time

from support.install_clients import REQUEST_LIMIT, Actor, Interrupted
from support.iscsi_initiator import Ended, Initiator, Refused
from support.iso_uploads import sha
from support.soak_clients import Paced
from support.waiting import slowness

PIECE = 65536  # octets that a reader over HTTP takes at a time
BLOCKS = 16  # blocks of 2048 octets that a READ(10) asks for
ABSENCE = 30  # seconds until a replaced ISO must be served again, on the reference machine


class Replacer(Paced, Actor):
    """An operator that replaces the ISO "swap" by another one, in one step, while it is read."""

    def __init__(self, testbed, space):
        super().__init__(testbed, "replacer", space)
        self.replaced = 0

    def work(self):
        self.pause(20 * self.testbed.rate)  # as long at any rate: the server serves a file again some seconds after its last write
        self.replaced += 1
        self.testbed.place_swap(self.replaced)


class SwapReader(Paced, Actor):
    """A machine that boots the ISO "swap" for ever. What it reads must be one version of the ISO, whole or in part."""

    def __init__(self, testbed, name, space, mac):
        super().__init__(testbed, name, space)
        self.mac = mac
        self.whole = self.cut = self.absent = 0
        self.last = time.monotonic()

    def work(self):
        self.pause(1)
        code, body = self.http.ask("GET", f"/ipxe?mac={self.mac}")
        script = body.decode()
        if code != 200:
            raise Interrupted(f"script: {code} {script}")
        data = self.read(script) if "sanboot iscsi:" in script else None
        if data is None:
            self.absent += 1
            if time.monotonic() - self.last > ABSENCE * slowness() and not self.testbed.was_down(ABSENCE * slowness()):
                self.testbed.findings.append(f"{self.name}: the ISO was not served for {ABSENCE} s: {script[:200]}")
                self.last = time.monotonic()
            return
        is_whole = len(data) == len(self.testbed.swaps[0])
        if not any(version.startswith(data) for version in self.testbed.swaps):
            self.testbed.findings.append(f"{self.name}: {len(data)} octets that are of no version of the ISO ({sha(data)[:16]})")
        self.whole, self.cut = self.whole + is_whole, self.cut + (not is_whole)
        if is_whole:
            self.last = time.monotonic()

    def piece(self, data):
        """Waits as a slow reader does."""
        self.pause(0.02)
        return data


class SwapHttpReader(SwapReader):
    """A reader of the ISO over HTTP."""

    def read(self, _script):
        connection = http.client.HTTPConnection(self.testbed.address, 80, timeout=REQUEST_LIMIT * slowness())
        data = b""
        try:
            connection.request("GET", "/iso/swap")
            answer = connection.getresponse()
            if answer.status == 503:
                return None
            if answer.status != 200:
                raise Interrupted(f"ISO: {answer.status}")
            while part := answer.read(PIECE):
                data += self.piece(part)
        except http.client.IncompleteRead as error:
            data += error.partial
        except (OSError, http.client.HTTPException) as error:
            raise Interrupted(f"ISO: {error!r}") from None
        finally:
            connection.close()
        return data


class SwapIscsiReader(SwapReader):
    """A reader of the ISO over iSCSI, as iPXE is."""

    def read(self, script):
        port, target = re.search(r"sanboot iscsi:[^:]*::(\d*):[^:]*:(\S+)", script).groups()
        name = re.search(r"set initiator-iqn (\S+)", script)[1]
        data, session = b"", None
        try:
            session = Initiator(int(port or 3260), target, name=name, address=self.testbed.address, limit=REQUEST_LIMIT)
            for block in range(0, len(self.testbed.swaps[0]) // 2048, BLOCKS):
                part, sense = session.scsi([0x28, 0, *block.to_bytes(4, "big"), 0, 0, BLOCKS, 0])
                if sense:
                    return data
                data += self.piece(part)
            session.logout()
            return data
        except Refused:
            return None
        except (OSError, Ended, AssertionError) as error:
            raise Interrupted(f"iSCSI: {error!r}") from None
        finally:
            if session:
                session.stream.close()
