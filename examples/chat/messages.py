# Started by setup.py: scriptling-ws --server :8080 examples/chat/setup.py
"""What the chat's clients send, read with care: peers send anything."""

import json
import unicodedata

LONGEST_NAME = 40
LONGEST_ID = 64
LONGEST_CAPTION = 2000
LONGEST_HEADER = 16 * 1024  # bytes of what stands before an image
LARGEST_SIDE = 16_384  # pixels
FOREVER = 1e9  # seconds

# By its first bytes, whatever it is called: a page would run a script in what calls itself SVG.
SIGNATURES = (
    (b"\x89PNG\r\n\x1a\n", "image/png"),
    (b"\xff\xd8\xff", "image/jpeg"),
    (b"GIF87a", "image/gif"),
    (b"GIF89a", "image/gif"),
)


def field(message, key):
    """A text of a JSON message, or an empty one if there is none."""
    try:
        value = json.loads(message)[key].strip()
        value.encode()  # a lone surrogate could not be sent on
    except (TypeError, ValueError, KeyError, AttributeError, RecursionError):  # nested deeply
        return ""
    return value


def name(message):
    """The name in a client's first message, without what cannot be seen in one."""
    # Cut first: for marks upon one letter `normalize` takes time by the square of their number.
    given = field(message, "name")[: 4 * LONGEST_NAME]
    seen = (c for c in unicodedata.normalize("NFC", given) if _is_seen(c))
    return " ".join("".join(seen).split())[:LONGEST_NAME].rstrip()


def _is_seen(character):
    return character.isprintable() or character.isspace()


def seconds(message, key):
    """A time that a message has; 0 if there is none."""
    try:
        value = json.loads(message)[key]
    except (TypeError, ValueError, KeyError, RecursionError):
        return 0
    return value if type(value) in (int, float) and 0 < value < FOREVER else 0


def said(name, message):
    """The event for a text, or None if there is none."""
    text = field(message, "text")
    return {"event": "said", "name": name, "text": text, **_id(message)} if text else None


def image(name, message):
    """The event for an image and the image; the event is None if it is none."""
    head, _, data = message.partition(b"\n") if b"\n" in message[:LONGEST_HEADER] else (b"", 0, b"")
    kind = _kind(data)
    size = _size(head)
    if kind is None or size is None:
        return None, b""
    event = {
        "event": "image",
        "name": name,
        "type": kind,
        "text": field(head, "text")[:LONGEST_CAPTION],
        **size,
        **_id(head),
    }
    return event, data


def packed(event, image):
    """An event, and the image behind a line end if there is one: as they are sent and kept."""
    return json.dumps(event).encode() + (b"\n" + image if image else b"")


def _kind(data):
    for signature, kind in SIGNATURES:
        if data.startswith(signature):
            return kind
    return "image/webp" if data[:4] == b"RIFF" and data[8:12] == b"WEBP" else None


def _size(head):
    """Width and height, so that a page can keep room for it; None if they are none."""
    try:
        size = {side: json.loads(head)[side] for side in ("width", "height")}
    except (TypeError, ValueError, KeyError, RecursionError):
        return None
    fits = all(type(side) is int and 0 < side <= LARGEST_SIDE for side in size.values())
    return size if fits else None


def _id(message):
    """The id that a client has given to its message, if it has."""
    given = field(message, "id")
    return {"id": given[:LONGEST_ID]} if given else {}
