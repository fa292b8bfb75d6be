"""bootlatch doctor: each staged fault is found and named, and a healthy appliance has no finding."""

import subprocess

import pytest

from support.dhcp_servers import dnsmasq
from support.doctor_bed import DHCP_SERVER, RIVAL, DoctorBed
from support.faked_clock import FakedClock
from support.lan import Lan, tool, until

WELL, WARNINGS, ERRORS = 0, 7, 8


@pytest.fixture(scope="module")
def bed():
    """A stopped appliance next to a DHCP server."""
    with Lan("br0") as lan:
        yield DoctorBed(lan)


@pytest.fixture(autouse=True)
def as_it_was(request):
    """Has the module's appliance stopped, with its first configuration, after each test."""
    yield
    if "bed" in request.fixturenames:
        request.getfixturevalue("bed").restore()


@pytest.fixture
def own_bed():
    with Lan("br0") as lan:
        yield DoctorBed(lan)


@pytest.fixture
def lonely_bed():
    """An appliance without a DHCP server on its LAN."""
    with Lan("br0") as lan:
        yield DoctorBed(lan, has_dhcp=False)


def only(found, code, severity):
    """Asserts that one finding was made, and returns it."""
    status, findings = found
    assert list(findings) == [code], findings
    finding = findings[code]
    assert finding["severity"] == severity and finding["seen"] and finding["remedy"], finding
    assert status == (ERRORS if severity == "error" else WARNINGS)
    return finding


def test_a_healthy_appliance_has_no_finding_stopped_and_running(bed):
    code, report = bed.look("--probe")
    assert (code, report["findings"], report["notChecked"], report["isRunning"]) == (WELL, [], [], False), report
    bed.start()
    bed.hears(DHCP_SERVER)
    code, report = bed.look()
    assert (code, report["findings"], [one["check"] for one in report["notChecked"]], report["isRunning"]) == (WELL, [], ["ipv6"], True), report
    code, report = bed.look("--probe")
    assert (code, report["findings"], report["notChecked"], report["isRunning"]) == (WELL, [], [], True), report
    checks = {"configuration", "server", "interfaces", "ports", "programs", "disk_space", "state_directory", "certificates", "certificate_names", "manifests",
              "readiness", "neighbour_table", "receive_buffers", "paths", "clock", "segments", "ipv6", "firewall", "firewall_legacy"}
    assert set(report["checked"]) == checks


def test_a_stopped_appliance_is_not_asked_what_it_has_heard(bed):
    code, report = bed.look()
    assert (code, report["findings"]) == (WELL, [])
    assert [one["check"] for one in report["notChecked"]] == ["segments", "ipv6"]
    assert all("--probe" in one["reason"] for one in report["notChecked"])


def test_a_user_who_may_not_ask_the_server_gets_no_false_alarm(bed):
    bed.start()
    code, report = bed.look(as_user=12345)
    assert (code, report["isRunning"], report["findings"]) == (WELL, None, []), report
    missed = {one["check"]: one["reason"] for one in report["notChecked"]}
    assert missed["server"] == missed["segments"] == f"{bed.state}/api.sock: needs root", missed


def test_without_root_it_says_what_it_could_not_look_at(bed):
    bed.start()
    bed.hears(DHCP_SERVER)
    code, report = bed.look(as_user=65534)
    assert (code, report["findings"]) == (WELL, []), report
    missed = {one["check"]: one["reason"] for one in report["notChecked"]}
    assert {"ports", "firewall", "receive_buffers", "state_directory"} <= set(missed) and missed["firewall"] == "needs root"


@pytest.mark.parametrize(("port", "udp", "name"), [(69, True, "UDP 69"), (80, False, "TCP 80"), (3260, False, "TCP 3260")])
def test_a_port_that_is_taken(bed, port, udp, name):
    holder = bed.hold(port, udp)
    finding = only(bed.finds(), "port_taken", "error")
    assert finding["subject"].startswith(name) and f"python3 (process {holder.process.pid})" in finding["seen"], finding
    holder.stop()
    assert bed.finds() == (WELL, {})


def test_a_dhcp_port_that_is_taken_matters_where_the_server_needs_it(bed):
    for port in (67, 4011):
        holder = bed.hold(port)
        assert bed.finds() == (WELL, {}), "the server reads the port with a packet socket"
        bed.configure('[dhcp]\nsocket = "udp"\n')
        finding = only(bed.finds(), "port_taken", "error")
        assert finding["subject"].startswith(f"UDP {port}") and f"python3 (process {holder.process.pid})" in finding["seen"], finding
        bed.configure()
        holder.stop()


def test_a_server_that_does_not_listen_where_its_configuration_says(bed):
    bed.start()
    bed.hears(DHCP_SERVER)
    bed.configure(top="http_port = 8081\n")
    finding = only(bed.finds(), "port_not_listening", "error")
    assert finding["subject"] == "TCP 8081 at 10.88.0.2 (http_port)"
    holder = bed.hold(8081, udp=False)
    assert "is taken by python3" in only(bed.finds(), "port_taken", "error")["seen"]
    holder.stop()


def test_boot_programs_that_are_missing_empty_or_unreadable(bed):
    program = bed.firmware / "snponly.efi"
    program.unlink()
    finding = only(bed.finds(), "program_missing", "error")
    assert finding["subject"] == str(program) and "x86_64-uefi" in finding["seen"] and "firmware/stage" in finding["remedy"]
    program.write_bytes(b"")
    only(bed.finds(), "program_empty", "error")
    program.write_bytes(b"program")
    program.chmod(0o600)
    only(bed.finds(), "program_unreadable", "error")
    program.chmod(0o644)
    bed.configure('[[overrides]]\nmac = "52:54:00"\nprogram = "shimx64.efi"\n')
    status, findings = bed.finds()
    assert (status, set(findings)) == (ERRORS, {"program_missing"})
    (bed.firmware / "shimx64.efi").write_bytes(b"shim")
    finding = only(bed.finds(), "program_missing", "error")
    assert finding["subject"].endswith("grubx64.efi") and "shimx64.efi cannot boot" in finding["seen"]


def test_a_firewall_that_drops_tftp(bed):
    bed.nft("add table inet filter; add chain inet filter input { type filter hook input priority 0; policy accept; }; add rule inet filter input udp dport 69 drop")
    finding = only(bed.finds(), "firewall_drops", "error")
    assert finding["subject"] == "TFTP requests (UDP 69) on lan0" and "udp dport 69" in finding["seen"]
    # What it says to do helps.
    bed.nft(finding["remedy"].split("nft ")[1])
    assert bed.finds() == (WELL, {})
    bed.nft("flush ruleset; add table inet filter; add chain inet filter input { type filter hook input priority 0; policy drop; }")
    status, report = bed.look()
    assert status == ERRORS and {finding["code"] for finding in report["findings"]} == {"firewall_drops"}
    assert len(report["findings"]) == 6, report
    for finding in report["findings"]:
        bed.nft(finding["remedy"].split("nft ")[1])
    assert bed.finds() == (WELL, {})
    bed.nft("flush ruleset")


def test_rules_of_iptables_legacy(own_bed):
    bed = own_bed
    bed.iptables("-A", "INPUT", "-i", "lan0", "-p", "udp", "-m", "multiport", "--dports", "69,70", "-m", "comment", "--comment", "no tftp", "-j", "DROP")
    finding = only(bed.finds(), "firewall_drops", "error")
    assert finding["subject"] == "TFTP requests (UDP 69) on lan0" and "iptables-legacy filter INPUT" in finding["seen"] and "no tftp" in finding["seen"]
    bed.iptables(*finding["remedy"].split("iptables-legacy ")[1].split())
    assert bed.finds() == (WELL, {}), "what it says to do helps"
    bed.iptables("-F")
    bed.iptables("-P", "INPUT", "DROP")
    status, report = bed.look()
    assert status == ERRORS and [finding["code"] for finding in report["findings"]] == ["firewall_drops"] * 6, report
    for finding in report["findings"]:
        bed.iptables(*finding["remedy"].split("iptables-legacy ")[1].split())
    assert bed.finds() == (WELL, {})


@pytest.fixture
def bridged_bed(own_bed):
    """An appliance whose interface is the bridge br9: the LAN is behind its port lan0."""
    bed = own_bed
    for command in ("link add br9 type bridge forward_delay 0 mcast_snooping 0", "link set br9 up", "address del 10.88.0.2/24 dev lan0", "address add 10.88.0.2/24 dev br9"):
        bed.lan.ip(bed.space, *command.split())
    bed.lan.ip(bed.space, "link", "set", "lan0", "master", "br9")
    bed.file.write_text(bed.file.read_text().replace("lan0", "br9"))
    yield bed


def test_an_interface_that_is_a_port_of_a_bridge(bridged_bed):
    bed = bridged_bed
    bed.lan.ip(bed.space, "address", "add", "10.88.0.12/24", "dev", "lan0")
    bed.file.write_text(bed.file.read_text().replace("br9", "lan0"))
    finding = only(bed.finds(), "interface_in_bridge", "error")
    assert finding["subject"] == "lan0" and "br9" in finding["seen"] and "br9" in finding["remedy"]


def test_rules_of_a_bridge(bridged_bed):
    bed = bridged_bed
    assert bed.finds() == (WELL, {})
    bed.nft("add table bridge t; add chain bridge t c { type filter hook input priority 0; policy accept; }; add rule bridge t c iifname lan0 udp dport 69 drop")
    finding = only(bed.finds(), "firewall_drops", "error")
    assert finding["subject"] == "TFTP requests (UDP 69) on br9" and "bridge t c" in finding["seen"]
    bed.nft(finding["remedy"].split("nft ")[1])
    assert bed.finds() == (WELL, {}), "what it says to do helps"
    bed.nft("flush ruleset")


def test_a_bridge_whose_frames_meet_the_rules_of_ip(bridged_bed):
    bed = bridged_bed
    bed.sysctl("net.bridge.bridge-nf-call-iptables=0")
    bed.nft("add table ip t; add chain ip t c { type filter hook forward priority 0; policy drop; }")
    assert bed.finds() == (WELL, {}), "frames pass by the rules of IP"
    bed.sysctl("net.bridge.bridge-nf-call-iptables=1")
    status, report = bed.look()
    assert status == WARNINGS and [finding["code"] for finding in report["findings"]] == ["firewall_drops_bridged"] * 2, report
    assert "bridge-nf-call-iptables=0" in report["findings"][0]["remedy"]
    bed.configure('[dhcp]\nmode = "server"\n[[dhcp.subnets]]\nsubnet = "10.88.0.0/24"\npools = ["10.88.0.100-10.88.0.199"]\n')
    bed.file.write_text(bed.file.read_text().replace("lan0", "br9"))
    assert bed.finds() == (WELL, {}), "no other server gives addresses"


def test_a_strict_reverse_path_filter_with_two_interfaces_in_one_network(own_bed):
    bed = own_bed
    bed.lan.join(bed.space, "br0", "10.88.0.12/24", interface="lan1")
    assert bed.finds() == (WELL, {}), "the filter is off"
    bed.sysctl("net.ipv4.conf.lan0.rp_filter=1")
    finding = only(bed.finds(), "reverse_path_filter", "warning")
    assert finding["subject"] == "lan0" and "lan1" in finding["seen"] and "rp_filter=2" in finding["remedy"]
    bed.sysctl("net.ipv4.conf.lan0.rp_filter=2")
    assert bed.finds() == (WELL, {})


def test_a_subnet_without_a_route(bed):
    bed.configure('[dhcp]\nrelays = ["10.99.0.1"]\n')
    finding = only(bed.finds(), "no_route", "error")
    assert finding["subject"] == "dhcp.relays" and "10.99.0.1" in finding["seen"]
    bed.lan.ip(bed.space, "route", "add", "10.99.0.0/24", "via", "10.88.0.9")
    assert bed.finds() == (WELL, {})
    bed.lan.ip(bed.space, "route", "del", "10.99.0.0/24")


def test_a_second_server_that_tells_machines_what_to_boot(own_bed):
    bed = own_bed
    dnsmasq(bed.lan, bed.lan.client("rival", address=f"{RIVAL}/24"), "--dhcp-range=10.88.0.0,proxy", "--pxe-service=x86PC,boot,pxelinux")
    finding = only(bed.finds("--probe"), "other_boot_server", "warning")
    assert finding["subject"] == "lan0" and RIVAL in finding["seen"]
    bed.start()
    bed.hears(RIVAL)
    bed.hears(DHCP_SERVER)
    assert RIVAL in only(bed.finds(), "other_boot_server", "warning")["seen"], "as the running server has heard"
    bed.stop()
    bed.configure('[dhcp]\non_other_server = "stand_down"\n')
    bed.start()
    bed.hears(RIVAL)
    bed.hears(DHCP_SERVER)
    assert "leaves them to it" in only(bed.finds(), "other_boot_server", "error")["seen"]


def test_nobody_gives_addresses(lonely_bed):
    bed = lonely_bed
    only(bed.finds("--probe"), "no_address_server", "warning")
    bed.start()
    finding = only(bed.finds(), "no_address_server", "warning")
    assert "lan0" == finding["subject"] and 'mode = "server"' in finding["remedy"]
    bed.stop()
    bed.configure('[dhcp]\nmode = "server"\n[[dhcp.subnets]]\nsubnet = "10.88.0.0/24"\npools = ["10.88.0.100-10.88.0.199"]\n')
    assert bed.finds("--probe") == (WELL, {})
    bed.start()
    assert bed.finds() == (WELL, {})


def test_two_servers_that_give_addresses(own_bed):
    bed = own_bed
    bed.configure('[dhcp]\nmode = "server"\n[[dhcp.subnets]]\nsubnet = "10.88.0.0/24"\npools = ["10.88.0.100-10.88.0.199"]\n')
    finding = only(bed.finds("--probe"), "other_dhcp_server", "error")
    assert DHCP_SERVER in finding["seen"]


def test_a_dhcp_server_that_has_no_address_for_unknown_machines(lonely_bed):
    bed = lonely_bed
    dnsmasq(bed.lan, bed.lan.client("dhcp", address=f"{DHCP_SERVER}/24"), "--dhcp-range=10.88.0.0,static,1h")
    finding = only(bed.finds("--probe"), "no_address_server", "warning")
    assert DHCP_SERVER in finding["seen"] and "only machines that it knows" in finding["seen"], "it answers DHCPINFORM only"
    bed.configure('[dhcp]\nmode = "server"\n[[dhcp.subnets]]\nsubnet = "10.88.0.0/24"\npools = ["10.88.0.100-10.88.0.199"]\n')
    assert DHCP_SERVER in only(bed.finds("--probe"), "other_dhcp_server", "warning")["seen"]


ROUTER = "interface lan0 {{ AdvSendAdvert on; MinRtrAdvInterval 3; MaxRtrAdvInterval 4; AdvManagedFlag {managed}; AdvOtherConfigFlag {other}; prefix fd00:88::/64 {{ }}; }};\n"


def test_a_router_that_sends_machines_to_dhcpv6(bed):
    router = bed.lan.client("router")
    bed.lan.ip(router, "address", "add", "fd00:88::1/64", "dev", "lan0", "nodad")
    own = until("the router's address is usable", lambda: link_local(bed.lan, router))
    until("the server's address is usable", lambda: link_local(bed.lan, bed.space))
    for managed, other, flag in (("off", "off", None), ("off", "on", "O flag"), ("on", "on", "M flag")):
        radvd = start_radvd(bed.lan, router, ROUTER.format(managed=managed, other=other))
        if flag is None:
            assert bed.finds("--probe") == (WELL, {})
        else:
            finding = only(bed.finds("--probe"), "dhcpv6_unanswered", "warning")
            assert finding["subject"] == "lan0" and own in finding["seen"] and flag in finding["seen"], finding
        radvd.stop()
    # A DHCPv6 server answers, and then names a boot file. dnsmasq also sends the advertisement.
    server = dnsmasq(bed.lan, router, "--enable-ra", "--dhcp-range=fd00:88::100,fd00:88::200,1h")
    assert bed.finds("--probe") == (WELL, {})
    server.stop()
    server = dnsmasq(bed.lan, router, "--enable-ra", "--dhcp-range=fd00:88::100,fd00:88::200,1h", "--dhcp-option=option6:bootfile-url,tftp://[fd00:88::1]/x.efi")
    finding = only(bed.finds("--probe"), "ipv6_boot_server", "warning")
    assert own in finding["seen"] and "tftp://[fd00:88::1]/x.efi" in finding["seen"], finding
    server.stop()
    # One that gives no addresses is asked for its settings.
    server = dnsmasq(bed.lan, router, "--enable-ra", "--dhcp-range=fd00:88::,ra-stateless", "--dhcp-option=option6:bootfile-url,tftp://[fd00:88::1]/y.efi")
    assert "y.efi" in only(bed.finds("--probe"), "ipv6_boot_server", "warning")["seen"]
    server.stop()


def link_local(lan, space):
    """Returns the link-local address of lan0 once it is not tentative any more."""
    found = [line.split()[1].split("/")[0] for line in lan.ip(space, "-6", "address", "show", "dev", "lan0", "scope", "link").splitlines() if "inet6" in line and "tentative" not in line]
    return found[0] if found else None


def start_radvd(lan, space, config):
    path = lan.folder / "radvd.conf"
    path.write_text(config)
    program = lan.start(space, "radvd", tool("radvd"), "--nodaemon", "--logmethod", "stderr", "--debug", "1", "--config", str(path), "--pidfile", str(lan.folder / "radvd.pid"))
    program.says("started")
    return program


def test_a_neighbour_table_that_is_too_small(bed):
    bed.configure('[dhcp]\nmode = "server"\n[[dhcp.subnets]]\nsubnet = "10.88.0.0/16"\npools = ["10.88.64.0-10.88.95.255"]\n')
    finding = only(bed.finds(), "neighbour_table_small", "warning")
    assert "8192 machines" in finding["seen"] and "gc_thresh3=16384" in finding["remedy"]


def test_certificates_by_their_dates(bed):
    rows = [("good", "-1d", 365, None, None), ("old", "-400d", 30, "certificate_expired", "error"), ("soon", "-20d", 30, "certificate_expires_soon", "warning"),
            ("early", "+10d", 365, "certificate_not_yet_valid", "error")]
    for name, started, days, code, severity in rows:
        certificate, key = bed.certificate(name, started, days)
        bed.configure(f'[api]\nlisten = "10.88.0.2:6443"\ntls = true\ncertificate = "{certificate}"\nkey = "{key}"\n')
        status, findings = bed.finds()
        # This machine's clock may be synchronized or not: with TLS that matters.
        findings.pop("clock_unsynchronized", None)
        if code is None:
            assert findings == {}, findings
        else:
            assert list(findings) == [code] and findings[code]["severity"] == severity, findings
            assert findings[code]["subject"] == str(certificate)
    certificate.write_text("nonsense")
    assert "certificate_unusable" in bed.finds()[1]


def test_certificates_by_their_names(bed):
    rows = [("IP:10.88.0.2", None), ("DNS:boot.invalid,IP:10.88.0.2", None), ("DNS:localhost", "certificate_other_names"), ("IP:10.88.0.99", "certificate_other_names"),
            ("DNS:boot.invalid", "certificate_other_names"), ("DNS:*.lab.invalid", None), ("", "certificate_without_names")]
    for number, (names, code) in enumerate(rows):
        certificate, key = bed.certificate(f"named{number}", "-1d", 365, names)
        bed.configure(f'[api]\nlisten = "10.88.0.2:6443"\ntls = true\ncertificate = "{certificate}"\nkey = "{key}"\n')
        status, findings = bed.finds()
        findings.pop("clock_unsynchronized", None)
        assert list(findings) == ([code] if code else []), (names, findings)
        if names == "IP:10.88.0.99":
            assert "10.88.0.99" in findings[code]["seen"] and "10.88.0.2" in findings[code]["seen"] and findings[code]["severity"] == "warning"
        if not names:
            assert findings[code]["severity"] == "error" and status == ERRORS
    # The certificate that the server made at its first start is for the address that it had then.
    bed.configure('[api]\nlisten = "10.88.0.2:6443"\ntls = true\n')
    bed.start()
    bed.stop()
    assert "certificate_other_names" not in bed.finds()[1]
    bed.lan.ip(bed.space, "address", "add", "10.88.0.77/24", "dev", "lan0")
    bed.configure('[api]\nlisten = "10.88.0.77:6443"\ntls = true\n')
    assert "10.88.0.77" in bed.finds()[1]["certificate_other_names"]["seen"]
    bed.lan.ip(bed.space, "address", "del", "10.88.0.77/24", "dev", "lan0")


def test_a_manifest_with_an_error(bed):
    manifest = bed.manifests / "hosts.yaml"
    manifest.write_text("apiVersion: v1\nkind: BareMetalHost\nmetadata: {name: a}\nspec: {bootMACAddress: nonsense}\n")
    finding = only(bed.finds(), "manifest_invalid", "error")
    assert "hosts.yaml: line 4" in finding["seen"] and "is not a MAC address" in finding["seen"]
    # Only the running server knows that an image does not exist; it also says that it is not ready, which is one finding.
    manifest.write_text("apiVersion: v1\nkind: BareMetalHost\nmetadata: {name: a}\nspec: {bootMACAddress: '52:54:00:00:00:01', image: nothing}\n")
    assert bed.finds() == (WELL, {})
    bed.start()
    bed.hears(DHCP_SERVER)
    assert "hosts.yaml" in only(bed.finds(), "manifest_invalid", "error")["seen"]


def test_a_state_directory_that_others_read(bed):
    bed.start()
    bed.stop()
    token = bed.state / "admin.token"
    token.chmod(0o644)
    finding = only(bed.finds(), "state_readable", "error")
    assert finding["subject"] == str(token)
    token.chmod(0o600)
    bed.state.chmod(0o777)
    only(bed.finds(), "state_writable", "error")
    bed.state.chmod(0o750)
    (bed.state / "lock").rename(bed.state / "lock.old")
    (bed.state / "lock").symlink_to("/etc/passwd")
    only(bed.finds(), "state_odd_file", "error")
    (bed.state / "lock").unlink()
    (bed.state / "lock.old").rename(bed.state / "lock")
    bed.lan.folder.chmod(0o700)
    status, findings = bed.finds()
    bed.lan.folder.chmod(0o755)
    assert status == ERRORS and {"state_unreachable", "program_unreadable"} == set(findings), findings
    assert bed.finds() == (WELL, {})


def test_a_disk_that_is_nearly_full(bed):
    bed.state.mkdir(exist_ok=True)
    subprocess.run(["mount", "-t", "tmpfs", "-o", "size=16m,mode=0750", "none", str(bed.state)], check=True)
    try:
        finding = bed.finds()[1]["disk_space_low"]
        assert finding["severity"] == "warning" and finding["subject"] == str(bed.state)
        (bed.state / "filler").write_bytes(bytes(16_200_000))
        assert bed.finds()[1]["disk_nearly_full"]["severity"] == "error"
    finally:
        subprocess.run(["umount", str(bed.state)], check=True)


def test_a_clock_that_is_behind(bed):
    bed.start()
    bed.stop()
    clock = FakedClock(bed.lan.folder, "-330d")
    finding = bed.finds(environment=clock.environment)[1]["clock_wrong"]
    assert "bootlatch.db" in finding["seen"]


def test_an_interface_that_is_down_or_missing(own_bed):
    bed = own_bed
    bed.lan.ip(bed.space, "link", "set", "lan0", "down")
    assert only(bed.finds(), "interface_down", "error")["subject"] == "lan0"
    bed.lan.ip(bed.space, "address", "flush", "dev", "lan0")
    assert "interface_without_address" in bed.finds()[1]
    bed.file.write_text(bed.file.read_text().replace("lan0", "lan9"))
    only(bed.finds(), "interface_missing", "error")


def test_a_configuration_with_an_error(bed):
    bed.configure("nonsense = 1\n")
    finding = only(bed.finds(), "configuration_invalid", "error")
    assert "nonsense" in finding["seen"] and "bootlatch.toml" in finding["seen"]
    bed.configure(top='namespace = "lab"\n')
    bed.file.write_text(bed.file.read_text().replace('"nobody"', '"nosuchuser"'))
    assert "nosuchuser" in only(bed.finds(), "user_missing", "error")["seen"]


def test_a_file_of_conf_d_with_an_error_does_not_end_the_look(own_bed):
    bed = own_bed
    folder = bed.file.parent / "conf.d"
    folder.mkdir()
    (folder / "10-site.toml").write_text('[dhcp]\nmode = "prox"\n')
    (folder / "20-port.toml").write_text('http_port = 81\n')
    code, report = bed.look()
    (finding,) = report["findings"]
    assert code == ERRORS and finding["code"] == "configuration_invalid" and "conf.d/10-site.toml: line 2: dhcp.mode" in finding["seen"], report
    assert "without this file" in finding["seen"] and {"interfaces", "ports", "programs"} <= set(report["checked"]), report
    (bed.firmware / "snponly.efi").unlink()
    assert {"configuration_invalid", "program_missing"} <= set(bed.finds()[1]), "the rest is looked at"


def test_people_read_what_to_do(bed):
    bed.nft("add table inet filter; add chain inet filter input { type filter hook input priority 0; }; add rule inet filter input udp dport 69 drop")
    done = subprocess.run(bed.lan.inside(bed.space, *bed.words("doctor")), capture_output=True, text=True)
    bed.nft("flush ruleset")
    assert done.returncode == ERRORS and done.stderr == ""
    for words in ("The server does not run. 1 error, 0 warnings.", "ERROR firewall_drops: TFTP requests (UDP 69) on lan0", "  -> let them through: nft insert rule", "Not looked at:"):
        assert words in done.stdout, done.stdout
