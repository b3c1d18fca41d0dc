// A WebSocket server on Node's ws, which tests/test_peers.py connects to.
//
// It writes lines of JSON: {"port"} first, then {"id", "code", "reason"} for every
// connection that has ended. It ends with its standard input. What it does with a
// connection is in the URL's path, its id in the query; server.py beside it does the same on
// websockets. With an argument, the parameters of permessage-deflate in JSON, it compresses.

import { once } from "node:events";
import { WebSocketServer } from "ws";

const report = (what) => process.stdout.write(JSON.stringify(what) + "\n");

const behaviours = {
  // Sends every message back.
  "/echo": (socket) => {
    socket.on("message", (data, binary) => socket.send(data, { binary }));
  },

  // Sends every message back in four frames and an empty last one, a ping after each.
  "/pieces": (socket) => {
    socket.on("message", (data, binary) => {
      const size = Math.ceil(data.length / 4);
      for (let piece = 0; piece < 4; piece++) {
        const part = data.subarray(piece * size, (piece + 1) * size);
        socket.send(part, { binary, fin: false });
        socket.ping(`ping ${piece}`);
      }
      socket.send("", { binary, fin: true });
    });
  },

  // Pings with every message as the payload, and sends back what the pong brought.
  "/ping": (socket) => {
    socket.on("message", async (data) => {
      const pong = once(socket, "pong");
      socket.ping(data);
      socket.send((await pong)[0].toString());
    });
  },

  // Closes on the first message, with the query's code and reason, or without any.
  "/close": (socket, query) => {
    socket.on("message", () => {
      if (query.has("code")) {
        socket.close(Number(query.get("code")), query.get("reason"));
      } else {
        socket.close();
      }
    });
  },

  // Breaks the connection off on the first message.
  "/drop": (socket) => {
    socket.on("message", () => socket.terminate());
  },
};

const wanted = process.argv[2] && JSON.parse(process.argv[2]);
const deflate = wanted && {
  threshold: 0,
  serverNoContextTakeover: wanted.server_no_context_takeover,
  clientNoContextTakeover: wanted.client_no_context_takeover,
  serverMaxWindowBits: wanted.server_max_window_bits,
  clientMaxWindowBits: wanted.client_max_window_bits,
};

const server = new WebSocketServer({
  host: "127.0.0.1",
  port: 0,
  perMessageDeflate: deflate,
  handleProtocols: (offered) => (offered.has("chat.v2") ? "chat.v2" : false),
});
server.on("listening", () => report({ port: server.address().port }));
server.on("connection", (socket, request) => {
  const url = new URL(request.url, "http://localhost");
  socket.on("error", (error) => console.error(error));
  const id = url.searchParams.get("id");
  socket.on("close", (code, reason) => report({ id, code, reason: reason.toString() }));
  behaviours[url.pathname](socket, url.searchParams);
});

process.stdin.on("end", () => process.exit(0)).resume();
