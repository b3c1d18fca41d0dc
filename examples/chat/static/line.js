// Part of the page of: scriptling-ws --server :8080 examples/chat/setup.py
// A WebSocket that comes back: what it is doing is told, and tries come less and less often.

const FIRST_PAUSE = 500;
const LONGEST_PAUSE = 15_000;
const PATIENCE = 10_000; // for a try to connect

/**
 * Events: "state" whenever `state` has changed, "open", "message" (with `data`), and "closed" (with
 * `code` and `reason`), before which one may call `close` to stay away.
 */
export class Line extends EventTarget {
  /** "closed", "connecting", "open", or "waiting" for the next try at the time `due`. */
  state = "closed";
  due = 0;
  #url;
  #socket = null;
  #timer = 0;
  #pause = FIRST_PAUSE;

  constructor(url) {
    super();
    this.#url = url;
    // What may end an outage is worth a try at once.
    addEventListener("online", () => this.retry());
    document.addEventListener("visibilitychange", () => { if (!document.hidden) this.retry(); });
  }

  /** Connect. There is one socket at a time, whatever is called how often. */
  open() {
    if (this.state === "open" || this.state === "connecting") return;
    clearTimeout(this.#timer);
    const socket = new WebSocket(this.#url);
    socket.binaryType = "arraybuffer";
    this.#socket = socket;
    const own = (handle) => (event) => { if (this.#socket === socket) handle(event); };
    socket.onopen = own(() => {
      clearTimeout(this.#timer);
      this.#become("open");
      this.dispatchEvent(new Event("open"));
    });
    socket.onmessage = own(({ data }) => this.dispatchEvent(new MessageEvent("message", { data })));
    socket.onclose = own(({ code, reason }) => this.#lost(code, reason));
    this.#timer = setTimeout(() => this.drop(), PATIENCE);
    this.#become("connecting");
  }

  /** Try at once, if it waits. */
  retry() {
    if (this.state === "waiting") this.open();
  }

  /** It works: the next outage begins with the shortest pause again. */
  settle() {
    this.#pause = FIRST_PAUSE;
  }

  /** Send, if it is open: what is lost on the way the caller has to notice. */
  send(data) {
    if (this.state === "open") this.#socket.send(data);
  }

  /** Bytes that are still to leave. */
  get waiting() {
    return this.#socket?.bufferedAmount ?? 0;
  }

  /** Give up a connection that is silent: the browser may notice only after minutes. */
  drop() {
    const socket = this.#socket;
    this.#lost(1006, "");
    socket?.close();
  }

  /** Leave, and stay away. */
  close() {
    clearTimeout(this.#timer);
    const socket = this.#socket;
    this.#socket = null;
    socket?.close(1000);
    this.#become("closed");
  }

  #lost(code, reason) {
    clearTimeout(this.#timer);
    this.#socket = null;
    // Not all who were cut off come back in the same moment.
    const pause = this.#pause * (0.5 + Math.random() / 2);
    this.#pause = Math.min(2 * this.#pause, LONGEST_PAUSE);
    this.due = Date.now() + pause;
    this.#timer = setTimeout(() => this.open(), pause);
    this.#become("waiting");
    this.dispatchEvent(new CloseEvent("closed", { code, reason }));
  }

  #become(state) {
    this.state = state;
    this.dispatchEvent(new Event("state"));
  }
}
