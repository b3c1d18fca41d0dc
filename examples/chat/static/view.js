// Part of the page of: scriptling-ws --server :8080 examples/chat/setup.py
// What is said, on the page. What others typed is shown as text, never as HTML.

const TOGETHER = 5 * 60_000; // messages of one person within this time are one group
const MOST = 300; // messages that are kept on the page
const NEAR = 80; // pixels from the end that count as being there
const HUES = 8;
const STATES = {
  pending: ["M12 7v5l3.5 2M12 3a9 9 0 1 0 0 18a9 9 0 0 0 0-18", "waiting to be sent"],
  sent: ["M5 13l4.5 4.5L19 7", "sent"],
  failed: ["M12 4l9.5 16h-19zM12 10v4M12 17h.01", "not sent"],
};
const LINK = /\bhttps?:\/\/[^\s<>"']+[^\s<>"'.,;:!?)\]}]/g;
const clock = new Intl.DateTimeFormat(undefined, { hour: "2-digit", minute: "2-digit" });
const calendar = new Intl.DateTimeFormat(undefined, { weekday: "long", day: "numeric", month: "long" });
const whole = new Intl.DateTimeFormat(undefined, { dateStyle: "full", timeStyle: "medium" });

/** An element with its class and what is in it. */
export function element(tag, className, ...children) {
  const made = document.createElement(tag);
  if (className) made.className = className;
  made.append(...children);
  return made;
}

/** The letters and the colour that stand for a name. */
export function avatar(name) {
  const letters = name.split(/[\s.,_-]+/).filter(Boolean).slice(0, 2).map((word) => [...word][0]);
  const made = element("span", "avatar", (letters.join("") || [...name][0]).toLocaleUpperCase());
  made.setAttribute("aria-hidden", "true");
  let hash = 0;
  for (const character of name) hash = (hash * 31 + character.codePointAt(0)) % 9973;
  made.dataset.hue = hash % HUES;
  return made;
}

function icon(path) {
  const svg = document.createElementNS("http://www.w3.org/2000/svg", "svg");
  svg.setAttribute("viewBox", "0 0 24 24");
  svg.setAttribute("aria-hidden", "true");
  const drawn = document.createElementNS(svg.namespaceURI, "path");
  drawn.setAttribute("d", path);
  svg.append(drawn);
  return svg;
}

/** A text with its links. */
function linked(text) {
  const parts = [];
  let end = 0;
  for (const found of text.matchAll(LINK)) {
    const link = element("a", "", found[0]);
    link.href = found[0];
    link.target = "_blank";
    link.rel = "noopener noreferrer nofollow";
    parts.push(text.slice(end, found.index), link);
    end = found.index + found[0].length;
  }
  return [...parts, text.slice(end)];
}

/** The list of messages. `show` is called with an image and its text when it is to be seen whole. */
export class View {
  #log;
  #list;
  #newer;
  #show;
  #last = null; // what the newest message was: { name, at }
  #day = new Date().toDateString();
  #following = true; // the end is in sight, and stays so

  constructor({ log, list, newer, show }) {
    this.#log = log;
    this.#list = list;
    this.#newer = newer;
    this.#show = show;
    log.addEventListener("scroll", () => this.#look());
    newer.addEventListener("click", () => { this.#toEnd(); log.focus(); });
    new ResizeObserver(() => { if (this.#following) this.#toEnd(); }).observe(log);
  }

  /** Show a message: { id, name, text, own, image: { blob, width, height }, state, at }. */
  add(message) {
    const at = message.at || new Date();
    this.#begin(at);
    const last = this.#last;
    const first = !last || last.name !== message.name || at - last.at > TOGETHER;
    this.#last = { name: message.name, at };
    const bubble = element("div", "bubble", element("span", "author", message.own ? "You" : message.name));
    if (message.image) bubble.append(this.#picture(message));
    if (message.text) bubble.append(element("p", "body", ...linked(message.text)));
    const state = element("span", "state");
    state.setAttribute("aria-live", "off"); // a screen reader reads the message, not each step of it
    bubble.append(element("p", "meta", this.#time(at), state));
    const item = element("li", "message fresh", avatar(message.name), bubble);
    item.classList.toggle("first", first);
    item.classList.toggle("own", message.own);
    item.dataset.id = message.id ?? "";
    this.#append(item, message.own);
    if (message.state) this.mark(item, message.state);
    return item;
  }

  /** Say what has become of an own message; `why` it was not sent. */
  mark(item, state, why = "") {
    for (const other of Object.keys(STATES)) item.classList.toggle(other, other === state);
    const [path, words] = STATES[state];
    const text = element("span", state === "failed" ? "" : "unseen", why || words);
    item.querySelector(".state").replaceChildren(icon(path), text);
    if (state === "sent") item.querySelector("time").replaceWith(this.#time(new Date()));
  }

  /** Show that something has happened. */
  tell(text) {
    this.#begin(new Date());
    this.#last = null;
    this.#append(element("li", "event", text), false);
  }

  /** Forget all. */
  clear() {
    for (const item of [...this.#list.children]) this.#remove(item);
    this.#last = null;
  }

  #begin(at) {
    const day = at.toDateString();
    if (day === this.#day) return;
    this.#day = day;
    this.#last = null;
    this.#append(element("li", "day", calendar.format(at)), false);
  }

  #append(item, own) {
    this.#list.append(item);
    while (this.#list.children.length > MOST) this.#remove(this.#list.firstElementChild);
    if (own || this.#following) this.#toEnd();
    else this.#newer.hidden = false;
  }

  #remove(item) {
    for (const image of item.querySelectorAll("img")) URL.revokeObjectURL(image.src);
    item.remove();
  }

  #look() {
    const { scrollHeight, scrollTop, clientHeight } = this.#log;
    this.#following = scrollHeight - scrollTop - clientHeight < NEAR;
    if (this.#following) this.#newer.hidden = true;
  }

  #toEnd() {
    this.#log.scrollTop = this.#log.scrollHeight;
    this.#following = true;
    this.#newer.hidden = true;
  }

  #time(at) {
    const time = element("time", "", clock.format(at));
    time.dateTime = at.toISOString();
    time.title = whole.format(at);
    return time;
  }

  #picture({ name, text, own, image }) {
    const shown = new Image(image.width, image.height); // it has its room before it is there
    shown.src = URL.createObjectURL(image.blob);
    shown.alt = text || `Image from ${own ? "you" : name}, without a description`;
    const button = element("button", "picture", shown);
    button.type = "button";
    button.setAttribute("aria-label", `${shown.alt} (enlarge)`);
    button.addEventListener("click", () => this.#show(shown, text));
    return button;
  }
}
