// A WebSocket client on Node's ws, which connects to a server of ours for tests/test_peers.py.
//
// It reads lines of JSON, does what the field "do" names, and answers each with a
// line of JSON. client.py beside it does the same on websockets.

import { once } from "node:events";
import { createInterface } from "node:readline";
import { WebSocket } from "ws";

const open = async (url, protocols = [], wanted = null) => {
  const perMessageDeflate = wanted && {
    threshold: 0,
    serverNoContextTakeover: wanted.server_no_context_takeover,
    clientNoContextTakeover: wanted.client_no_context_takeover,
    serverMaxWindowBits: wanted.server_max_window_bits,
    clientMaxWindowBits: wanted.client_max_window_bits,
  };
  const socket = new WebSocket(url, protocols, { perMessageDeflate: perMessageDeflate ?? false });
  let extensions;
  socket.on("upgrade", ({ headers }) => (extensions = headers["sec-websocket-extensions"] ?? ""));
  await once(socket, "open");
  return Object.assign(socket, { agreed: extensions });
};

const ended = async (socket) => {
  const [code, reason] = await once(socket, "close");
  return { code, reason: reason.toString() };
};

// A payload of so many bytes; as text with characters of one to four bytes.
const payload = (size, text) => {
  const unit = text ? Buffer.from("aé€😀") : Buffer.from(Array.from({ length: 251 }, (_, i) => i));
  const whole = size - (size % unit.length);
  return Buffer.concat([Buffer.alloc(whole, unit), Buffer.alloc(size - whole, "x")]);
};

const actions = {
  // Sends a message of every size, in so many frames with a ping after each; which came back.
  // It compresses if it is given the parameters of permessage-deflate.
  async echo({ url, text, sizes, pieces, deflate }) {
    const socket = await open(url, [], deflate);
    let pongs = 0;
    socket.on("pong", () => pongs++);
    const same = [];
    for (const size of sizes) {
      const data = payload(size, text);
      const step = Math.ceil(data.length / pieces);
      for (let piece = 0; piece < pieces; piece++) {
        const part = data.subarray(piece * step, (piece + 1) * step);
        socket.send(part, { binary: !text, fin: piece === pieces - 1 });
        if (pieces > 1) socket.ping(`ping ${piece}`);
      }
      const [back, binary] = await once(socket, "message");
      if (binary !== text && data.equals(back)) same.push(size);
    }
    socket.close();
    await once(socket, "close");
    return { same, pongs, extensions: socket.agreed };
  },

  // Opens and closes with a code and a reason; with what it was closed.
  async close({ url, code, reason }) {
    const socket = await open(url);
    const end = ended(socket);
    socket.close(code, reason);
    return await end;
  },

  // Opens and breaks the connection off.
  async drop({ url }) {
    const socket = await open(url);
    const end = ended(socket);
    socket.terminate();
    await end;
    return {};
  },

  // Opens and waits for the server to close; with what it did, and the subprotocol.
  async wait({ url, protocols }) {
    const socket = await open(url, protocols);
    return { ...(await ended(socket)), protocol: socket.protocol };
  },
};

for await (const line of createInterface({ input: process.stdin })) {
  const request = JSON.parse(line);
  let answer;
  try {
    answer = await actions[request.do](request);
  } catch (error) {
    answer = { error: String(error.stack) };
  }
  process.stdout.write(JSON.stringify(answer) + "\n");
}
