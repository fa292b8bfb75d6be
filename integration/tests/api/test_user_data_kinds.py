"""User-data of each kind, and binary user-data: the answers of the server, and what cloud-init makes of the same octets."""

import base64
import gzip
import json

import pytest

from support import config_validators as validators
from support.objects import CONFIGS

# cloud-init's own reading of user-data: the types of the parts that it would use, or its error. It fetches nothing here.
PARTS = """
import base64, json, sys, tempfile
from cloudinit import helpers, user_data
from cloudinit.handlers import INCLUSION_TYPES_MAP
paths = helpers.Paths({"cloud_dir": tempfile.mkdtemp(), "run_dir": tempfile.mkdtemp()})
def read(octets):
    found = []
    user_data.UserDataProcessor._do_include = lambda self, content, message: found.append("text/x-include-url")
    try:
        message = user_data.UserDataProcessor(paths).process(octets)
    except Exception as error:
        return repr(error)
    found += [part.get_content_type() for part in message.walk() if not user_data.is_skippable(part)]
    return [kind for kind in found if kind in INCLUSION_TYPES_MAP.values() and not (kind == "text/x-include-url" and kind not in found[:1])]
print()
print(json.dumps([read(base64.b64decode(text)) for text in json.load(sys.stdin)]))
"""
CALL = "curl -X POST http://192.0.2.1/api/v1/boot-complete"
HEAD = 'Content-Type: multipart/mixed; boundary="=b"\nMIME-Version: 1.0\n\n'
CONFIG, SCRIPT = "text/cloud-config", "text/x-shellscript"


def mime(*parts):
    """Returns a message; each part has a content type, more headers and a body."""
    return HEAD + "".join(f"--=b\nContent-Type: {kind}\n{headers}\n{body}\n" for kind, headers, body in parts) + "--=b--\n"


def encoded(octets):
    return base64.encodebytes(octets).decode()


# The octets, the types of the parts, and whether the machine reports its completed install.
GOOD = {
    "script": (f"#!/bin/sh\n{CALL}\n", [SCRIPT], True),
    "script that is not UTF-8": (b"#!/bin/sh\necho \xff\n", [SCRIPT], False),
    "script with a comment only": (f"#!/bin/sh\n# {CALL}\n", [SCRIPT], False),
    "cloud-config": (f"#cloud-config\nruncmd: ['{CALL}']\n", [CONFIG], True),
    "boothook": (f"#cloud-boothook\n#!/bin/sh\n{CALL}\n", ["text/cloud-boothook"], True),
    "part-handler": ("#part-handler\ndef list_types(): return ['text/x']\n", ["text/part-handler"], False),
    "include": ("#include\nhttp://192.0.2.1/x\n", ["text/x-include-url"], None),
    "jinja": ("## template: jinja\n#cloud-config\nhostname: {{ v1.local_hostname }}\n", ["text/jinja2"], False),
    "jsonp": ('#cloud-config-jsonp\n[{"op": "add", "path": "/runcmd", "value": ["ls"]}]\n', ["text/cloud-config-jsonp"], False),
    "archive": (f"#cloud-config-archive\n- type: text/x-shellscript\n  content: |\n    #!/bin/sh\n    {CALL}\n- 'packages: [vim]'\n- '#!/bin/sh'\n", [SCRIPT, CONFIG, SCRIPT], True),
    "gzip": (gzip.compress(f"#!/bin/sh\n{CALL}\n".encode()), [SCRIPT], True),
    "gzip of a message": (gzip.compress(mime((SCRIPT, "", f"#!/bin/sh\n{CALL}")).encode()), [SCRIPT], True),
    "message": (mime((CONFIG, "", "packages: [vim]"), (SCRIPT, "", "#!/bin/sh"), ("text/plain", "", "#cloud-boothook\n")), [CONFIG, SCRIPT, "text/cloud-boothook"], False),
    "base64 part": (mime((SCRIPT, "Content-Transfer-Encoding: base64\n", encoded(f"#!/bin/sh\n{CALL}\n".encode()))), [SCRIPT], True),
    "quoted part": (mime((CONFIG, "Content-Transfer-Encoding: quoted-printable\n", "runcmd: [=22curl http://x/boot-=\ncomplete=22]")), [CONFIG], True),
    "gzip part": (mime(("application/gzip", "Content-Transfer-Encoding: base64\n", encoded(gzip.compress(b"#cloud-config\n")))), [CONFIG], False),
    "archive in a message": (mime(("text/cloud-config-archive", "", "- '#!/bin/sh'\n- 'a: 1'")), [SCRIPT, CONFIG], False),
    "message in a message": (mime(('multipart/mixed; boundary="in"', "", f"--in\nContent-Type: {CONFIG}\n\na: 1\n--in--"), (SCRIPT, "", "#!/bin/sh")), [CONFIG, SCRIPT], False),
    "unused part": (mime(("application/pdf", "", f"#!/bin/sh\n{CALL}"), (CONFIG, "", "a: 1")), [CONFIG], False),
    "a script that is a cloud-config": (mime((SCRIPT, "", "#cloud-config\na: 1")), [CONFIG], False),
}
# Octets that cloud-init ignores or fails at, and what the server says.
BAD = {
    "byte order mark": ("\ufeff#cloud-config\na: 1\n", "byte order mark"),
    "byte order mark in a message": ("\ufeff" + mime((CONFIG, "", "a: 1")), "byte order mark"),
    "another template": ("## template: basic\n#cloud-config\n", "line 1"),
    "broken gzip": (gzip.compress(b"#!/bin/sh\n" * 99)[:30], "gzip"),
    "broken gzip part": (mime(("application/gzip", "", "x")), "part 1 (application/gzip, from line 7): expected gzip"),
    "no boundary": ("MIME-Version: 1.0\nContent-Type: multipart/mixed\n\n--b\n\n#!/bin/sh\n--b--\n", "without a boundary"),
    "another boundary": (HEAD + "--c\n\n#!/bin/sh\n--c--\n", "no line --=b"),
    "no part that it knows": (mime(("text/html", "", "#!/bin/sh")), "ignores each part"),
    "archive without a list": ("#cloud-config-archive\na: 1\n", "expected a list"),
}
# Octets that cloud-init takes apart, and whose content it then cannot use.
WRONG = {
    "yaml in a part": (mime((CONFIG, "", "a: 1"), (CONFIG, "", "b: [\n")), "part 2 (text/cloud-config, from line 11): invalid YAML"),
    "type in a part": (mime((CONFIG, "", "packages: vim")), "/packages: expected a list"),
    "cloud-config that is not UTF-8": (b"#cloud-config\na: \xff\n", "octet 18: expected UTF-8"),
    "yaml in gzip": (gzip.compress(b"#cloud-config\na: 1\nb: [\n"), "invalid YAML"),
    "entry of an archive": ("#cloud-config-archive\n- '#!/bin/sh'\n- 'packages: vim'\n", "entry 2: /packages: expected a list"),
    "operation": ('#cloud-config-jsonp\n[{"op": "add"}]\n', "/0: expected an operation"),
    "include without a URL": ("#include\nserver/x\n", "line 2: expected a URL"),
}


def octets(content):
    return content if isinstance(content, bytes) else content.encode()


def cloud_init_reads(rows):
    return dict(zip(rows, validators.cloud_init(PARTS, [base64.b64encode(octets(row[0])).decode() for row in rows.values()])))


def dry_run(server, content, binary):
    """Returns the server's answer to user-data as text or as binary data."""
    data = {"binaryData": {"user-data": base64.b64encode(octets(content)).decode()}} if binary else {"data": {"user-data": content}}
    return server.ask("POST", f"{CONFIGS}?dryRun=All", {"metadata": {"name": "c"}, "spec": {"format": "cloud-init", **data}})


def ways(content):
    return [True] if isinstance(content, bytes) else [False, True]


def test_each_kind_is_accepted_with_its_parts(server):
    real = cloud_init_reads(GOOD)
    assert real == {name: kinds for name, (_, kinds, _) in GOOD.items()}
    for name, (content, _, reports) in GOOD.items():
        for binary in ways(content):
            answer = dry_run(server, content, binary)
            assert answer.code == 201, f"{name}: {answer}"
            assert answer.json["status"].get("reportsCompletion") is reports, f"{name}: {answer}"


def test_what_cloud_init_ignores_or_fails_at_is_refused(server):
    real = cloud_init_reads(BAD)
    assert all(isinstance(found, str) or found == [] for found in real.values()), f"cloud-init uses nothing of them: {real}"
    for name, (content, words) in {**BAD, **WRONG}.items():
        for binary in ways(content):
            answer = dry_run(server, content, binary)
            cause = answer.json["details"]["causes"][0]
            field = "spec.binaryData.user-data" if binary else "spec.data.user-data"
            assert answer.code == 422 and cause["field"] == field and words in cause["message"], f"{name}: {answer}"


def test_what_a_part_does_not_do_is_a_warning(server):
    warnings = dry_run(server, GOOD["unused part"][0], False).json["status"]["warnings"]
    assert len(warnings) == 1 and warnings[0].startswith("user-data: part 1 (application/pdf, from line 7): cloud-init ignores it"), warnings
    warnings = dry_run(server, mime((SCRIPT, "", "ls")), False).json["status"]["warnings"]
    assert "without a first line #!" in warnings[0], warnings


@pytest.mark.parametrize("value, words", [("no base64", "base64"), (5, "spec.binaryData.user-data")])
def test_binary_data_must_be_base64(server, value, words):
    answer = server.ask("POST", CONFIGS, {"metadata": {"name": "c"}, "spec": {"format": "cloud-init", "binaryData": {"user-data": value}}})
    assert answer.code in (400, 422) and words in answer.json["message"] and "no base64" not in answer.json["message"], answer


def test_a_name_is_in_data_or_in_binary_data(server):
    files = {"data": {"user-data": "#cloud-config\n"}, "binaryData": {"user-data": base64.b64encode(b"#cloud-config\n").decode()}}
    answer = server.ask("POST", CONFIGS, {"metadata": {"name": "c"}, "spec": {"format": "cloud-init", **files}})
    assert answer.code == 422 and answer.json["details"]["causes"][0]["field"] == "spec.binaryData.user-data", answer


def test_confidential_binary_data_is_redacted_and_kept(server):
    packed = base64.b64encode(gzip.compress(b"#!/bin/sh\necho geheim\n")).decode()
    config = {"metadata": {"name": "packed"}, "spec": {"format": "cloud-init", "confidential": True, "binaryData": {"user-data": packed}}}
    made = server.ask("POST", CONFIGS, config)
    assert made.code == 201 and made.json["spec"]["binaryData"] == {"user-data": "REDACTED"}, made
    again = server.ask("PUT", f"{CONFIGS}/packed", {**made.json, "metadata": {"name": "packed", "labels": {"a": "b"}}})
    assert again.code == 200 and packed not in server.ask("GET", CONFIGS).text, again
    other = server.ask("POST", CONFIGS, {**made.json, "metadata": {"name": "other"}})
    assert other.code == 422 and other.json["details"]["causes"][0]["field"] == "spec.binaryData.user-data", other
    server.ask("DELETE", f"{CONFIGS}/packed")


def test_the_command_line_takes_files_that_are_not_text(server):
    packed = gzip.compress(mime((SCRIPT, "", f"#!/bin/sh\n{CALL}")).encode())
    file, seed = server.place / "user-data.gz", server.place / "seed.iso"
    file.write_bytes(packed)
    done = server.run("config", "add", "from-file", file, "--format", "cloud-init")
    assert done.returncode == 0, done
    spec = server.ask("GET", f"{CONFIGS}/from-file").json["spec"]
    assert base64.b64decode(spec["binaryData"]["user-data"]) == packed and "user-data" not in spec["data"], spec
    done = server.run("seed", "build", seed, file, "--hostname", "node1")
    assert done.returncode == 0 and packed in seed.read_bytes(), done
    file.write_bytes(gzip.compress(b"hello"))
    done = server.run("seed", "build", seed, file)
    assert done.returncode != 0 and f"{file}: line 1" in done.stderr, done
    server.ask("DELETE", f"{CONFIGS}/from-file")
