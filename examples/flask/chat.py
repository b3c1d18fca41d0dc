# Start it with: python examples/flask/chat.py [PORT], then open http://127.0.0.1:5000/
"""A chat in a Flask application. In production: gunicorn -k gthread --threads 100 chat:app."""

import sys
from pathlib import Path

from flask import Flask, request

import scriptling_ws as ws
from scriptling_ws import wsgi

app = Flask(__name__)


@app.get("/chat", websocket=True)
def chat():
    """What one says, all get. What is no text is ignored, as peers send anything."""
    with wsgi.accept(request.environ) as client:
        room = ws.room("chat")
        room.join(client)
        for message in client:
            if ws.is_text(message):
                room.send(message)
    return ""


@app.get("/")
def page():
    """The page."""
    return Path(__file__).with_name("chat.html").read_text(encoding="utf-8")


if __name__ == "__main__":
    app.run(port=int(sys.argv[1]) if len(sys.argv) > 1 else 5000)
