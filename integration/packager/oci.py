"""Container images, written without a daemon: an OCI index of all architectures, and a docker-archive of each one.

RouterOS reads the second kind only.
"""

import hashlib
import json

from packager import archive, firmware, licences
from packager.release import ROOT
from packager.stage import DOC, TARGETS, put, settle, stage_firmware_documents, stripped

# Debian's name -> architecture and variant of OCI.
PLATFORMS = {"amd64": ("amd64", None), "arm64": ("arm64", None), "armhf": ("arm", "v7"), "armel": ("arm", "v5")}
MANIFEST = "application/vnd.oci.image.manifest.v1+json"
INDEX = "application/vnd.oci.image.index.v1+json"
CONFIG = "application/vnd.oci.image.config.v1+json"
LAYER = "application/vnd.oci.image.layer.v1.tar+gzip"
PORTS = ("67/udp", "69/udp", "4011/udp", "80/tcp", "3260/tcp", "514/udp")
USER = 991  # bootlatch in the image; root opens the ports first


def stage_image(tree, binary, architecture, staged, release):
    """Fills a tree with the whole file system of the image: the program must be static."""
    put(tree, "usr/bin/bootlatch", stripped(binary, architecture), 0o755)
    put(tree, "etc/passwd", f"root:x:0:0:root:/:/\nbootlatch:x:{USER}:{USER}:network boot appliance:/var/lib/bootlatch:/\n")
    put(tree, "etc/group", f"root:x:0:\nbootlatch:x:{USER}:\n")
    for folder in ("etc/bootlatch", "var/lib/bootlatch", "run/bootlatch", "tmp"):
        (tree / folder).mkdir(parents=True)
    for path in firmware.files(staged):
        put(tree, f"usr/share/bootlatch/firmware/{path.relative_to(staged)}", path)
    put(tree, f"{DOC}/copyright", licences.rust_copyright(ROOT, TARGETS[architecture], static=True))
    stage_firmware_documents(tree, staged)
    for name in ("LICENSE-MIT", "LICENSE-APACHE"):
        put(tree, f"{DOC}/{name}", ROOT / name)
    settle(tree, release.epoch)
    (tree / "tmp").chmod(0o1777)


def encoded(value):
    return json.dumps(value, sort_keys=True, separators=(",", ":")).encode()


def sha256(content):
    return hashlib.sha256(content).hexdigest()


class Image:
    """The image of one architecture."""

    def __init__(self, architecture, tree, release, level=9):
        self.platform, self.variant = PLATFORMS[architecture]
        self.layer = archive.of_tree(tree, release.epoch)
        self.packed = archive.compressed(self.layer, level)
        labels = {"org.opencontainers.image.title": "bootlatch", "org.opencontainers.image.version": release.version,
                  "org.opencontainers.image.licenses": "MIT OR Apache-2.0"}
        self.config = encoded({
            "created": release.rfc3339(), "os": "linux", **self.of_platform(),
            "config": {"Entrypoint": ["/usr/bin/bootlatch"], "Cmd": ["serve"], "Env": ["PATH=/usr/bin"], "WorkingDir": "/", "StopSignal": "SIGTERM",
                       "ExposedPorts": {port: {} for port in PORTS}, "Volumes": {"/var/lib/bootlatch": {}}, "Labels": labels},
            "rootfs": {"type": "layers", "diff_ids": [f"sha256:{sha256(self.layer)}"]},
            "history": [{"created": release.rfc3339(), "created_by": "integration/package oci"}],
        })

    def of_platform(self):
        return {"architecture": self.platform, **({"variant": self.variant} if self.variant else {})}

    def manifest(self):
        return encoded({"schemaVersion": 2, "mediaType": MANIFEST, "config": descriptor(CONFIG, self.config), "layers": [descriptor(LAYER, self.packed)]})


def descriptor(kind, content, **more):
    return {"mediaType": kind, "digest": f"sha256:{sha256(content)}", "size": len(content), **more}


def index(images, release):
    """Returns an OCI layout as a tar: one index, with a manifest for each architecture."""
    manifests = [descriptor(MANIFEST, image.manifest(), platform={"os": "linux", **image.of_platform()}) for image in images]
    all_of_them = encoded({"schemaVersion": 2, "mediaType": INDEX, "manifests": manifests})
    tag = {"org.opencontainers.image.ref.name": release.version.replace("~", "-")}
    top = encoded({"schemaVersion": 2, "mediaType": INDEX, "manifests": [descriptor(INDEX, all_of_them, annotations=tag)]})
    blobs = [all_of_them, *[blob for image in images for blob in (image.manifest(), image.config, image.packed)]]
    named = {f"blobs/sha256/{sha256(blob)}": blob for blob in blobs}
    return archive.of_files({"oci-layout": encoded({"imageLayoutVersion": "1.0.0"}), "index.json": top, **dict(sorted(named.items()))}, release.epoch)


def docker_archive(image, release):
    """Returns what `docker load`, podman and RouterOS read: one architecture, its layer not compressed."""
    config, layer = f"{sha256(image.config)}.json", f"{sha256(image.layer)}.tar"
    listing = [{"Config": config, "RepoTags": [f"bootlatch:{release.version.replace('~', '-')}"], "Layers": [layer]}]
    return archive.of_files({"manifest.json": encoded(listing), config: image.config, layer: image.layer}, release.epoch)
