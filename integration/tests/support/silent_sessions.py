"""iSCSI sessions that send nothing for minutes, in a thread of their own: what is tested is how long the target waits."""

import threading
import time

from support.iscsi_initiator import NO_TAG, Ended, Initiator
from support.iscsi_target import TARGET
from support.waiting import slowness


class SilentSessions(threading.Thread):
    """Three sessions: one answers the target's pings, one never does, one is silent before it was ever pinged, as iPXE is."""

    def __init__(self, media):
        super().__init__(daemon=True)
        self.media, self.target, self.fault = media, None, None

    def run(self):
        try:
            with self.media.target() as self.target:
                self.check(self.target)
        except BaseException as fault:  # reported by the test that waits for this thread
            self.fault = fault

    def stop(self):
        """Stops the target if the sessions still wait."""
        if self.is_alive() and self.target:
            self.target.process.terminate()
            self.join(20 * slowness())

    def check(self, target):
        started = time.monotonic()
        answering, mute, ipxe = (Initiator(target.port, TARGET, isid=isid) for isid in (1, 2, 3))
        for initiator in (answering, mute):
            ping(initiator)
        for initiator in (answering, mute, ipxe):
            initiator.stream.settimeout(120 * slowness())
        transfer = pinged(answering)
        assert time.monotonic() - started > 25, "a session is not pinged before 25 s of silence"
        answering.send(0x40, 0x80, tag=NO_TAG, words=[(20, transfer)])
        pinged(mute)
        answering.send(0x40, 0x80, tag=NO_TAG, words=[(20, pinged(answering))])
        assert time.monotonic() - started < 75 * slowness(), "a session that answered is pinged again within 75 s"
        try:
            mute.receive()
            raise AssertionError("a session that does not answer is ended")
        except (Ended, ConnectionError):
            took = time.monotonic() - started
            assert 85 < took < 120 * slowness(), f"a session that does not answer is ended after 85 to 120 s: {took}"
        target.wait_for("Silent")
        answering.send(0x40, 0x80, tag=NO_TAG, words=[(20, pinged(answering))])
        for initiator in (answering, ipxe):
            initiator.good([0x00])  # the next PDU is its response: a session that never pinged is not pinged
            initiator.logout()


def ping(initiator):
    """Sends a NOP-Out and checks that it is answered."""
    initiator.send(0x40, 0x80, tag=5, words=[(20, NO_TAG.to_bytes(4, "big"))])
    assert initiator.receive()[0][0] == 0x20, "a NOP-Out is answered with a NOP-In"


def pinged(initiator):
    """Receives a NOP-In that asks for an answer; returns its transfer tag."""
    header, data = initiator.receive()
    assert header[0] == 0x20 and header[16:20] == b"\xff" * 4 != header[20:24] and not data, f"the target sends a ping: {header.hex()}"
    return header[20:24]
