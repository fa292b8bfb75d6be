"""The YAML and the commands of the guides for containers."""

import re

import pytest
import yaml
from kubernetes import client

from support.containers import CAPABILITIES
from support.programs import ROOT

GUIDES = ROOT / "docs/guides"
KINDS = {"Namespace": client.V1Namespace, "ServiceAccount": client.V1ServiceAccount, "ConfigMap": client.V1ConfigMap, "Deployment": client.V1Deployment}


def check(value, kind, where):
    """Asserts that a value is of a type of Kubernetes' own API description: known fields, required ones, types."""
    if kind.startswith("list["):
        assert isinstance(value, list), where
        for number, item in enumerate(value):
            check(item, kind[5:-1], f"{where}[{number}]")
    elif kind.startswith("dict("):
        assert isinstance(value, dict), where
        for key, item in value.items():
            check(item, kind[5:-1].split(", ")[1], f"{where}.{key}")
    elif kind in ("str", "bool", "int", "object"):
        # A quantity is a string in the description; IntOrString is an object.
        assert kind == "object" or isinstance(value, {"str": str, "bool": bool, "int": int}[kind]), f"{where}: {value!r}: expected {kind}"
    else:
        model = getattr(client, kind)
        fields = {outward: inward for inward, outward in model.attribute_map.items()}
        for key, item in value.items():
            assert key in fields, f"{where}.{key}: unknown field of {kind}"
            check(item, model.openapi_types[fields[key]], f"{where}.{key}")
        model(**{fields[key]: item for key, item in value.items()})  # a ValueError names a required field


def documents():
    text = re.search(r"```yaml\n(.*?)```", (GUIDES / "kubernetes.md").read_text(), re.S).group(1)
    return list(yaml.safe_load_all(text))


def test_the_objects_of_kubernetes_are_valid():
    found = documents()
    assert [entry["kind"] for entry in found] == ["Namespace", "ServiceAccount", "ConfigMap", "Deployment"]
    for entry in found:
        check(entry, KINDS[entry["kind"]].__name__, entry["kind"])
    pod = found[3]["spec"]["template"]
    assert found[3]["spec"]["selector"]["matchLabels"].items() <= pod["metadata"]["labels"].items()
    volumes = {volume["name"] for volume in pod["spec"]["volumes"]}
    assert {mount["name"] for mount in pod["spec"]["containers"][0]["volumeMounts"]} == volumes
    assert pod["spec"]["hostNetwork"] and pod["spec"]["serviceAccountName"] == found[1]["metadata"]["name"]


def test_a_wrong_field_is_found():
    broken = documents()[3]
    broken["spec"]["template"]["spec"]["hostNetwrok"] = True
    with pytest.raises(AssertionError, match="hostNetwrok: unknown field"):
        check(broken, "V1Deployment", "Deployment")


def test_the_capabilities_are_those_that_the_container_is_tested_with():
    of_kubernetes = documents()[3]["spec"]["template"]["spec"]["containers"][0]["securityContext"]["capabilities"]["add"]
    of_docker = re.findall(r"--cap-add (\w+)", (GUIDES / "docker.md").read_text())
    assert sorted(of_kubernetes) == sorted(of_docker) == sorted(CAPABILITIES)
