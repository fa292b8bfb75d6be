"""Losses of power within each sync of the first start, when the server makes its database, its keys and its tokens."""

import os
import random

from support.lan import Lan
from support.lossy_files import LossyFiles
from support.programs import bootlatch
from support.waiting import eventually

OUTCOMES = 4  # outcomes of each loss of power that are tried
MOST_SYNCS = 60
SEED = int(os.environ.get("CRASH_SEED") or random.SystemRandom().randrange(1 << 32))


class FirstStart:
    """A server with an empty state directory."""

    def __init__(self, lan, space, name):
        self.lan, self.space, self.state = lan, space, lan.folder / name
        self.files = LossyFiles(lan.folder, self.state)

    def start(self, kill_at=None):
        variables = [f"{name}={value}" for name, value in self.files.environment(kill_at).items()]
        self.program = self.lan.start(self.space, "bootlatch", "env", *variables, str(bootlatch()), "serve", "--config",
                                      str(self.lan.folder / "bootlatch.toml"), "--interface", "lan0", "--state-dir", str(self.state),
                                      "--firmware-dir", str(self.lan.folder / "firmware"))

    def is_killed(self):
        """Waits until the server is ready or was killed; returns whether it was killed."""
        ended = lambda: self.program.process.poll() is not None
        assert eventually(lambda: "ready" in self.program.text() or ended(), 30), self.program.text()
        return ended()


def test_the_server_starts_after_a_loss_of_power_within_each_sync_of_its_first_start():
    dice = random.Random(SEED)
    with Lan("br0") as lan:
        space = lan.client("server", address="10.88.0.2/24")
        (lan.folder / "firmware").mkdir()
        (lan.folder / "bootlatch.toml").write_text('user = "root"\n[dhcp]\nmode = "off"\n[api]\nlisten = "10.88.0.2:6443"\ntls = true\n')
        for sync in range(1, MOST_SYNCS):
            for outcome in range(OUTCOMES):
                server = FirstStart(lan, space, f"state-{sync}-{outcome}")
                server.start(kill_at=sync)
                if not server.is_killed():
                    server.program.stop()
                    assert sync > 5, f"the first start syncs what it makes: {sync} syncs"
                    return
                server.files.program_ended()
                server.files.lose_power(dice)
                server.start()
                assert not server.is_killed(), f"CRASH_SEED={SEED}, sync {sync}: {server.program.text()[-2000:]}"
                server.program.stop()
    raise AssertionError(f"the first start has fewer than {MOST_SYNCS} syncs")
