"""Objects of the API and their paths."""

import base64

IGNITION = '{"ignition":{"version":"3.4.0"}}'
HOSTS = "/api/v1/namespaces/default/baremetalhosts"
IMAGES = "/api/v1/iscsi-cdroms"
CONFIGS = "/api/v1/bootconfigs"
TEMPLATES = "/api/v1/configtemplates"


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


def make_example(server):
    """Creates the config "builder", the image "live" that allows it, and the host "one" that installs both."""
    server.iso()
    for path, body in ((CONFIGS, config("builder")), (IMAGES, image("live", ["builder"])), (HOSTS, host("one", 1, image="live", bootConfigRef="builder"))):
        answer = server.ask("POST", path, body)
        assert answer.code == 201, f"an example object is created: {answer}"


def delete_all(server):
    """Deletes every object of the server, hosts first, and companions after the images that refer to them."""
    for path in ("/api/v1/baremetalhosts", IMAGES, CONFIGS, TEMPLATES):
        while items := server.ask("GET", path).json["items"]:
            before = len(items)
            for item in items:
                meta = item["metadata"]
                server.ask("DELETE", f"{path}/{meta['name']}" if path != "/api/v1/baremetalhosts" else f"/api/v1/namespaces/{meta['namespace']}/baremetalhosts/{meta['name']}")
            left = len(server.ask("GET", path).json["items"])
            assert left < before, f"{left} objects of {path} can be deleted"
