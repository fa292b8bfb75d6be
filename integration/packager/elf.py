"""What a program needs of a system, read from its ELF headers by readelf, for every architecture."""

import re
import subprocess

DT_RELR_GLIBC = (2, 36)  # the first glibc that unpacks the relocations of .cargo/config.toml
MACHINES = {"X86-64": "amd64", "AArch64": "arm64", "ARM": "arm"}  # as `readelf -h` names them


def readelf(option, binary):
    return subprocess.run(["readelf", "-W", option, str(binary)], capture_output=True, text=True, check=True, env={"LC_ALL": "C"}).stdout


def architecture(binary):
    """Returns Debian's name of the architecture; `arm` for each 32-bit ARM."""
    header = readelf("-h", binary)
    return next((name for machine, name in MACHINES.items() if re.search(rf"Machine:.*\b{machine}$", header, re.M)), "unknown")


def libraries(binary):
    """Returns the shared libraries that the program is linked with, none if it is static."""
    return re.findall(r"\(NEEDED\).*\[(.*)\]", readelf("-d", binary))


def glibc(binary):
    """Returns the oldest glibc that the program starts with, as "2.36", or None if it is static."""
    if not libraries(binary):
        return None
    needs = readelf("-V", binary)
    versions = [tuple(int(part) for part in found.split(".")) for found in re.findall(r"\bGLIBC_([0-9.]+)\b", needs)]
    if "GLIBC_ABI_DT_RELR" in needs:
        versions.append(DT_RELR_GLIBC)
    return ".".join(str(part) for part in max(versions)[:2])


def has_symbols(binary):
    """Returns whether the program has a table of symbols, or what a debugger reads."""
    return re.search(r" \.(symtab|debug_\w+) ", readelf("-S", binary)) is not None
