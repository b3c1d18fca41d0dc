# Start it with: python examples/django/ticker.py runserver [PORT]
"""A WebSocket in a Django view, in one file: numbers, as long as somebody wants them.

In production: gunicorn -k gthread --threads 100 ticker:application.
"""

import sys

from django.conf import settings
from django.core.management import execute_from_command_line
from django.core.wsgi import get_wsgi_application
from django.http import HttpResponse
from django.urls import path

import scriptling_ws as ws
from scriptling_ws import wsgi

settings.configure(DEBUG=True, ROOT_URLCONF=__name__, ALLOWED_HOSTS=["127.0.0.1", "localhost"])


def ticker(request):
    """Send a number, and the next one once something has come."""
    try:
        client = wsgi.accept(request.environ)
    except ws.HandshakeError as refused:
        return HttpResponse(refused.body, status=refused.status, content_type="text/plain")
    with client:
        number = 0
        client.send({"number": number})
        for _ in client:
            number += 1
            client.send({"number": number})
    return HttpResponse()


urlpatterns = [path("ticker", ticker)]
application = get_wsgi_application()

if __name__ == "__main__":
    execute_from_command_line(sys.argv)
