"""The API over TLS: certificates of the server and of clients, with curl, kubectl and the command line."""

import http.client
import json
import os
import ssl
import subprocess
from pathlib import Path

import pytest

from support.kubectl import kubectl
from support.objects import CONFIGS, HOSTS, config

TLS_PORT = 8443
TLS = f'[api]\nlisten = "127.0.0.1:{TLS_PORT}"\ntls = true\n'


def over_tls(server, method, path, token=None, certificate=None, trust=None, body=None):
    context = ssl.create_default_context(cafile=trust or server.state / "tls.crt")
    if certificate:
        context.load_cert_chain(*certificate)
    connection = http.client.HTTPSConnection("127.0.0.1", TLS_PORT, context=context, timeout=10)
    try:
        connection.request(method, path, body, {"Authorization": f"Bearer {token}"} if token else {})
        answer = connection.getresponse()
        return answer.status, answer.read().decode()
    finally:
        connection.close()


def over_tls_without(server):
    context = ssl._create_unverified_context()
    context.load_cert_chain(server.place / "of-ca.crt", server.place / "of-ca.key")
    connection = http.client.HTTPSConnection("127.0.0.1", TLS_PORT, context=context, timeout=10)
    connection.request("GET", HOSTS)
    return connection.getresponse().status


def authority(place):
    """Makes three certificate authorities, and a client certificate of each."""
    run = lambda *words: subprocess.run(["openssl", *words], cwd=place, check=True, capture_output=True)
    for name in ("ca", "viewers", "stranger"):
        run("req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256", "-nodes", "-keyout", f"{name}.key", "-out", f"{name}.crt",
            "-subj", f"/CN={name}", "-days", "2", "-addext", "keyUsage=keyCertSign")
        run("req", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256", "-nodes", "-keyout", f"of-{name}.key", "-out", f"of-{name}.csr", "-subj", "/CN=client")
        (Path(place) / "v3").write_text("basicConstraints=CA:FALSE\nkeyUsage=digitalSignature\nextendedKeyUsage=clientAuth\n")
        run("x509", "-req", "-in", f"of-{name}.csr", "-CA", f"{name}.crt", "-CAkey", f"{name}.key", "-out", f"of-{name}.crt", "-days", "2", "-extfile", "v3")


@pytest.fixture(scope="module")
def server(start_server):
    """A server with TLS, a client authority for admins and one for viewers."""
    server = start_server()
    authority(server.place)
    server.config = f'{TLS}client_ca = "{server.place}/ca.crt"\nviewer_ca = "{server.place}/viewers.crt"\n'
    return server.restart()


def test_the_api_moves_to_the_tls_port(server):
    assert os.stat(server.state / "tls.key").st_mode & 0o777 == 0o600, "the key of the generated certificate is readable by its owner only"
    assert over_tls(server, "GET", HOSTS, server.token)[0] == 200, "the API answers over TLS"
    assert over_tls(server, "GET", HOSTS)[0] == 401, "the API requires the token over TLS too"
    assert server.ask("GET", HOSTS).code == 404, "the API no longer answers on the machines' port"
    assert server.ask("GET", "/ipxe?mac=525400000001", token=None).code == 200, "machines are still answered on their own port"
    ours = (server.place / "of-ca.crt", server.place / "of-ca.key")
    assert over_tls(server, "GET", HOSTS, certificate=ours)[0] == 200, "a client certificate is accepted without a token"
    try:
        answered = over_tls(server, "GET", HOSTS, certificate=(server.place / "of-stranger.crt", server.place / "of-stranger.key"))
    except (ssl.SSLError, OSError, http.client.HTTPException):
        answered = None
    assert answered is None, f"a client certificate of an unknown authority is refused: {answered}"


def test_plain_http_is_answered_in_words(server):
    done = subprocess.run(["curl", "-s", "-m", "10", "-w", "%{http_code}", f"http://127.0.0.1:{TLS_PORT}{HOSTS}"], capture_output=True, text=True)
    assert done.returncode == 0 and done.stdout.endswith("400") and "use https://" in done.stdout, f"curl of http:// on the TLS port: {done}"
    asked = subprocess.run([str(kubectl()), f"--server=http://any:{server.token}@127.0.0.1:{TLS_PORT}", "get", "--raw", HOSTS], capture_output=True, text=True,
                           env={**os.environ, "HOME": str(server.place), "KUBECONFIG": "/dev/null"})
    assert asked.returncode == 1 and "https" in asked.stderr, f"kubectl of http:// on the TLS port: {asked}"
    assert over_tls(server, "GET", HOSTS, server.token)[0] == 200, "TLS is answered as before"


def test_curl_with_client_certificates(server):
    """The authority that signed a client's certificate decides its role."""
    def curl(who, *words):
        cert = ["--cert", server.place / f"of-{who}.crt", "--key", server.place / f"of-{who}.key"] if who else []
        return subprocess.run(["curl", "-s", "-m", "10", "-o", "/dev/null", "-w", "%{http_code}", "--cacert", server.state / "tls.crt", *cert, *words],
                              capture_output=True, text=True)
    api, new = f"https://127.0.0.1:{TLS_PORT}", json.dumps(config("by-certificate"))
    write = ("-H", "Content-Type: application/json", "-d", new, f"{api}{CONFIGS}")
    assert curl("viewers", f"{api}{HOSTS}").stdout == "200", "curl --cert: a viewer's certificate can read"
    assert curl("viewers", *write).stdout == "403", "curl --cert: a viewer's certificate cannot write"
    assert curl("viewers", "-X", "PATCH", "-d", "{}", f"{api}/redfish/v1/Systems/x").stdout == "403", (
        "curl --cert: a viewer's certificate cannot write over Redfish")
    assert curl("viewers", "-H", f"Authorization: Bearer {server.token}", *write).stdout == "201", (
        "curl --cert: a viewer's certificate with the admin's token can write")
    assert curl("ca", "-X", "DELETE", f"{api}{CONFIGS}/by-certificate").stdout == "200", "curl --cert: an admin's certificate can write"
    refused = curl("stranger", f"{api}{HOSTS}")
    assert refused.returncode != 0 and refused.stdout == "000", f"curl --cert: a certificate of an unknown authority is refused in the handshake: {refused}"
    bare = curl(None, f"{api}{HOSTS}").stdout, curl(None, *write).stdout
    assert bare == ("401", "401"), f"curl without a certificate has no access: {bare}"


def test_the_command_line_over_tls(server):
    """The command line from another machine: which servers it trusts, and how it authenticates."""
    place, token = server.place, server.state / "admin.token"
    at = {"BOOTLATCH_SERVER": f"https://127.0.0.1:{TLS_PORT}"}
    run = lambda *words: server.run(*words, "get", "hosts", **at)
    shown = subprocess.run(["openssl", "x509", "-noout", "-fingerprint", "-sha256", "-in", server.state / "tls.crt"], capture_output=True, text=True)
    fingerprint = shown.stdout.strip().split("=")[1]
    plain = fingerprint.replace(":", "").lower()
    stranger = run("--token-file", token)
    assert stranger.returncode == 1 and plain in stranger.stderr, (
        f"a server with an unknown certificate is not trusted, and the error shows its fingerprint: {stranger}")
    assert plain in server.all_logs(), "the server logs the same fingerprint"
    assert run("--token-file", token, "--ca", server.state / "tls.crt").returncode == 0, "https works with the server's own certificate as --ca"
    assert run("--token-file", token, "--fingerprint", fingerprint).returncode == 0, "https works with the fingerprint"
    assert run("--token-file", token, "--fingerprint", plain).returncode == 0, "the fingerprint may be written without colons"
    other = run("--token-file", token, "--fingerprint", "ab" * 32)
    assert other.returncode == 1 and plain in other.stderr, f"a wrong fingerprint is refused: {other}"
    assert run("--token-file", token, "--ca", place / "stranger.crt").returncode == 1, "a certificate of another authority is refused"
    assert run("--fingerprint", plain).returncode == 6, "a missing token exits with 6"
    ours = ("--client-certificate", place / "of-ca.crt", "--client-key", place / "of-ca.key")
    assert run("--fingerprint", plain, *ours).returncode == 0, "a client certificate replaces the token"
    made = server.run("--fingerprint", plain, *ours, "apply", "-f", "-", stdin=json.dumps(config("by-tls")), **at)
    assert "created" in made.stdout and server.run("delete", "config", "by-tls").returncode == 0, f"an admin's client certificate can write: {made}"
    viewer = ("--client-certificate", place / "of-viewers.crt", "--client-key", place / "of-viewers.key")
    assert run("--fingerprint", plain, *viewer).returncode == 0, "a viewer's client certificate can read"
    wrong = server.run("--fingerprint", plain, *viewer, "delete", "config", "nothing", **at)
    assert wrong.returncode == 6, f"a viewer's client certificate cannot write: {wrong}"
    assert run("--client-key", place / "of-ca.key").returncode == 2, "a client key without its certificate is a usage error"
    clear = server.run("--ca", server.state / "tls.crt", "get", "hosts", BOOTLATCH_SERVER="http://127.0.0.1:8080")
    assert clear.returncode == 1 and "https" in clear.stderr, f"--ca without https is refused: {clear}"
    system = server.run("--token-file", token, "get", "hosts", **at, SSL_CERT_FILE=str(server.state / "tls.crt"))
    assert system.returncode == 0, f"the system's certificate authorities are the default: {system}"


def test_kubectl_over_tls(server):
    done = subprocess.run([kubectl(), f"--server=https://127.0.0.1:{TLS_PORT}", f"--certificate-authority={server.state}/tls.crt", f"--token={server.token}",
                           "get", "bmh"], capture_output=True, text=True, env={"HOME": str(server.place), "KUBECONFIG": "/dev/null"})
    assert done.returncode == 0, f"kubectl works with a token and the certificate: {done}"


def test_the_generated_certificate_survives_a_restart(server):
    made = (server.state / "tls.crt").read_text()
    server.restart()
    assert (server.state / "tls.crt").read_text() == made, "the certificate is the same after a restart"


def test_a_configured_certificate(server):
    with server.configured(f'{TLS}certificate = "{server.place}/ca.crt"\nkey = "{server.place}/ca.key"\n'):
        presented = ssl.get_server_certificate(("127.0.0.1", TLS_PORT)).strip()
        assert presented == (server.place / "ca.crt").read_text().strip(), "a configured certificate is presented"
        assert over_tls_without(server) == 401, "without client_ca a client certificate proves nothing"
