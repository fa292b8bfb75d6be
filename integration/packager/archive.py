"""Tar archives whose bytes depend on their content and the release only."""

import gzip
import io
import tarfile


def entry(name, mode, epoch, kind=tarfile.REGTYPE, size=0):
    info = tarfile.TarInfo(name)
    info.mode, info.mtime, info.type, info.size = mode, epoch, kind, size
    return info


def of_tree(tree, epoch, prefix=""):
    """Returns a tar of a tree, owned by root, in the order of the names."""
    stream = io.BytesIO()
    with tarfile.open(fileobj=stream, mode="w", format=tarfile.USTAR_FORMAT) as tar:
        for path in sorted(tree.rglob("*"), key=lambda path: path.relative_to(tree).parts):
            name, mode = f"{prefix}{path.relative_to(tree)}", path.stat().st_mode & 0o7777
            if path.is_dir():
                tar.addfile(entry(name, mode, epoch, tarfile.DIRTYPE))
            else:
                content = path.read_bytes()
                tar.addfile(entry(name, mode, epoch, size=len(content)), io.BytesIO(content))
    return stream.getvalue()


def of_files(files, epoch):
    """Returns a tar of names with their bytes, in the given order."""
    stream = io.BytesIO()
    with tarfile.open(fileobj=stream, mode="w", format=tarfile.USTAR_FORMAT) as tar:
        for name, content in files.items():
            tar.addfile(entry(name, 0o644, epoch, size=len(content)), io.BytesIO(content))
    return stream.getvalue()


def compressed(content, level=9):
    return gzip.compress(content, level, mtime=0)
