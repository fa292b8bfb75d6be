"""Faults of a rig's LAN, and the diagnosis that they lead to."""

from support.rigs import MENU

FAULT = """
server: |
  unknown_hosts = "menu"
machines: [{name: vm1, firmware: FIRMWARE_UEFI, memory_mib: 256}]
"""


def test_tftp_that_breaks_off_is_diagnosed(user):
    spec = user.write("tftp.yaml", FAULT + "faults: [{drop: tftp, after: 40kB}]\nexpect:\n- {event: offer}\n- {diagnosis: transfer_silent}\n")
    code, printed = user.run("test", spec, "tftp")
    assert code == 0, printed
    assert "of snponly.efi" in (user.folder / "tftp/vm1.why.txt").read_text()


def test_what_is_not_met_is_explained(user):
    """DHCP is dropped on the LAN: neither dnsmasq nor bootlatch hears the machine."""
    spec = user.write("unmet.yaml", "dhcp: proxy\n" + MENU + 'faults: [{drop: dhcp}]\nexpect: [{event: offer, within: 20s}, {console: "iPXE shell"}]\n')
    code, printed = user.run("test", spec, "unmet", "--strict")
    assert code == 1 and "NOT MET: not within 20.0 s" in printed and "Why vm1 is not there:" in printed, printed
    assert "Faults of the rig's LAN: drop dhcp\nThe end of its console:\n" in printed and "iPXE" in printed.split("The end of its console:")[1], printed
    report = (user.folder / "unmet/junit.xml").read_text()
    assert 'failures="1"' in report and "<skipped/>" in report and 'message="not within 20.0 s"' in report


def test_keys_that_qemu_refuses_fail_their_expectation(user):
    spec = user.write("keys.yaml", MENU + 'expect: [{console: "iPXE shell", press: [nokey]}]\n')
    code, printed = user.run("test", spec, "keys")
    assert code == 1 and "NOT MET: keys not pressed: send-key: " in printed and "0 of 1 expectations met" in printed, printed


def test_a_lan_that_loses_and_delays_is_still_booted_over(user):
    spec = user.write("lossy.yaml", MENU + 'faults: [{lose: 5}, {delay: 5ms}]\nexpect: [{console: "iPXE shell", within: 120s}]\n')
    code, printed = user.run("test", spec, "lossy")
    assert code == 0, printed
