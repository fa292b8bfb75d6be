"""Unknown fields, duplicate keys, and warnings about configs."""

import pytest

from support.objects import CONFIGS, HOSTS, config, host

pytestmark = pytest.mark.usefixtures("example_objects")


def test_field_validation(server):
    """fieldValidation: unknown fields and duplicate keys are refused, reported or dropped."""
    ask, warnings = server.ask, lambda answer: answer.headers.get_all("Warning") or []
    body_of = lambda name: '{"metadata":{"name":"%s"},"spec":{"bootMACAddress":"52:54:00:00:01:01","bootMACAddress":"52:54:00:00:01:02","colour":"red","bmc":{"address":"b","shade":1}}}' % name
    for query in ("", "?fieldValidation=Strict"):
        answer = ask("POST", HOSTS + query, body_of("fv"), "application/json")
        assert answer.code == 400 and "spec.bootMACAddress" in answer.text, f"{query or 'by default'}: a duplicate key is refused: {answer}"
        unknown = ask("POST", HOSTS + query, host("fv", 40, colour="red"))
        assert unknown.code == 422 and "spec.colour" in unknown.text, f"{query or 'by default'}: an unknown field is refused: {unknown}"
    twice = "metadata: {name: fv}\nspec:\n  bootMACAddress: 52:54:00:00:01:01\n  bootMACAddress: 52:54:00:00:01:02\n"
    yaml = ask("POST", HOSTS, twice, "application/yaml")
    assert yaml.code == 400 and all(text in yaml.json["message"] for text in ('"bootMACAddress"', "line 4, column 3")), (
        f"a duplicate key in YAML is reported with its line: {yaml}")
    told = ['299 - "unknown field \\"spec.colour\\""', '299 - "unknown field \\"spec.bmc.shade\\""', '299 - "duplicate field \\"spec.bootMACAddress\\""']
    warned = ask("POST", HOSTS + "?fieldValidation=Warn", body_of("fv"), "application/json")
    assert warned.code == 201 and "colour" not in warned.text and warnings(warned) == told, (
        f"fieldValidation=Warn drops unknown fields with a warning: {warned.headers.items()}")
    assert warned.json["spec"]["bootMACAddress"] == "52:54:00:00:01:02", f"the last value of a duplicate key is used: {warned}"
    silent = ask("PUT", f"{HOSTS}/fv?fieldValidation=Ignore", body_of("fv"), "application/json")
    assert silent.code == 200 and "colour" not in silent.text and not warnings(silent), (
        f"fieldValidation=Ignore drops unknown fields without a warning: {silent.headers.items()}")
    merged = ask("PATCH", f"{HOSTS}/fv?fieldValidation=Warn", {"spec": {"colour": "red"}}, "application/merge-patch+json")
    assert merged.code == 200 and warnings(merged) == told[:1], f"a PATCH with fieldValidation=Warn warns: {merged.headers.items()}"
    apply = lambda how: ask("PATCH", f"{HOSTS}/fv?fieldManager=x&fieldValidation={how}", {"metadata": {"colour": 1}, "spec": {"colour": "red", "online": True}}, "application/apply-patch+yaml")
    assert apply("Strict").code == 422, "a strict server-side apply refuses an unknown field"
    applied = apply("Warn")
    owned = next(entry["fieldsV1"] for entry in applied.json["metadata"]["managedFields"] if entry["manager"] == "x")
    assert applied.code == 200 and len(warnings(applied)) == 2 and owned == {"f:spec": {"f:online": {}}}, (
        f"a server-side apply with fieldValidation=Warn warns and does not own the unknown field: {(applied, owned)}")
    ask("DELETE", f"{HOSTS}/fv")


def test_warnings_about_configs(server):
    """A config that is valid but odd is accepted with a warning."""
    ask, warnings = server.ask, lambda answer: answer.headers.get_all("Warning") or []
    odd = config("odd", '{"ignition":{"version":"3.4.0"},"storag":{}}')
    told = ['299 - "config.ign: unused key: $.storag, in Ignition 3.4.0"']
    dry = ask("POST", f"{CONFIGS}?dryRun=All", odd)
    assert dry.code == 201 and warnings(dry) == told, f"a dry run warns: {dry.headers.items()}"
    made = ask("POST", CONFIGS, odd)
    assert made.code == 201 and warnings(made) == told and made.json["status"]["warnings"], (
        f"POST warns and stores the warnings in the status: {made.headers.items()}")
    assert warnings(ask("PUT", f"{CONFIGS}/odd", odd)) == told, "PUT warns"
    for kind, body in (("application/merge-patch+json", {"metadata": {"labels": {"a": "b"}}}), ("application/json", {}),
                       ("application/json-patch+json", [{"op": "add", "path": "/metadata/labels/c", "value": "d"}]),
                       ("application/apply-patch+yaml", {"spec": odd["spec"]})):
        for validation in ("Strict", "Warn", "Ignore"):
            answer = ask("PATCH", f"{CONFIGS}/odd?fieldManager=x&force=true&fieldValidation={validation}", body, kind)
            assert answer.code == 200 and warnings(answer) == told, f"PATCH by {kind} with {validation} warns: {(answer, answer.headers.items())}"
    assert not warnings(ask("PUT", f"{CONFIGS}/odd", config("odd"))), "a corrected config has no warnings"
    twice = {**config("odd"), "spec": {"format": "cloud-init", "data": {"user-data": "#cloud-config\na: 1\na: 2\n"}}}
    refused = ask("PUT", f"{CONFIGS}/odd", twice)
    assert refused.code == 422 and all(text in refused.json["message"] for text in ('key "a"', "line 3")), (
        f"a duplicate key in a config is reported with its line: {refused}")
    ask("DELETE", f"{CONFIGS}/odd")
