// Part of the page of: python examples/dashboard/serve.py
// Two sockets: one that brings the values, and one that sets the target for who has the token. The
// token is sent once, for a cookie that the browser sends with that socket.

const SHOWN = 60_000; // milliseconds of the chart
const KEPT = 600;
const FIRST_PAUSE = 500;
const LONGEST_PAUSE = 10_000;
const SILENCE = 3_000; // ten values a second are due: without any for so long the connection is dead
const $ = (id) => document.getElementById(id);
const values = [];
let control = null;

/** The address of a socket beside this page: relative, so that it has the page's prefix. */
function address(name) {
  const url = new URL(name, location.href);
  url.protocol = location.protocol === "https:" ? "wss:" : "ws:";
  url.hash = "";
  return url;
}

// -- the values ------------------------------------------------------------------------------

let pause = FIRST_PAUSE;
let watch = 0;

function live() {
  const socket = new WebSocket(address("live"));
  let over = false;
  const lost = () => {
    if (over) return;
    over = true;
    clearTimeout(watch);
    socket.close();
    tell("lost", "No connection, trying again …");
    setTimeout(live, pause * (0.5 + Math.random() / 2));
    pause = Math.min(2 * pause, LONGEST_PAUSE);
  };
  socket.onmessage = ({ data }) => {
    clearTimeout(watch);
    watch = setTimeout(lost, SILENCE);
    pause = FIRST_PAUSE;
    const message = JSON.parse(data);
    if (message.history) values.splice(0, values.length, ...message.history);
    else come(message);
  };
  socket.onclose = lost;
  watch = setTimeout(lost, 10_000);
}

function come(message) {
  values.push(message);
  if (values.length > KEPT) values.shift();
  tell("live", "Live");
  $("temperature").textContent = message.temperature.toFixed(1);
  $("target").textContent = message.target.toFixed(0);
  $("power").textContent = message.power.toFixed(0);
  $("heater").style.width = `${message.power}%`;
  $("viewers").textContent = message.viewers;
  const before = values.at(-21);
  const trend = before ? (message.temperature - before.temperature) / 2 : 0;
  $("trend").textContent = Math.abs(trend) < 0.05 ? "steady" : `${trend > 0 ? "rising" : "falling"} by ${Math.abs(trend).toFixed(1)} °C a second`;
  ask();
}

function tell(state, text) {
  if ($("status").dataset.state === state) return; // not ten times a second
  document.body.classList.toggle("stale", state !== "live");
  if (state === "live" && !control && unlocked()) connect(); // it was lost as well
  $("status").dataset.state = state;
  $("status").textContent = text;
}

// -- the chart -------------------------------------------------------------------------------

const calm = matchMedia("(prefers-reduced-motion: reduce)");
let asked = false;
let drawn = 0;

/** Draw with the browser's next frame; calmly, once a second. */
function ask() {
  if (asked || (calm.matches && Date.now() - drawn < 1000)) return;
  asked = true;
  requestAnimationFrame(() => { asked = false; drawn = Date.now(); draw(); });
}

function draw() {
  const canvas = $("chart");
  const { width, height } = canvas.getBoundingClientRect();
  const scale = devicePixelRatio;
  if (canvas.width !== Math.round(width * scale) || canvas.height !== Math.round(height * scale)) {
    canvas.width = Math.round(width * scale);
    canvas.height = Math.round(height * scale);
  }
  const context = canvas.getContext("2d");
  context.setTransform(scale, 0, 0, scale, 0, 0);
  context.clearRect(0, 0, width, height);
  const colour = (name) => getComputedStyle(canvas).getPropertyValue(name);
  const all = values.flatMap(({ temperature, target }) => [temperature, target]);
  if (!all.length) return;
  const step = Math.max(...all) - Math.min(...all) > 60 ? 50 : 10;
  const low = Math.floor((Math.min(...all) - 2) / step) * step;
  const high = Math.ceil((Math.max(...all) + 2) / step) * step;
  const left = 38;
  const bottom = height - 20;
  const end = values.at(-1).at * 1000;
  const x = ({ at }) => width - 6 - ((end - at * 1000) / SHOWN) * (width - left - 6);
  const y = (value) => bottom - ((value - low) / (high - low)) * (bottom - 8);
  context.font = "12px system-ui, sans-serif";
  context.fillStyle = colour("--quiet");
  context.strokeStyle = colour("--line");
  context.textAlign = "right";
  context.textBaseline = "middle";
  for (let value = low; value <= high; value += step) {
    context.fillText(`${value}`, left - 8, y(value));
    path(context, [[left, y(value)], [width, y(value)]], 1);
  }
  context.textBaseline = "alphabetic";
  context.fillText("now", width - 4, height - 4);
  context.textAlign = "left";
  context.fillText("60 s ago", left, height - 4);
  context.save();
  context.beginPath();
  context.rect(left, 0, width - left, height);
  context.clip();
  context.strokeStyle = colour("--second");
  context.setLineDash([6, 5]);
  path(context, values.map((value) => [x(value), y(value.target)]), 2);
  context.setLineDash([]);
  context.strokeStyle = colour("--accent");
  path(context, values.map((value) => [x(value), y(value.temperature)]), 2.5);
  context.restore();
  context.fillStyle = colour("--accent");
  context.beginPath();
  context.arc(x(values.at(-1)), y(values.at(-1).temperature), 4, 0, 2 * Math.PI);
  context.fill();
}

function path(context, points, width) {
  context.lineWidth = width;
  context.lineJoin = "round";
  context.beginPath();
  for (const [x, y] of points) context.lineTo(x, y);
  context.stroke();
}

new ResizeObserver(ask).observe($("chart"));
matchMedia("(prefers-color-scheme: dark)").addEventListener("change", ask);

// -- the control -----------------------------------------------------------------------------

/** Ask for the cookie; whether the token is the right one, the answer says. */
async function unlock(token, typed = false) {
  let status = 0;
  $("answer").textContent = ""; // the same answer twice is read out twice
  try {
    const headers = { Authorization: `Bearer ${token}` };
    ({ status } = await fetch("unlock", { method: "POST", headers }));
  } catch (error) {
    if (/[^!-~]/.test(token)) status = 401; // no header has such characters, nor any token
  }
  if (status === 204) {
    unlocked(true);
    connect(typed);
  } else {
    $("answer").textContent = status === 401 ? "This is not the token." : "The control is not connected.";
  }
}

/** Connect the control. That the cookie is no longer good, a script cannot see: it is not let in. */
function connect(typed = false) {
  control?.close();
  const socket = new WebSocket(address("control"));
  control = socket;
  socket.onmessage = ({ data }) => {
    const message = JSON.parse(data);
    if (message.lowest !== undefined) {
      locked(false);
      Object.assign($("wanted"), { min: message.lowest, max: message.highest, value: message.target });
      show();
      if (typed) $("wanted").focus();
    } else if (message.error) {
      $("answer").textContent = message.error;
    } else {
      $("answer").textContent = `The target is ${message.target} °C.`;
    }
  };
  socket.onclose = () => {
    if (control !== socket) return;
    control = null;
    locked(true);
    $("answer").textContent = "The control is not connected.";
  };
}

function locked(is) {
  $("unlock").hidden = !is;
  $("set").hidden = is;
  $("answer").textContent = "";
}

/** Whether this tab has unlocked the control, over a reload. */
function unlocked(is) {
  try {
    if (is === undefined) return sessionStorage.getItem("unlocked") === "yes";
    sessionStorage.setItem("unlocked", is ? "yes" : "no");
  } catch { /* the browser forbids it */ }
  return false;
}

function show() {
  $("shown").textContent = `${$("wanted").value} °C`;
}

$("wanted").addEventListener("input", show);
$("unlock").addEventListener("submit", (event) => {
  event.preventDefault();
  unlock($("token").value.trim(), true);
  $("token").value = "";
});
$("set").addEventListener("submit", (event) => {
  event.preventDefault();
  control?.send(JSON.stringify({ target: Number($("wanted").value) }));
});
$("lock").addEventListener("click", () => {
  const socket = control;
  control = null;
  socket?.close();
  unlocked(false);
  fetch("lock", { method: "POST" }).catch(() => {});
  locked(true);
  $("token").focus();
});

// The token stands in the address once: what is seen of the address later has it no more.
const given = new URLSearchParams(location.hash.slice(1)).get("token");
if (given) history.replaceState(null, "", location.pathname + location.search);
if (given) unlock(given);
else if (unlocked()) connect();
live();
