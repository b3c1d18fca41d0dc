"""The example's handler."""

import scriptling_ws as ws


def echo(client: ws.Connection) -> None:
    """Send everything back."""
    for message in client:
        client.send(message) if isinstance(message, str) else client.send_binary(message)
