"""Requests that generate configs, and the secret in them."""

import base64
import json
import re
import subprocess

IGNITION, CLOUDINIT = "/api/v1/configs/ignition/generate", "/api/v1/configs/cloudinit/generate"
GEHEIM = "pull-geheim-9f3c"
PULL = json.dumps({"auths": {"quay.io": {"auth": base64.b64encode(f"user:{GEHEIM}".encode()).decode()}}})
# The secret in JSON, in base64 inside it, and in base64 of the whole file at each of three offsets.
SECRETS = [GEHEIM, base64.b64encode(f"user:{GEHEIM}".encode()).decode(), *(base64.b64encode(PULL.encode()[at:])[:40].decode() for at in range(3))]
ROLES = ["bootstrap", "master", "worker"]


def keys(place):
    """Makes public keys of every kind that ssh-keygen makes, and returns them by kind and size."""
    made = {}
    for kind, bits in (("ed25519", None), ("rsa", 2048), ("rsa", 1024), ("ecdsa", 256), ("ecdsa", 384), ("ecdsa", 521)):
        file = place / f"{kind}{bits}"
        subprocess.run(["ssh-keygen", "-q", "-t", kind, "-N", "", "-C", "admin@example", "-f", file, *(["-b", str(bits)] if bits else [])], check=True)
        made[f"{kind}{bits}"] = file.with_suffix(".pub").read_text().strip()
    return made


def okd(key, **change):
    """Returns a request for the Ignition configs of an OKD cluster."""
    body = {"platform": "OKD", "version": "4.19", "cluster": {"name": "prod", "baseDomain": "example.com", "network": "10.1.107.0/24"},
            "sshKey": key, "pullSecret": PULL, "nodeRoles": ROLES}
    return {**body, **change}


def node(key, **change):
    """Returns a request for the cloud-init files of a Kubernetes node."""
    body = {"template": "kubernetes-node", "hostname": "k8s-master-01",
            "network": {"interfaces": [{"name": "eth0", "addresses": ["10.1.107.11/24"], "gateway": "10.1.107.1"}]},
            "packages": ["docker", "kubeadm", "kubelet"], "users": [{"name": "admin", "sshKeys": [key]}]}
    return {**body, **change}


def named(reference):
    """Returns the file name in a reference."""
    return re.split("[:/]", reference)[-1]


def served(server, reference, source=None):
    """Returns the answer to a machine that fetches a generated file."""
    return server.ask("GET", f"/configs/{named(reference)}", token=None, source=source)


def leaks(text):
    """Returns the forms of the pull secret that a text contains."""
    return [secret for secret in SECRETS if secret in str(text)]
