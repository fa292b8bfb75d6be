"""Objects of the API and their paths."""

import base64

IGNITION = '{"ignition":{"version":"3.4.0"}}'
HOSTS = "/api/v1/namespaces/default/baremetalhosts"
IMAGES = "/api/v1/iscsi-cdroms"
CONFIGS = "/api/v1/bootconfigs"


def host(name, number, **spec):
    """Returns a BareMetalHost whose MAC address ends in `number`."""
    mac = "52:54:00:%02x:%02x:%02x" % (number >> 16 & 255, number >> 8 & 255, number & 255)
    return {"apiVersion": "v1", "kind": "BareMetalHost", "metadata": {"name": name, "namespace": "default"},
            "spec": {"bootMACAddress": mac, **spec}}


def config(name, text=IGNITION):
    """Returns a BootConfig in Ignition's format."""
    return {"apiVersion": "v1", "kind": "BootConfig", "metadata": {"name": name},
            "spec": {"format": "ignition", "data": {"config.ign": text}}}


def image(name, configs=(), file="x.iso"):
    """Returns an ISCSICdrom of an ISO file that allows the named configs."""
    return {"apiVersion": "v1", "kind": "ISCSICdrom", "metadata": {"name": name},
            "spec": {"isoFile": file, "bootConfigs": list(configs)}}


def timeline(server, name="", *events):
    """Returns the timeline of a host, or of the server without a name; only the given events if any are given."""
    path = f"{HOSTS}/{name}/timeline" if name else "/api/v1/timeline"
    items = server.ask("GET", path).json["items"]
    return [entry for entry in items if not events or entry["event"] in events]


def basic(user, password):
    """Returns an Authorization header for HTTP Basic."""
    return "Basic " + base64.b64encode(f"{user}:{password}".encode()).decode()
