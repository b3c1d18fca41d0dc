// Part of the page of: scriptling-ws --server :8080 examples/chat/setup.py
// The chat: who is in it, what is said, and what becomes of both when the connection is lost.

import { LARGEST_FILE, pack, prepare, shownSize, unpack } from "./images.js";
import { Line } from "./line.js";
import { View, avatar, element } from "./view.js";

const NAMELESS = 4000; // close codes of handlers.py
const TAKEN = 4001;
const TOO_LARGE = 1009;
const SILENCE = 12_000; // after which an own message that does not come back means a dead connection
const GRACE = 2_500; // who is back within this time has only loaded the page anew
const RETURN = 20_000; // for those who were cut off as this page was
const $ = (id) => document.getElementById(id);

const address = new URL("chat", location.href); // relative: so it works below any prefix
address.protocol = location.protocol === "https:" ? "wss:" : "ws:";
const line = new Line(address);
const view = new View({ log: $("log"), list: $("messages"), newer: $("newer"), show: enlarge });

const tabs = () => sessionStorage; // each tab is somebody
const browsers = () => localStorage; // what the form proposes
const key = kept(tabs)?.key ?? random(); // shows that a name is this tab's
let me = null; // { name, since }
let joined = false;
let lostAt = 0; // when an outage was noticed
let heardAt = 0; // when something has come last: an outage may be older than it was noticed
let listed = false; // whether the members that were here before are known
let returning = new Set(); // those that were here before an outage: one by one they come back
let attached = null;
let unread = 0;
const people = new Map(); // each member, and the timer of one that has just left
const pending = []; // own messages that have not come back: { id, data, item, since }
const seen = new Set(); // who said it, and its id, of messages that are shown

// -- coming and going ------------------------------------------------------------------------

/** Values that outlive a reload; where the browser forbids that, the name is asked for again. */
function kept(storage, value) {
  try {
    if (value === undefined) return JSON.parse(storage().getItem("chat"));
    storage().setItem("chat", JSON.stringify(value));
  } catch { /* it is forbidden */ }
  return null;
}

function random() {
  const bytes = crypto.getRandomValues(new Uint8Array(12));
  return Array.from(bytes, (byte) => byte.toString(16).padStart(2, "0")).join("");
}

function enter(who) {
  me = who;
  $("welcome").hidden = true;
  $("chat").hidden = false;
  resize();
  $("text").focus();
  line.open();
}

function welcome(problem = "") {
  line.close();
  me = null;
  joined = false;
  lostAt = heardAt = 0;
  kept(tabs, { key });
  $("chat").hidden = true;
  $("outage").hidden = true;
  $("welcome").hidden = false;
  if (!$("name").value) $("name").value = kept(browsers)?.name ?? "";
  wrong(problem);
  $("name").focus();
}

function wrong(problem) {
  $("name-error").textContent = problem;
  $("name").setAttribute("aria-invalid", String(Boolean(problem)));
}

$("join").addEventListener("submit", (event) => {
  event.preventDefault();
  const name = $("name").value.normalize("NFC").replace(/\p{C}/gu, "").replace(/\s+/g, " ").trim();
  if (!name) {
    wrong("Type a name first.");
    $("name").focus();
    return;
  }
  wrong("");
  enter({ name });
});

$("leave").addEventListener("click", () => {
  for (const { timer } of people.values()) clearTimeout(timer);
  people.clear();
  pending.length = 0;
  seen.clear();
  view.clear();
  attach(null);
  $("empty").hidden = false;
  welcome();
});

// -- the connection --------------------------------------------------------------------------

// After a reload the page has nothing of what was said since it has joined; after an outage, which a
// device may have slept through, all up to the last that has come.
line.addEventListener("open", () => {
  const since = heardAt || me.since;
  const away = since ? (Date.now() - since) / 1000 : 0;
  line.send(JSON.stringify({ name: me.name, key, away }));
});

line.addEventListener("message", ({ data }) => {
  heardAt = Date.now();
  const message = typeof data === "string" ? JSON.parse(data) : unpack(data);
  events[message.event]?.(message);
});

line.addEventListener("closed", ({ code, reason }) => {
  if (joined) {
    lostAt = Date.now();
    announce("The connection is lost. Trying again.");
  }
  joined = false;
  if (code === NAMELESS || code === TAKEN) {
    welcome(code === TAKEN ? "Somebody else has this name: choose another one." : `${reason}.`);
  } else if (code === TOO_LARGE && pending.length) { // the same would happen again
    view.mark(pending.shift().item, "failed", "Not sent: it is too long");
  }
  showState();
});

line.addEventListener("state", showState);

function showState() {
  const state = joined ? "online" : line.state === "waiting" ? "waiting" : "connecting";
  const words = { online: "Connected", waiting: "Not connected", connecting: "Connecting …" };
  $("status").dataset.state = state;
  $("status-text").textContent = words[state];
  for (const title of document.querySelectorAll(".here")) {
    title.textContent = joined || !lostAt ? "Here now" : "Here before";
  }
  $("outage").hidden = !me || joined || !(lostAt || state === "waiting" || !$("outage").hidden);
  $("retry").disabled = state !== "waiting";
  const seconds = Math.max(1, Math.ceil((line.due - Date.now()) / 1000));
  const when = state === "waiting" ? `Next try in ${seconds} s.` : "Trying now …";
  $("outage-text").textContent = `${navigator.onLine ? "" : "This device is offline. "}${when} `
    + "What you write is sent when it is back.";
}

let backlog = 0;
setInterval(() => {
  if (!joined) {
    if (me) showState();
  } else if (pending.length) {
    if (line.waiting < backlog) pending[0].since = Date.now(); // it is on its way, slowly
    backlog = line.waiting;
    if (Date.now() - pending[0].since > SILENCE) line.drop();
  }
}, 500);

$("retry").addEventListener("click", () => { line.retry(); $("text").focus(); });

// -- what comes ------------------------------------------------------------------------------

const events = {
  welcome({ name }) {
    me = { name, since: me.since ?? Date.now() };
    kept(tabs, { ...me, key });
    kept(browsers, { name });
    joined = true;
    listed = false;
    line.settle();
    if (lostAt) {
      const seconds = Math.max(1, Math.round((Date.now() - lostAt) / 1000));
      view.tell(`You were away for ${seconds} s`);
      announce("Connected again.");
      lostAt = 0;
      returning = new Set(people.keys());
      setTimeout(() => returning.clear(), RETURN);
    }
    for (const message of pending) dispatch(message);
    showState();
  },
  joined({ members }) { update(members); },
  left({ members }) { update(members); },
  said(message) { come(message); },
  image({ blob, width, height, ...message }) { come({ ...message, image: { blob, width, height } }); },
};

function come(message) {
  const index = pending.findIndex(({ id }) => id === message.id);
  if (index >= 0 && message.name === me.name) {
    view.mark(pending.splice(index, 1)[0].item, "sent");
    return;
  }
  if (!remember(message)) return; // it was sent again after an outage
  $("empty").hidden = true;
  const own = message.name === me.name; // from another tab
  view.add({ ...message, own, state: own ? "sent" : "", at: message.at && new Date(message.at * 1000) });
  if (document.hidden && !own) {
    unread += 1;
    document.title = `(${unread}) Chat`;
  }
}

/** Whether a message is new. An id is its sender's: another one may have the same. */
function remember({ name, id }) {
  if (!id) return true;
  const mark = JSON.stringify([name, id]);
  if (seen.has(mark)) return false;
  seen.add(mark);
  if (seen.size > 1000) seen.delete(seen.values().next().value);
  return true;
}

document.addEventListener("visibilitychange", () => {
  if (document.hidden) return;
  unread = 0;
  document.title = "Chat";
});

// -- who is here -----------------------------------------------------------------------------

/** Take over the list of members, and say who has come or gone, but for those that were here. */
function update(members) {
  const here = new Set(members);
  for (const name of here) {
    if (!people.has(name) && listed && !returning.has(name)) view.tell(`${name} joined`);
    clearTimeout(people.get(name)?.timer);
    people.set(name, {});
  }
  for (const [name, { timer }] of people) {
    if (here.has(name)) continue;
    if (!listed) {
      clearTimeout(timer);
      people.delete(name);
    } else if (!timer) {
      people.set(name, { timer: setTimeout(() => gone(name), GRACE) });
    }
  }
  listed = true;
  showPeople();
}

function gone(name) {
  people.delete(name);
  if (!me) return;
  view.tell(`${name} left`);
  showPeople();
}

function showPeople() {
  const names = [...people.keys()].sort((a, b) => (b === me.name) - (a === me.name) || a.localeCompare(b));
  for (const list of document.querySelectorAll(".people")) {
    list.replaceChildren(...names.map((name) => {
      const item = element("li", "", avatar(name), element("span", "", name));
      if (name === me.name) item.append(element("span", "you", "you"));
      return item;
    }));
  }
  for (const count of document.querySelectorAll(".count")) count.textContent = names.length;
}

$("show-people").addEventListener("click", () => $("people").showModal());

// -- what goes -------------------------------------------------------------------------------

$("say").addEventListener("submit", (event) => {
  event.preventDefault();
  const text = $("text").value.trim();
  if (!text && !attached) return;
  const id = random();
  const image = attached;
  const size = image && { width: image.width, height: image.height };
  const data = image ? pack({ id, text, ...size }, image.blob) : JSON.stringify({ text, id });
  remember({ name: me.name, id });
  $("empty").hidden = true;
  const item = view.add({ id, name: me.name, text, own: true, image, state: "pending" });
  const message = { id, data, item, since: 0 };
  pending.push(message);
  if (joined) dispatch(message);
  $("text").value = "";
  attach(null);
  resize();
  $("text").focus();
});

function dispatch(message) {
  message.since = Date.now();
  line.send(message.data);
}

$("text").addEventListener("keydown", (event) => {
  if (event.key === "Enter" && !event.shiftKey && !event.isComposing) {
    event.preventDefault();
    $("say").requestSubmit();
  }
});

function resize() {
  $("text").style.height = "auto";
  $("text").style.height = `${$("text").scrollHeight}px`;
}
$("text").addEventListener("input", resize);

// -- images ----------------------------------------------------------------------------------

$("limit").textContent = shownSize(LARGEST_FILE);

function attach(image, original = 0) {
  if (attached) URL.revokeObjectURL($("attached-image").src);
  attached = image;
  $("attached").hidden = !image;
  $("say-error").textContent = "";
  if (!image) return;
  $("attached-image").src = URL.createObjectURL(image.blob);
  const smaller = image.blob.size < original ? `, made smaller from ${shownSize(original)}` : "";
  $("attached-size").textContent = `${image.width} × ${image.height}, ${shownSize(image.blob.size)}${smaller}`;
  announce("The image is attached.");
}

async function take(files) {
  const file = [...files].find(({ type }) => type.startsWith("image/")) ?? files[0];
  if (!file || !me) return;
  try {
    const image = await prepare(file);
    if (!me) return; // who has left meanwhile: whoever joins next is not to send it
    attach(image, file.size);
    $("text").focus();
  } catch (error) {
    $("say-error").textContent = error.message;
  }
}

$("attach").addEventListener("click", () => $("file").click());
$("file").addEventListener("change", () => { take($("file").files); $("file").value = ""; });
$("detach").addEventListener("click", () => { attach(null); $("text").focus(); });

addEventListener("paste", (event) => {
  if (!me || !event.clipboardData?.files.length) return;
  if (event.clipboardData.getData("text/plain")) return; // a text, of which there is a picture too
  event.preventDefault();
  take(event.clipboardData.files);
});

const carriesFiles = (event) => me && event.dataTransfer?.types.includes("Files");
addEventListener("dragover", (event) => {
  if (!carriesFiles(event)) return;
  event.preventDefault();
  $("drop").hidden = false;
});
addEventListener("dragleave", (event) => { if (!event.relatedTarget) $("drop").hidden = true; });
addEventListener("drop", (event) => {
  $("drop").hidden = true;
  if (!carriesFiles(event)) return;
  event.preventDefault();
  take(event.dataTransfer.files);
});

function enlarge(image, text) {
  $("viewed").src = image.src;
  $("viewed").alt = image.alt;
  $("viewed-text").textContent = text;
  $("viewer").showModal();
}

for (const dialog of document.querySelectorAll("dialog")) {
  // What is beside it is the dialog itself, as far as clicks go.
  dialog.addEventListener("click", (event) => { if (event.target === dialog) dialog.close(); });
}

// --------------------------------------------------------------------------------------------

function announce(text) {
  $("announce").textContent = text;
}

const before = kept(tabs);
if (before?.name) enter({ name: before.name, since: before.since });
else welcome();
