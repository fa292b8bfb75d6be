"""Commands on a pseudo-terminal."""

import fcntl
import os
import pty
import struct
import subprocess
import termios


def answering(words, answers, environment):
    """Runs a command whose standard input is a terminal where somebody types these answers. Returns the process's end."""
    ours, theirs = pty.openpty()
    os.write(ours, answers.encode())
    try:
        return subprocess.run([str(word) for word in words], stdin=theirs, capture_output=True, text=True, timeout=60, env={**os.environ, **environment})
    finally:
        os.close(theirs)
        os.close(ours)


def shown(words, columns, environment):
    """Runs a command whose standard output is a terminal of this width. Returns what the terminal was sent, and the errors."""
    ours, theirs = pty.openpty()
    fcntl.ioctl(theirs, termios.TIOCSWINSZ, struct.pack("HHHH", 40, columns, 0, 0))
    done = subprocess.Popen([str(word) for word in words], stdout=theirs, stderr=subprocess.PIPE, text=True, env={**os.environ, "TERM": "xterm-256color", **environment})
    os.close(theirs)
    text = b""
    try:
        while part := os.read(ours, 65536):
            text += part
    except OSError:
        pass  # the other side of the terminal is closed
    os.close(ours)
    errors = done.stderr.read()
    done.wait()
    return text.decode().replace("\r\n", "\n"), errors
