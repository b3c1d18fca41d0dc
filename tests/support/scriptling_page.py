"""The API page's code blocks, got back out of the page's text.

The page was saved as text, line by line. What that lost of its code, and nothing
else, is put back, by rules that know nothing of what the code does:

Blocks. A block begins after a line that announces it, and its last line runs into
the heading that follows it. BLOCKS names both ends of each, in the page's order.

Indentation. All of it is gone; Python's grammar and these rules give it back:

1. The line after one that ends with ":" is one level deeper.
2. `elif` and `else` stand where the innermost `if` above them that is still open
   does, `except` and `finally` where the innermost open `try` does.
3. After `break` and `continue` the level is one less: nothing can follow them in it.
4. A script's last line `conn.close()` is at the margin, unless rule 1 is for it.
5. Inside brackets, where indentation means nothing, the lines stay as they are.
6. Any other line is on the level of the line before it.

Blank lines stay lost. So a block differs from what the page shows by white space alone.
"""

import re
from dataclasses import dataclass

from places import REPOSITORY

SEED = REPOSITORY.parent / "shared" / "seed"

# What the words of rule 2 can follow.
OPENS = {
    "elif": ("if", "elif"),
    "else": ("if", "elif"),
    "except": ("try", "except"),
    "finally": ("try", "except"),
}
EXAMPLE = "Example:\n"

# A block's name, the text before it, and the text that its last line runs into.
BLOCKS = [
    ("connect", EXAMPLE, "Connection Methods\n"),
    ("send", EXAMPLE, "conn.send_binary(data)\n"),
    ("send_binary", EXAMPLE, "conn.receive(timeout=30)\n"),
    ("receive", EXAMPLE, "conn.connected()\nCheck"),
    ("connected", EXAMPLE, "conn.close()\n"),
    ("close", EXAMPLE, "scriptling.websocket.is_text(message)\n"),
    ("is_text", EXAMPLE, "scriptling.websocket.is_binary(message)\n"),
    ("is_binary", EXAMPLE, "conn.remote_addr\n"),
    ("Basic Echo Client", "Basic Echo Client\n", "JSON Messaging\n"),
    ("JSON Messaging", "", "Binary Data\n"),
    ("Binary Data", "", "Handling Mixed Text and Binary\n"),
    ("Handling Mixed Text and Binary", "", "With Custom Headers\n"),
    ("With Custom Headers", "", "WebSocket Server (runtime.http.websocket)\n"),
    ("setup.py", "Server Example\n", "# handlers.py\n"),
    ("handlers.py", "", "WebSocketClient Object (Server-side)\n"),
    ("message type in server handlers", "module-level functions:\n", "Error Handling\n"),
    ("Error Handling", "", "Notes\n"),
]


@dataclass(frozen=True)
class Block:
    """A piece of the page's code: as the page has it, and as Python takes it."""

    name: str
    text: str

    @property
    def code(self):
        return indented(self.text)


def read():
    """The page's text; None where the page is not."""
    pages = sorted(SEED.glob("*.txt")) if SEED.is_dir() else []
    return pages[0].read_text(encoding="utf-8") if pages else None


def split(page):
    """The page's blocks in order, and what is left of the page without them."""
    blocks = {}
    prose = []
    position = 0
    for name, before, after in BLOCKS:
        start = page.index(before, position) + len(before)
        end = page.index(after, start)
        prose.append(page[position:start])
        blocks[name] = Block(name, page[start:end])
        # "# handlers.py" is the next block's first line; a heading is none.
        position = end if after.startswith("#") else end + len(after)
    prose.append(page[position:])
    return blocks, "\n".join(prose)


def indented(text):
    """A block's code with its indentation put back."""
    result = []
    suites = []  # the first words of the statements whose suites are open
    opened = False  # whether the line before has opened one
    brackets = 0
    lines = text.splitlines()
    for number, line in enumerate(lines):
        word = re.match(r"\w*", line)[0]
        if brackets:
            result.append(line)
        else:
            if word in OPENS:
                while suites.pop() not in OPENS[word]:
                    pass
            elif number == len(lines) - 1 and line == "conn.close()" and not opened:
                suites.clear()
            result.append("    " * len(suites) + line)
        brackets += sum(map(line.count, "([{")) - sum(map(line.count, ")]}"))
        opened = not brackets and line.endswith(":") and word != ""
        if opened:
            suites.append(word)
        elif line in ("break", "continue"):
            suites.pop()
    return "\n".join(result) + "\n"
