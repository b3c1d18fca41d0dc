# Start it with: scriptling-ws --server :8080 examples/chat/setup.py
"""A chat: open the http:// address that the server prints in two browser windows.

What is registered here is what the server answers: the page, and the chat beside it. With several
processes they need a Redis server: `serve.py` starts it so.
"""

from pathlib import Path

import scriptling.runtime as runtime

# All that the page needs is here: what somebody may get into it loads and sends nothing elsewhere.
POLICY = (
    "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self' blob: data:; "
    "connect-src 'self'; base-uri 'none'; form-action 'none'; frame-ancestors 'none'"
)

runtime.http.static(
    "/",
    Path(__file__).with_name("static"),
    headers={"Content-Security-Policy": POLICY, "Cache-Control": "no-cache"},
)
runtime.http.websocket(
    "/chat",
    "handlers.chat_handler",
    binary_type=bytes,
    max_message_size=512 * 1024,  # an image, as the page has made it smaller; see handlers.py
    send_timeout=5,
)
