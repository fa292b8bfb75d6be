"""Network namespaces that one test, lab or benchmark makes and deletes."""

from .process import run, tool


class Namespaces:
    """Network namespaces whose names start with one identifier. Close it at the end."""

    def __init__(self, identifier):
        self.id, self.spaces = identifier, []

    def space(self, name):
        """Adds a namespace with its loopback up; returns its full name."""
        space = f"{self.id}-{name}"
        run(tool("ip"), "netns", "add", space)
        self.spaces.append(space)
        self.ip(space, "link", "set", "lo", "up")
        return space

    def ip(self, space, *arguments):
        """Runs `ip` for a namespace and returns its output."""
        return run(tool("ip"), "-n", space, *map(str, arguments))

    def inside(self, space, *command):
        """Returns the command line that runs a command in a namespace."""
        return [tool("ip"), "netns", "exec", space, *map(str, command)]

    def close(self):
        """Deletes the namespaces."""
        for space in reversed(self.spaces):
            run(tool("ip"), "netns", "delete", space, check=False)
        self.spaces.clear()
