# Start it with: scriptling-ws --server :8080 examples/chat/setup.py
"""A chat: open the address that the server prints, with http:// for ws://, in two browser windows.

What is registered here is what the server answers: the page, and the chat beside it.
"""

from pathlib import Path

import scriptling.runtime as runtime

runtime.http.static("/", Path(__file__).with_name("static"))
runtime.http.websocket(
    "/chat",
    "handlers.chat_handler",
    max_message_size=4096,  # longer ones close the connection: nobody types that much
    send_timeout=5,  # who does not read for so long is dropped, and holds nobody up
)
