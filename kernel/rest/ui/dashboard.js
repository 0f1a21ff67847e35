// The dashboard: asks the API once a second and draws what it says. No library.
"use strict";

const $ = (id) => document.getElementById(id);
const points = 120; // seconds that the curves show
const history = { cpu: [], mem: [], rx: [], tx: [] };
let last = null; // the answers before these
let paused = false;
let nextEvent = 0;
let shown = []; // lines of events

// ask returns the answer of a GET, or throws what the server says.
async function ask(path, init) {
  const r = await fetch(path, init);
  const body = await r.json();
  if (!r.ok) throw new Error(body.message || r.statusText);
  return body;
}

function bytes(n) {
  const units = ["B", "KiB", "MiB", "GiB", "TiB"];
  let i = 0;
  while (n >= 1024 && i < units.length - 1) { n /= 1024; i++; }
  return (n >= 100 || i === 0 ? n.toFixed(0) : n.toFixed(1)) + " " + units[i];
}
const count = (n) => n === undefined ? "" : n.toLocaleString("en");
const percent = (x) => (100 * x).toFixed(x < 0.1 ? 1 : 0) + " %";

function duration(s) {
  const d = Math.floor(s / 86400), h = Math.floor(s % 86400 / 3600), m = Math.floor(s % 3600 / 60);
  return (d ? d + " d " : "") + (d || h ? h + " h " : "") + (d || h || m ? m + " min " : "") + Math.floor(s % 60) + " s";
}

function push(list, v) {
  list.push(v);
  if (list.length > points) list.shift();
}

// spark draws curves that end at the right; top is the value at the upper edge.
function spark(svg, curves, top) {
  const ns = "http://www.w3.org/2000/svg";
  while (svg.children.length < curves.length + 1) svg.append(document.createElementNS(ns, "path"));
  const path = (values) => values.map((v, i) =>
    `${i ? "L" : "M"}${points - values.length + i + 1} ${(98 - 94 * Math.min(1, v / (top || 1))).toFixed(1)}`).join("");
  const [area, ...lines] = svg.children;
  const first = curves[0];
  area.setAttribute("class", "area");
  area.setAttribute("d", first.length > 1 ? `${path(first)}L${points} 100L${points - first.length + 1} 100Z` : "");
  lines.forEach((l, i) => {
    l.setAttribute("class", i ? "line second" : "line");
    l.setAttribute("d", curves[i].length > 1 ? path(curves[i]) : "");
  });
}

// rows fills a table body; a cell is text, or text and a class.
function rows(body, data) {
  const list = data.map((cells) => {
    const tr = document.createElement("tr");
    for (const c of cells) {
      const td = document.createElement("td");
      td.textContent = Array.isArray(c) ? c[0] : c;
      if (Array.isArray(c)) td.className = c[1];
      tr.append(td);
    }
    return tr;
  });
  body.replaceChildren(...list);
}

function drawCPU(now) {
  let busy = 0, all = 0;
  const box = $("cpus");
  now.cpus.forEach((p, i) => {
    const before = last && last.cpus.find((q) => q.id === p.id);
    let share = 0;
    if (before) {
      const b = p.busy_ms - before.busy_ms, d = b + p.idle_ms - before.idle_ms;
      share = d > 0 ? Math.max(0, Math.min(1, b / d)) : 0;
      busy += Math.max(0, b);
      all += d;
    }
    let row = box.children[i];
    if (!row) {
      row = document.createElement("div");
      row.className = "row";
      row.innerHTML = "<span></span><div class=meter><span></span></div><output></output>";
      box.append(row);
    }
    row.children[0].textContent = "CPU " + p.id;
    row.children[1].firstChild.style.width = 100 * share + "%";
    row.children[2].textContent = percent(share);
  });
  if (!last) return;
  const x = all > 0 ? busy / all : 0;
  push(history.cpu, x);
  $("cpu-now").textContent = percent(x) + " busy";
  spark($("cpu-spark"), [history.cpu], 1);
  $("cpu-spark").setAttribute("aria-label", `Processor time over two minutes, now ${percent(x)}`);
}

function drawMemory(m) {
  const used = m.total - m.free;
  push(history.mem, used / m.total);
  $("mem-now").textContent = `${bytes(used)} of ${bytes(m.total)}`;
  $("mem-used").style.width = 100 * used / m.total + "%";
  $("mem-pct").textContent = percent(used / m.total);
  $("mem-more").textContent = `Go heap ${bytes(m.heap)}, runtime ${bytes(m.runtime)}, ${count(m.gc_cycles)} collections` +
    (m.least_free ? `, least free ${bytes(m.least_free)}` : "");
  spark($("mem-spark"), [history.mem], 1);
  $("mem-spark").setAttribute("aria-label", `Used memory over two minutes, now ${percent(used / m.total)}`);
}

function drawNetwork(now) {
  let rx = 0, tx = 0;
  const data = now.ifs.map((i) => {
    const before = last && last.ifs.find((j) => j.config.name === i.config.name);
    let r = 0, t = 0;
    if (before) {
      const s = (i.time - before.time) / 1e6 || 1;
      r = Math.max(0, (i.data.ifi_ibytes - before.data.ifi_ibytes) / s);
      t = Math.max(0, (i.data.ifi_obytes - before.data.ifi_obytes) / s);
      rx += r;
      tx += t;
    }
    const c = i.channels || {};
    return [i.config.name, i.config.addr, [bytes(r), "n"], [bytes(t), "n"], [count(i.data.ifi_ipackets), "n"], [count(i.data.ifi_opackets), "n"],
      [count(c.fast), "n"], [count(c.slow), "n"], [count(i.data.ifi_iqdrops), "n"]];
  });
  rows($("ifs"), data);
  if (!last) return;
  push(history.rx, rx);
  push(history.tx, tx);
  $("net-now").textContent = `${bytes(rx)}/s in, ${bytes(tx)}/s out`;
  const top = Math.max(1024, ...history.rx, ...history.tx);
  spark($("net-spark"), [history.rx, history.tx], top);
  $("net-spark").setAttribute("aria-label", `Bytes a second over two minutes: now ${bytes(rx)} in, ${bytes(tx)} out; the upper edge is ${bytes(top)}`);
}

function drawThreads(t) {
  const before = last && last.threads;
  const ms = before ? t.time_ms - before.time_ms : 0;
  $("thr-now").textContent = count(t.list.length);
  rows($("threads"), t.list.map((x) => {
    const y = before && before.list.find((z) => z.id === x.id);
    const share = y && ms > 0 && x.cpu_ms !== undefined ? percent(Math.max(0, (x.cpu_ms - y.cpu_ms) / ms)) : "";
    return [[x.id, "n"], x.name, x.waits_for ? `${x.status}: ${x.waits_for}` : x.status, [count(x.cpu), "n"], [share, "n"], [x.cpu_ms === undefined ? "" : (x.cpu_ms / 1000).toFixed(2) + " s", "n"], [count(x.switches), "n"]];
  }));
  $("gor-now").textContent = count(t.goroutine_count);
  rows($("goroutines"), t.goroutines.map((g) => [[count(g.count), "n"], g.state, [g.function, "long"], [g.at, "long"]]));
}

function drawPoints(list) {
  const want = $("filter").value.trim();
  $("tra-now").textContent = `${list.filter((p) => p.enabled).length} of ${list.length} on`;
  const box = $("points");
  const names = list.filter((p) => p.enabled || p.name.includes(want));
  const same = names.length === box.children.length && names.every((p, i) => box.children[i].textContent === p.name);
  if (!same) {
    box.replaceChildren(...names.map((p) => {
      const b = document.createElement("button");
      b.type = "button";
      b.textContent = p.name;
      b.title = p.format || p.name;
      b.addEventListener("click", () => toggle(b));
      return b;
    }));
  }
  names.forEach((p, i) => box.children[i].setAttribute("aria-pressed", p.enabled));
}

async function toggle(b) {
  const on = b.getAttribute("aria-pressed") !== "true";
  const token = $("token").value;
  try {
    const p = await ask(`/trace/event/${encodeURIComponent(b.textContent)}?enabled=${on}`, {
      method: "POST",
      headers: token ? { Authorization: "Bearer " + token } : {},
    });
    b.setAttribute("aria-pressed", p.enabled);
    $("tra-error").textContent = "";
  } catch (e) {
    $("tra-error").textContent = e.message;
  }
}

function drawEvents(t) {
  nextEvent = t.next;
  if (!t.events.length) return;
  shown = shown.concat(t.events.map((e) => `${(e.time_us / 1e6).toFixed(6).padStart(14)}  ${e.name}  ${e.text}`)).slice(-500);
  const box = $("events");
  const below = box.scrollHeight - box.scrollTop - box.clientHeight < 40;
  box.textContent = shown.join("\n");
  if (below) box.scrollTop = box.scrollHeight;
}

async function round() {
  const [memory, cpus, ifs, threads, status, events, uptime, version, host] = await Promise.all([
    ask("/os/memory"), ask("/hardware/processors"), ask("/network/ifconfig").catch(() => []), ask("/os/threads"),
    ask("/trace/status"), ask(`/trace/buffers?from=${nextEvent}&limit=200`), ask("/os/uptime"), ask("/os/version"), ask("/os/hostname"),
  ]);
  const now = { cpus, ifs, threads };
  $("who").textContent = `${version} · ${host} · up ${duration(uptime)}`;
  drawCPU(now);
  drawMemory(memory);
  drawNetwork(now);
  drawThreads(threads);
  drawPoints(status);
  drawEvents(events);
  last = now;
}

async function loop() {
  if (!paused && !document.hidden) {
    try {
      await round();
      if ($("state").textContent) $("state").textContent = "";
    } catch (e) {
      $("state").textContent = "No answer: " + e.message;
    }
  }
  setTimeout(loop, 1000);
}

$("pause").addEventListener("click", () => {
  paused = !paused;
  $("pause").setAttribute("aria-pressed", paused);
});
$("tools").addEventListener("submit", (e) => e.preventDefault());
try {
  $("token").value = sessionStorage.getItem("token") || "";
} catch { /* the browser keeps nothing: neither do we */ }
$("token").addEventListener("change", () => {
  try {
    sessionStorage.setItem("token", $("token").value);
  } catch { /* as above */ }
});
loop();
