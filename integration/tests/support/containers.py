"""A container without a daemon: crun runs the image in a namespace of a LAN."""

import json
import subprocess

from lab.process import tool
from support.lan import until

# What the guides give a container, fewer than Docker does.
CAPABILITIES = ("NET_BIND_SERVICE", "NET_RAW", "SETUID", "SETGID", "CHOWN", "DAC_OVERRIDE", "FOWNER")
# crun wants the mount of one hierarchy of control groups.
PREPARE = 'umount -R /sys/fs/cgroup; mount -t cgroup2 cgroup2 /sys/fs/cgroup; exec "$@"'


def run(*command):
    done = subprocess.run([str(word) for word in command], capture_output=True, text=True)
    assert done.returncode == 0, f"{command}: {done.stdout}{done.stderr}"
    return done.stdout


def unpack(archive, place, *choose):
    """Unpacks an image file (oci-archive:FILE or docker-archive:FILE) into a bundle; returns its folder."""
    run(tool("skopeo"), *choose, "copy", archive, f"oci:{place}/layout:image")
    run(tool("umoci"), "unpack", "--image", f"{place}/layout:image", f"{place}/bundle")
    return place / "bundle"


class Container:
    """bootlatch in a container: its root is read-only, and the state is a folder outside."""

    def __init__(self, lan, space, bundle, *words, capabilities=CAPABILITIES, read_only=True):
        self.lan, self.name = lan, lan.folder.name
        self.state = lan.folder / "state"
        self.state.mkdir(exist_ok=True)
        self.configure(bundle, words, [f"CAP_{name}" for name in capabilities], read_only)
        self.program = lan.start(space, "crun", "unshare", "--mount", "--cgroup", "bash", "-c", PREPARE, "_", tool("crun"), "--root", f"{lan.folder}/crun",
                                 "--cgroup-manager=disabled", "run", "-b", str(bundle), self.name)

    def configure(self, bundle, words, capabilities, read_only):
        """Changes what the runtime is told, as `docker run` does by its flags."""
        path = bundle / "config.json"
        config = json.loads(path.read_text())
        process, linux = config["process"], config["linux"]
        process["capabilities"] = {kind: capabilities for kind in ("bounding", "effective", "permitted")}
        process["terminal"], process["noNewPrivileges"] = False, True
        process["args"] = [process["args"][0], *words] if words else process["args"]
        config["root"]["readonly"] = read_only
        # The network is the LAN's. Control groups are the caller's.
        linux["namespaces"] = [entry for entry in linux["namespaces"] if entry["type"] not in ("network", "cgroup", "user")]
        for name in ("uidMappings", "gidMappings", "resources"):
            linux.pop(name, None)
        config["mounts"] = [entry for entry in config["mounts"] if entry["type"] != "cgroup" and entry["destination"] not in ("/var/lib/bootlatch", "/etc/resolv.conf")]
        config["mounts"].append({"destination": "/var/lib/bootlatch", "type": "bind", "source": str(self.state), "options": ["rbind", "rw"]})
        path.write_text(json.dumps(config))

    def pid(self):
        return json.loads(run(tool("crun"), "--root", f"{self.lan.folder}/crun", "state", self.name))["pid"]

    def stop(self):
        """Ends it as `docker stop` does; returns the exit status."""
        run(tool("crun"), "--root", f"{self.lan.folder}/crun", "kill", self.name, "TERM")
        until("the container has ended", lambda: self.program.process.poll() is not None, 20)
        return self.program.process.returncode
