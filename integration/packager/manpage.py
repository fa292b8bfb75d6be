"""bootlatch.toml(5), made of the commented example of the configuration, so that the page has every key."""

import re

KEY = re.compile(r"^(?:#: )?(\w+) = (.*)$")
TABLE = re.compile(r"^(?:#: )?(\[\[?[\w.]+\]\]?)$")
DESCRIPTION = ".SH DESCRIPTION"


def escape(text):
    """Escapes a text for roff."""
    text = text.replace("\\", "\\e").replace("-", "\\-")
    return "\\&" + text if text.startswith((".", "'")) else text


def paragraphs(lines):
    """Writes comment lines: text is filled, indented lines are kept as they are."""
    plain = False
    for line in lines:
        keep = line.startswith("  ")
        if keep != plain:
            yield ".nf" if keep else ".fi"
            plain = keep
        yield escape(line if keep else line.strip()) or ".PP"
    if plain:
        yield ".fi"


def entry(keys, comments):
    """Writes one or more keys with the comment that is above them."""
    for number, (key, value) in enumerate(keys):
        yield ".TP" if number == 0 else ".TQ"
        yield f"\\fB{escape(key)}\\fR = {escape(value)}"
    yield from paragraphs(comments) if comments else [f"Example: {escape(keys[0][1])}" if keys[0][1].startswith("[") else "The default is shown."]


def body(text):
    """Yields the page's sections: the comments at the top, then one section for each table."""
    comments, keys, top, current = [], [], True, None
    yield DESCRIPTION

    def flush():
        nonlocal comments, keys
        if keys:
            yield from entry(keys, comments)
        elif comments:
            yield ".PP"
            yield from paragraphs(comments)
        comments, keys = [], []

    for line in text.splitlines():
        key, table = KEY.match(line), TABLE.match(line)
        if table:
            pending = [] if keys else comments
            if keys:
                yield from flush()
            comments = []
            if top or not line.startswith("#: [[") or table.group(1) != current:
                yield f".SH {escape(table.group(1))}"
            current, top = table.group(1), False
            if pending:
                comments = pending
                yield from flush()
        elif key:
            keys.append(key.groups())
        elif line.startswith("#"):
            if keys:
                yield from flush()
            comments.append(line[2:] if line.startswith("# ") else line[1:])
        else:
            yield from flush()
    yield from flush()


def page(example, version, date):
    """Returns the page as roff."""
    lines = [
        f'.TH bootlatch.toml 5 "{date}" "bootlatch {version}" "File formats"',
        ".SH NAME", "bootlatch.toml \\- configuration of bootlatch, the network boot appliance",
        ".SH SYNOPSIS", ".I /etc/bootlatch/bootlatch.toml", *body(example),
        ".SH FILES", ".TP", ".I /usr/share/doc/bootlatch/examples/bootlatch.toml", "The example that this page was made of.",
        ".SH \"SEE ALSO\"", ".BR bootlatch (1),", ".BR bootlatch\\-serve (1),", ".BR bootlatch\\-init (1)",
    ]
    return "\n".join(line for number, line in enumerate(lines) if not (line == ".PP" and lines[number - 1].startswith((".PP", ".SH")))) + "\n"
