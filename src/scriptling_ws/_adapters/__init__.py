"""What the adapters for other servers (`wsgi`, `asgi`) are made of."""
