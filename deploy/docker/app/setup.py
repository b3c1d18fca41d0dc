"""The example's setup script: put yours here, and its modules beside it."""

import scriptling.runtime as runtime

runtime.http.websocket("/echo", "handlers.echo")
runtime.http.get("/", lambda request: "an echo is at /echo\n")
