// Draws a run on two canvases: lanes of hosts over virtual time, and an overview of all of it.
//
// Rule: `view` is the only state that drawing depends on, besides the theme and what is selected.
// Whatever changes it calls `redraw`, which draws once a frame. Times are nanoseconds.
// Cost: with more than MESSAGES_MAX packets in view only a part is drawn, and the page says so.
"use strict";
(() => {
const run = JSON.parse(document.getElementById("data").textContent);
const $ = (id) => document.getElementById(id);
const [SRC, DST, SENT, ARRIVE, PROTOCOL, SIZE, FATE, DETAILS] = [0, 1, 2, 3, 4, 5, 6, 7];
const MESSAGES_MAX = 5000, LIST_MAX = 1000, GUTTER = 112, PAD = 18, AXIS = 30, STRIP = 24, ROW = 17;
const PALETTE = {
  light: ["#2563eb", "#c2410c", "#0f766e", "#7c3aed", "#b4235a", "#4d7c0f", "#0e7490", "#92400e"],
  dark: ["#7aa5ff", "#ff9a62", "#4fd1c5", "#b79bff", "#ff8fb3", "#a3d65c", "#5fd0e8", "#e0b070"],
};
const end = Math.max(run.end, 1);
const view = { start: 0, end: end * 1.02, top: 0 };
let drawn = [], hit = null, pinned = null, cursor = null, tab = "choices", frame = 0;

// ---- What the data says, prepared once

const worldSpans = [], hostRows = run.hosts.map(() => []), hostSpans = run.hosts.map(() => []);
const downs = run.hosts.map(() => []), valueColors = new Map();
for (const span of run.spans) {
  const [host, name] = span;
  if (host < 0) { worldSpans.push(span); continue; }
  if (run.names[name] === "down") { downs[host].push(span); continue; }
  if (!hostRows[host].includes(name)) hostRows[host].push(name);
  hostSpans[host].push(span);
  const colors = valueColors.get(name) || new Map();
  valueColors.set(name, colors);
  if (!colors.has(span[4])) colors.set(span[4], colors.size);
}
// One order and one colour for a name, on every host.
for (const rows of hostRows) rows.sort((a, b) => a - b);
let longest = 0;
for (const m of run.messages) if (m[ARRIVE] >= 0) longest = Math.max(longest, m[ARRIVE] - m[SENT]);
const latencies = run.messages.filter((m) => m[ARRIVE] >= 0).map((m) => m[ARRIVE] - m[SENT]).sort((a, b) => a - b);
const typical = latencies.length ? latencies[latencies.length >> 1] : end / 100;
const isLost = (m) => m[ARRIVE] < 0;
// The mark that follows each one in its lane: its words end there.
const following = new Array(run.marks.length), latest = new Map();
for (let i = run.marks.length - 1; i >= 0; i--) {
  following[i] = latest.get(run.marks[i][1]);
  latest.set(run.marks[i][1], i);
}
const events = [
  ...run.marks.map((m, i) => ({ at: m[0], host: m[1], kind: m[2], text: m[3], mark: i })),
  ...run.messages.map((m, i) => ({ m, i })).filter(({ m }) => isLost(m)).map(({ m, i }) => ({
    at: m[SENT], host: m[SRC], kind: "lost", message: i,
    text: `${run.protocols[m[PROTOCOL]]} to ${run.hosts[m[DST]]}: ${run.fates[m[FATE]]}`,
  })),
  ...(run.failed ? [{ at: run.end, host: -1, kind: "failure", text: run.headline }] : []),
].sort((a, b) => a.at - b.at);

// ---- Words

const UNITS = [[1e9, "s"], [1e6, "ms"], [1e3, "µs"], [1, "ns"]];
function duration(ns) {
  const [size, unit] = UNITS.find(([size]) => Math.abs(ns) >= size) || UNITS[3];
  return `${Number((ns / size).toPrecision(4))} ${unit}`;
}
function moment(ns, step) {
  const digits = step ? Math.max(0, Math.min(9, Math.ceil(9 - Math.log10(step) - 1e-9))) : 6;
  return (ns / 1e9).toFixed(digits) + " s";
}
function describe(item) {
  if (item.kind === "message") {
    const m = run.messages[item.i];
    const lines = [
      `${m[SIZE]} bytes, ${run.fates[m[FATE]]}`, `sent ${moment(m[SENT])}`,
      isLost(m) ? "never arrived" : `arrived ${moment(m[ARRIVE])}, after ${duration(m[ARRIVE] - m[SENT])}`,
    ];
    if (m[DETAILS]) lines.push(m[DETAILS]);
    return [`${run.protocols[m[PROTOCOL]]}  ${run.hosts[m[SRC]]} → ${run.hosts[m[DST]]}`, lines];
  }
  if (item.kind === "mark") {
    const m = run.marks[item.i];
    return [m[3], [`${m[2]}, ${m[1] < 0 ? "world" : run.hosts[m[1]]}`, moment(m[0])]];
  }
  if (item.kind === "span") {
    const [host, name, from, to, value] = item.span;
    const what = run.names[name] === value || host < 0 ? run.names[name] : `${run.names[name]} = ${value}`;
    return [what, [host < 0 ? "world" : run.hosts[host], `${moment(from)} to ${moment(to)}`, duration(to - from)]];
  }
  if (item.kind === "choice") return [run.choices[item.i][1], ["choice", moment(run.choices[item.i][0])]];
  return [run.headline, [moment(run.end)]];
}

// ---- Drawing

const lanes = $("lanes"), overview = $("overview");
const css = (name) => getComputedStyle(document.documentElement).getPropertyValue(name).trim();
let colors = {}, theme = "light";
function readTheme() {
  for (const name of ["page", "panel", "text", "dim", "line", "grid", "lane", "lane-alt", "axis",
    "accent", "bad", "warn", "good", "down", "cut"]) colors[name] = css("--" + name);
}
function setTheme(name) {
  theme = name;
  document.documentElement.dataset.theme = name;
  readTheme();
  redraw();
}
function prepare(canvas) {
  const ratio = window.devicePixelRatio || 1, box = canvas.getBoundingClientRect();
  const width = Math.max(1, box.width), height = Math.max(1, box.height);
  if (canvas.width !== Math.round(width * ratio) || canvas.height !== Math.round(height * ratio)) {
    canvas.width = Math.round(width * ratio);
    canvas.height = Math.round(height * ratio);
  }
  const context = canvas.getContext("2d");
  context.setTransform(ratio, 0, 0, ratio, 0, 0);
  context.clearRect(0, 0, width, height);
  context.font = '12px system-ui, -apple-system, "Segoe UI", "DejaVu Sans", sans-serif';
  context.textBaseline = "middle";
  return [context, width, height];
}
let width = 1, height = 1, laneTops = [], baselines = [], total = 0;
const x = (t) => GUTTER + ((t - view.start) / (view.end - view.start)) * (width - GUTTER - PAD);
const timeAt = (px) => view.start + ((px - GUTTER) / (width - GUTTER - PAD)) * (view.end - view.start);
const hostColor = (host) => PALETTE[theme][host % PALETTE[theme].length];

function layout() {
  const least = hostRows.map((rows) => rows.length * ROW + 46);
  const sum = least.reduce((a, b) => a + b, 0), room = height - AXIS - STRIP;
  const extra = Math.max(0, room - sum) / Math.max(1, run.hosts.length);
  let top = AXIS + STRIP;
  total = Math.max(room, sum);
  view.top = Math.max(0, Math.min(view.top, sum - room));
  laneTops = []; baselines = [];
  run.hosts.forEach((_, i) => {
    laneTops.push(top - view.top);
    // Above the middle of the free part, or arrows of neighbours would hide the states.
    baselines.push(top - view.top + hostRows[i].length * ROW + 8 + (least[i] - hostRows[i].length * ROW + extra - 8) / 2);
    top += least[i] + extra;
  });
  laneTops.push(top - view.top);
}

function redraw() {
  if (!frame) frame = requestAnimationFrame(() => { frame = 0; draw(); drawOverview(); });
}

function draw() {
  const [c, w, h] = prepare(lanes);
  width = w; height = h;
  layout();
  drawn = [];
  c.save();
  c.beginPath();
  c.rect(0, AXIS, w, h - AXIS);
  c.clip();
  run.hosts.forEach((_, i) => {
    c.fillStyle = colors[i % 2 ? "lane-alt" : "lane"];
    c.fillRect(0, laneTops[i], w, laneTops[i + 1] - laneTops[i]);
  });
  const step = ticks(c, h);
  c.beginPath();
  c.rect(GUTTER, AXIS, w - GUTTER, h - AXIS);
  c.clip();
  drawWorld(c, h);
  run.hosts.forEach((_, i) => drawHost(c, i));
  drawMessages(c);
  drawMarks(c);
  c.restore();
  drawAxis(c, step);
  drawGutter(c);
  drawLines(c, h);
  const span = view.end - view.start;
  $("range").textContent = `${moment(Math.max(0, view.start), span / 100)} to ${moment(view.end, span / 100)}`;
}

function stepOf() {
  const least = ((view.end - view.start) / Math.max(1, width - GUTTER)) * 90;
  const power = 10 ** Math.floor(Math.log10(least));
  return [1, 2, 5, 10].map((m) => m * power).find((s) => s >= least);
}
function ticks(c, h) {
  const step = stepOf();
  c.strokeStyle = colors.grid;
  c.lineWidth = 1;
  c.beginPath();
  for (let t = Math.ceil(Math.max(0, view.start) / step) * step; t <= view.end; t += step) {
    const px = Math.round(x(t)) + 0.5;
    if (px < GUTTER) continue;
    c.moveTo(px, AXIS);
    c.lineTo(px, h);
  }
  c.stroke();
  return step;
}
function drawAxis(c, step) {
  c.fillStyle = colors.panel;
  c.fillRect(0, 0, width, AXIS);
  c.fillStyle = colors.line;
  c.fillRect(0, AXIS - 1, width, 1);
  c.fillStyle = colors.dim;
  c.textAlign = "center";
  for (let t = Math.ceil(Math.max(0, view.start) / step) * step; t <= view.end; t += step) {
    const px = x(t);
    if (px > GUTTER - 1 && px < width - 8) c.fillText(moment(t, step), px, AXIS / 2);
  }
}
function drawGutter(c) {
  c.fillStyle = colors.panel;
  c.fillRect(0, AXIS, GUTTER, height - AXIS);
  c.fillStyle = colors.line;
  c.fillRect(GUTTER - 1, 0, 1, height);
  c.save();
  c.beginPath();
  c.rect(0, AXIS, GUTTER - 2, height - AXIS);
  c.clip();
  c.textAlign = "left";
  run.hosts.forEach((name, i) => {
    c.fillStyle = hostColor(i);
    c.beginPath();
    c.arc(16, baselines[i], 4.5, 0, 7);
    c.fill();
    c.fillStyle = colors.text;
    c.font = "600 13px system-ui, -apple-system, 'Segoe UI', 'DejaVu Sans', sans-serif";
    c.fillText(fitted(c, name, GUTTER - 36), 28, baselines[i]);
    c.font = "11px system-ui, -apple-system, 'Segoe UI', 'DejaVu Sans', sans-serif";
    c.fillStyle = colors.dim;
    hostRows[i].forEach((row, r) =>
      c.fillText(fitted(c, run.names[row], GUTTER - 36), 28, laneTops[i] + 6 + r * ROW + ROW / 2));
    c.fillStyle = colors.line;
    c.fillRect(0, laneTops[i], GUTTER, 1);
  });
  c.fillStyle = colors.panel;
  c.fillRect(0, AXIS, GUTTER - 1, STRIP);
  c.fillStyle = colors.dim;
  c.fillText("world", 28, AXIS + STRIP / 2);
  c.restore();
}
function fitted(c, text, room) {
  if (c.measureText(text).width <= room) return text;
  let cut = text;
  while (cut.length && c.measureText(cut + "…").width > room) cut = cut.slice(0, -1);
  return cut ? cut + "…" : "";
}
function drawWorld(c, h) {
  c.textAlign = "left";
  for (const span of worldSpans) {
    const left = Math.max(GUTTER, x(span[2])), right = Math.min(width, x(span[3]));
    if (right < GUTTER || left > width) continue;
    c.fillStyle = colors.cut;
    c.fillRect(left, AXIS, right - left, h);
    c.fillStyle = colors.bad;
    c.fillRect(left, AXIS + 3, Math.max(2, right - left), STRIP - 6);
    c.fillStyle = colors.panel;
    c.font = "11px system-ui, -apple-system, 'Segoe UI', 'DejaVu Sans', sans-serif";
    if (right - left > 24) c.fillText(fitted(c, run.names[span[1]], right - left - 10), left + 5, AXIS + STRIP / 2);
    drawn.push({ kind: "span", span, box: [left, AXIS + 3, Math.max(4, right - left), STRIP - 6] });
  }
}
function drawHost(c, host) {
  const top = laneTops[host], bottom = laneTops[host + 1];
  if (bottom < AXIS || top > height) return;
  c.font = "11px system-ui, -apple-system, 'Segoe UI', 'DejaVu Sans', sans-serif";
  c.textAlign = "left";
  for (const span of downs[host]) {
    const left = Math.max(GUTTER, x(span[2])), right = Math.min(width, x(span[3]));
    if (right < GUTTER || left > width) continue;
    c.fillStyle = colors.down;
    c.fillRect(left, top + 1, Math.max(2, right - left), bottom - top - 1);
    c.fillStyle = colors.dim;
    if (right - left > 30) c.fillText(fitted(c, span[4], right - left - 12), left + 7, bottom - 10);
    drawn.push({ kind: "span", span, box: [left, bottom - 18, Math.max(4, right - left), 16] });
  }
  const reached = hostRows[host].map(() => 0);
  for (const span of hostSpans[host]) {
    const left = Math.max(GUTTER, x(span[2])), right = Math.min(width + 4, x(span[3]));
    if (right < GUTTER || left > width) continue;
    const row = hostRows[host].indexOf(span[1]), y = top + 6 + row * ROW;
    // One span a pixel: more of them show nothing.
    if (right - reached[row] < 0.7) continue;
    reached[row] = right;
    const plain = ["False", "None", "0", ""].includes(span[4]);
    const color = PALETTE[theme][(valueColors.get(span[1]).get(span[4]) + span[1] * 3) % 8];
    const wide = Math.max(1.5, right - left - 1);
    c.globalAlpha = plain ? 0.14 : theme === "dark" ? 0.32 : 0.2;
    c.fillStyle = plain ? colors.dim : color;
    c.fillRect(left, y, wide, ROW - 3);
    c.globalAlpha = 1;
    if (!plain) c.fillRect(left, y, Math.min(2, wide), ROW - 3);
    if (wide > 14) {
      c.fillStyle = plain ? colors.dim : colors.text;
      c.fillText(fitted(c, span[4], wide - 9), left + 6, y + (ROW - 3) / 2 + 0.5);
    }
    drawn.push({ kind: "span", span, box: [left, y, wide, ROW - 3] });
  }
  c.strokeStyle = colors.axis;
  c.lineWidth = 1;
  c.beginPath();
  let from = x(0);
  for (const span of [...downs[host].filter((s) => s[4] !== "paused"), null]) {
    c.moveTo(Math.max(GUTTER, from), baselines[host]);
    c.lineTo(Math.max(GUTTER, Math.min(width, x(span ? span[2] : end))), baselines[host]);
    if (span) from = x(span[3]);
  }
  c.stroke();
}
function firstAfter(time) {
  let low = 0, high = run.messages.length;
  while (low < high) {
    const middle = (low + high) >> 1;
    if (run.messages[middle][SENT] < time) low = middle + 1; else high = middle;
  }
  return low;
}
function drawMessages(c) {
  const from = firstAfter(view.start - longest), to = firstAfter(view.end);
  const stride = Math.max(1, Math.ceil((to - from) / MESSAGES_MAX));
  let count = 0;
  for (let i = from; i < to; i++) if (isLost(run.messages[i])) count++;
  const lostStride = Math.max(1, Math.ceil(count / MESSAGES_MAX * 4));
  count = 0;
  const alpha = Math.max(0.18, Math.min(0.9, 300 / Math.max(1, (to - from) / stride)));
  for (let i = from; i < to; i++) {
    const m = run.messages[i], lost = isLost(m);
    if (lost ? count++ % lostStride : i % stride) continue;
    const x1 = x(m[SENT]), y1 = baselines[m[SRC]], y2 = baselines[m[DST]];
    let x2, yEnd = y2;
    if (lost) {
      const reach = 0.55;
      x2 = x1 + Math.max(6, Math.min(40, (x(m[SENT] + typical) - x1))) * reach;
      yEnd = y1 + (y2 - y1) * reach;
    } else {
      x2 = x(m[ARRIVE]);
    }
    if (x2 < GUTTER || x1 > width) continue;
    const item = { kind: "message", i, line: [x1, y1, x2, yEnd] };
    drawn.push(item);
    arrow(c, item, lost, alpha, false);
  }
  for (const item of [pinned, hit]) {
    if (item && item.kind === "message") {
      const now = drawn.find((other) => other.kind === "message" && other.i === item.i);
      if (now) arrow(c, now, isLost(run.messages[item.i]), 1, true);
    }
  }
  note.textContent = stride > 1 ? `Every ${stride}th of ${(to - from).toLocaleString("en")} packets is drawn: zoom in for all.` : "";
}
function arrow(c, item, lost, alpha, strong) {
  const [x1, y1, x2, y2] = item.line, m = run.messages[item.i];
  const fate = run.fates[m[FATE]];
  c.globalAlpha = lost ? Math.max(alpha, 0.85) : alpha;
  c.strokeStyle = c.fillStyle = lost ? colors.bad : fate === "delivered" ? hostColor(m[SRC]) : colors.warn;
  c.lineWidth = strong ? 2.6 : 1.2;
  c.setLineDash(lost ? [4, 3] : []);
  c.beginPath();
  if (m[SRC] === m[DST]) {
    c.moveTo(x1, y1);
    c.quadraticCurveTo((x1 + x2) / 2, y1 - 22, x2, y2);
  } else {
    c.moveTo(x1, y1);
    c.lineTo(x2, y2);
  }
  c.stroke();
  c.setLineDash([]);
  if (lost) {
    c.lineWidth = 1.8;
    c.beginPath();
    c.moveTo(x2 - 3.5, y2 - 3.5); c.lineTo(x2 + 3.5, y2 + 3.5);
    c.moveTo(x2 + 3.5, y2 - 3.5); c.lineTo(x2 - 3.5, y2 + 3.5);
    c.stroke();
  } else if (alpha > 0.3 || strong) {
    const angle = m[SRC] === m[DST] ? 0.9 : Math.atan2(y2 - y1, x2 - x1);
    c.beginPath();
    c.moveTo(x2, y2);
    c.lineTo(x2 - 8 * Math.cos(angle - 0.35), y2 - 8 * Math.sin(angle - 0.35));
    c.lineTo(x2 - 8 * Math.cos(angle + 0.35), y2 - 8 * Math.sin(angle + 0.35));
    c.fill();
  }
  c.globalAlpha = 1;
}
function drawMarks(c) {
  let last = new Map();
  run.marks.forEach((m, i) => {
    const px = x(m[0]);
    if (px < GUTTER - 6 || px > width + 6) return;
    const y = m[1] < 0 ? AXIS + STRIP / 2 : baselines[m[1]], kind = m[2];
    const color = colors[kind === "note" ? "accent" : ["restart", "heal", "resume"].includes(kind) ? "good" : "bad"];
    c.fillStyle = c.strokeStyle = color;
    c.lineWidth = 2;
    c.beginPath();
    if (kind === "note") {
      c.arc(px, y, 3.5, 0, 7);
      c.fill();
    } else if (["restart", "heal", "resume"].includes(kind)) {
      c.moveTo(px - 4, y + 5.5); c.lineTo(px + 6, y); c.lineTo(px - 4, y - 5.5);
      c.fill();
    } else if (["crash", "kill", "exit"].includes(kind)) {
      c.moveTo(px - 5, y - 5); c.lineTo(px + 5, y + 5); c.moveTo(px + 5, y - 5); c.lineTo(px - 5, y + 5);
      c.stroke();
    } else {
      c.moveTo(px, y - 6); c.lineTo(px + 6, y); c.lineTo(px, y + 6); c.lineTo(px - 6, y);
      c.fill();
    }
    drawn.push({ kind: "mark", i, box: [px - 6, y - 6, 12, 12] });
    // Its words, where there is room up to the next mark of the lane.
    const before = last.get(m[1]);
    if (before === undefined || px - before > 8) {
      const next = run.marks[following[i]];
      const room = (next ? Math.min(width, x(next[0])) : width) - px - 14;
      if (room > 40 && m[1] >= 0) {
        c.font = "11px system-ui, -apple-system, 'Segoe UI', 'DejaVu Sans', sans-serif";
        c.textAlign = "left";
        const text = fitted(c, m[3], Math.min(room, 180));
        c.globalAlpha = 0.8;
        c.fillStyle = colors.panel;
        c.fillRect(px + 4, y + 5, c.measureText(text).width + 6, 14);
        c.globalAlpha = 1;
        c.fillStyle = colors.text;
        c.fillText(text, px + 7, y + 12);
      }
    }
    last.set(m[1], px);
  });
  run.choices.forEach((choice, i) => {
    const px = x(choice[0]);
    if (px < GUTTER || px > width) return;
    c.fillStyle = colors.warn;
    c.beginPath();
    c.moveTo(px - 5, AXIS + 1); c.lineTo(px + 5, AXIS + 1); c.lineTo(px, AXIS + 9);
    c.fill();
    drawn.push({ kind: "choice", i, box: [px - 5, AXIS, 10, 10] });
  });
}
function drawLines(c, h) {
  const line = (t, color, dash) => {
    const px = Math.round(x(t)) + 0.5;
    if (px < GUTTER || px > width) return;
    c.strokeStyle = color;
    c.lineWidth = 1.5;
    c.setLineDash(dash);
    c.beginPath();
    c.moveTo(px, AXIS - 6);
    c.lineTo(px, h);
    c.stroke();
    c.setLineDash([]);
  };
  if (run.failed) {
    line(run.end, colors.bad, []);
    const px = x(run.end);
    if (px > GUTTER && px < width) drawn.push({ kind: "failure", box: [px - 4, 0, 8, h] });
  }
  if (cursor !== null) line(cursor, colors.accent, [3, 3]);
}

// ---- The overview

function drawOverview() {
  const [c, w, h] = prepare(overview);
  const ox = (t) => GUTTER + (t / (end * 1.02)) * (w - GUTTER - PAD);
  const bins = new Uint32Array(Math.max(1, Math.ceil((w - GUTTER - PAD) / 2))), lost = new Uint32Array(bins.length);
  for (const m of run.messages) {
    const bin = Math.min(bins.length - 1, Math.floor((m[SENT] / (end * 1.02)) * bins.length));
    bins[bin]++;
    if (isLost(m)) lost[bin]++;
  }
  const most = Math.max(1, ...bins), room = h - 20;
  bins.forEach((count, i) => {
    const size = count ? Math.max(1.5, (Math.sqrt(count / most)) * room) : 0;
    c.fillStyle = colors.axis;
    c.fillRect(GUTTER + i * 2, h - 6 - size, 1.6, size);
    if (lost[i]) {
      const part = Math.max(1.5, size * (lost[i] / count));
      c.fillStyle = colors.bad;
      c.fillRect(GUTTER + i * 2, h - 6 - part, 1.6, part);
    }
  });
  c.fillStyle = colors.bad;
  for (const span of worldSpans) c.fillRect(ox(span[2]), 4, Math.max(1.5, ox(span[3]) - ox(span[2])), 4);
  for (const m of run.marks) if (m[2] !== "note" && m[1] >= 0) c.fillRect(ox(m[0]) - 1, 2, 2, 8);
  if (run.failed) c.fillRect(ox(run.end) - 1, 0, 2, h);
  c.fillStyle = colors.warn;
  for (const choice of run.choices) c.fillRect(ox(choice[0]) - 1, 10, 2, 5);
  const left = Math.max(GUTTER, ox(view.start)), right = Math.min(w - 2, ox(view.end));
  c.fillStyle = colors.accent;
  c.globalAlpha = 0.14;
  c.fillRect(left, 0, Math.max(3, right - left), h);
  c.globalAlpha = 1;
  c.strokeStyle = colors.accent;
  c.lineWidth = 1;
  c.strokeRect(left + 0.5, 0.5, Math.max(3, right - left) - 1, h - 1);
  c.fillStyle = colors.dim;
  c.textAlign = "left";
  c.fillText("packets", 28, h / 2);
}

// ---- Moving about

function show(from, to) {
  const least = 20, most = end * 1.3;
  let size = Math.max(least, Math.min(most, to - from));
  const middle = (from + to) / 2;
  from = Math.max(-size * 0.5, Math.min(end * 1.02 - size * 0.5, middle - size / 2));
  view.start = from;
  view.end = from + size;
  redraw();
}
function zoom(factor, at) {
  const center = at === undefined ? (view.start + view.end) / 2 : at;
  const size = Math.max(20, Math.min(end * 1.3, (view.end - view.start) * factor));
  const part = (center - view.start) / (view.end - view.start);
  show(center - part * size, center - part * size + size);
}
function whole() { show(0, end * 1.02); view.start = 0; view.end = end * 1.02; redraw(); }
function goTo(time, closer) {
  let size = view.end - view.start;
  if (closer) size = Math.min(size, Math.max(typical * 40, end / 50));
  cursor = time;
  show(time - size / 2, time + size / 2);
}

let drag = null;
lanes.addEventListener("pointerdown", (event) => {
  if (event.button) return;
  lanes.setPointerCapture(event.pointerId);
  drag = { x: event.offsetX, y: event.offsetY, start: view.start, end: view.end, top: view.top, moved: false };
});
lanes.addEventListener("pointermove", (event) => {
  if (drag) {
    const dx = event.offsetX - drag.x, dy = event.offsetY - drag.y;
    if (Math.abs(dx) + Math.abs(dy) > 4) { drag.moved = true; lanes.classList.add("drags"); }
    if (drag.moved) {
      const shift = (dx / (width - GUTTER - PAD)) * (drag.end - drag.start);
      view.top = drag.top - dy;
      show(drag.start - shift, drag.end - shift);
    }
    return;
  }
  hit = find(event.offsetX, event.offsetY);
  lanes.style.cursor = hit ? "pointer" : "";
  tip(hit, event.offsetX, event.offsetY);
  redraw();
});
lanes.addEventListener("pointerup", (event) => {
  if (drag && !drag.moved) {
    pinned = find(event.offsetX, event.offsetY);
    cursor = event.offsetX > GUTTER ? timeAt(event.offsetX) : null;
    near();
    redraw();
  }
  drag = null;
  lanes.classList.remove("drags");
});
lanes.addEventListener("pointerleave", () => { hit = null; tip(null); redraw(); });
lanes.addEventListener("dblclick", (event) => zoom(0.25, timeAt(event.offsetX)));
lanes.addEventListener("wheel", (event) => {
  event.preventDefault();
  const size = view.end - view.start;
  if (event.shiftKey) {
    view.top += event.deltaY || event.deltaX;
    redraw();
  } else if (Math.abs(event.deltaX) > Math.abs(event.deltaY)) {
    const shift = (event.deltaX / width) * size;
    show(view.start + shift, view.end + shift);
  } else {
    zoom(Math.exp(event.deltaY * (event.ctrlKey ? 0.01 : 0.0018)), timeAt(Math.max(GUTTER, event.offsetX)));
  }
}, { passive: false });

let brush = null;
const overviewTime = (px) => ((px - GUTTER) / (overview.getBoundingClientRect().width - GUTTER - PAD)) * end * 1.02;
overview.addEventListener("pointerdown", (event) => {
  overview.setPointerCapture(event.pointerId);
  const time = overviewTime(event.offsetX), size = view.end - view.start;
  const inside = time > view.start && time < view.end && size < end;
  brush = { time, inside, start: view.start, size };
});
overview.addEventListener("pointermove", (event) => {
  if (!brush) return;
  const time = overviewTime(event.offsetX);
  if (brush.inside) show(brush.start + time - brush.time, brush.start + brush.size + time - brush.time);
  else if (Math.abs(time - brush.time) > end / 500) show(Math.min(time, brush.time), Math.max(time, brush.time));
});
overview.addEventListener("pointerup", (event) => {
  const time = overviewTime(event.offsetX);
  if (brush && !brush.inside && Math.abs(time - brush.time) <= end / 500) goTo(time, false);
  brush = null;
});
overview.addEventListener("dblclick", whole);

// ---- What is under the pointer

function distance(px, py, [x1, y1, x2, y2]) {
  const dx = x2 - x1, dy = y2 - y1, square = dx * dx + dy * dy;
  const part = square ? Math.max(0, Math.min(1, ((px - x1) * dx + (py - y1) * dy) / square)) : 0;
  return Math.hypot(px - x1 - part * dx, py - y1 - part * dy);
}
function find(px, py) {
  if (px < GUTTER) return null;
  const within = (item) => item.box && px >= item.box[0] - 2 && px <= item.box[0] + item.box[2] + 2
    && py >= item.box[1] - 2 && py <= item.box[1] + item.box[3] + 2;
  for (const kind of ["choice", "mark"]) {
    const found = drawn.findLast((item) => item.kind === kind && within(item));
    if (found) return found;
  }
  let best = null, least = 6;
  for (const item of drawn) {
    if (item.kind !== "message") continue;
    const away = distance(px, py, item.line);
    if (away < least) { least = away; best = item; }
  }
  return best || drawn.findLast((item) => within(item)) || null;
}
function tip(item, px, py) {
  const box = $("tip");
  box.hidden = !item;
  if (!item) return;
  const [head, lines] = describe(item);
  box.replaceChildren(element("b", head), ...lines.map((line) => element("span", line)));
  const stage = $("stage").getBoundingClientRect();
  box.style.left = Math.max(4, Math.min(px + 14, stage.width - box.offsetWidth - 6)) + "px";
  box.style.top = (py + 18 + box.offsetHeight > stage.height ? Math.max(4, py - box.offsetHeight - 12) : py + 18) + "px";
}
function element(name, text, kind) {
  const made = document.createElement(name);
  made.textContent = text;
  if (kind) made.className = kind;
  return made;
}

// ---- The lists

const note = element("i", "");
function fill() {
  const wanted = $("search").value.trim().toLowerCase(), list = $("list");
  $("text").hidden = tab !== "report";
  list.hidden = $("filter").hidden = tab === "report";
  document.querySelectorAll("nav button").forEach((button) =>
    button.setAttribute("aria-selected", String(button.dataset.tab === tab)));
  const entries = tab === "choices"
    ? run.choices.map(([at, text]) => ({ at, text, host: -1, kind: "" }))
    : events;
  const found = entries.filter((entry) =>
    !wanted || `${entry.host < 0 ? "" : run.hosts[entry.host]} ${entry.kind} ${entry.text}`.toLowerCase().includes(wanted));
  const items = found.slice(0, LIST_MAX).map((entry) => {
    const item = document.createElement("li");
    item.dataset.at = entry.at;
    const time = element("time", `${moment(entry.at)}${entry.host >= 0 ? "  " + run.hosts[entry.host] : ""}  `);
    if (entry.kind) time.append(element("span", entry.kind, ["note", "restart", "heal", "resume"].includes(entry.kind) ? "" : ["lost", "failure"].includes(entry.kind) ? "bad" : "kind"));
    item.append(time, entry.text);
    item.addEventListener("click", () => {
      pinned = entry.message !== undefined ? { kind: "message", i: entry.message } : null;
      goTo(entry.at, true);
    });
    return item;
  });
  if (found.length > LIST_MAX) items.push(element("li", `… ${(found.length - LIST_MAX).toLocaleString("en")} more: use the filter`, "empty"));
  if (!found.length) {
    const none = tab === "choices" && !run.choices.length ? "The plain order: no choice was made." : "Nothing matches.";
    items.push(element("li", none, "empty"));
  }
  list.replaceChildren(...items);
}
function near() {
  if (cursor === null || tab === "report") return;
  let best = null;
  for (const item of $("list").children) {
    item.classList.remove("near");
    if (item.dataset.at !== undefined && (!best || Math.abs(item.dataset.at - cursor) < Math.abs(best.dataset.at - cursor))) best = item;
  }
  if (best) { best.classList.add("near"); best.scrollIntoView({ block: "nearest" }); }
}
function legend() {
  const icon = (inner) => {
    const box = document.createElementNS("http://www.w3.org/2000/svg", "svg");
    box.setAttribute("viewBox", "0 0 26 12");
    box.innerHTML = inner;
    return box;
  };
  const entries = [
    ["packet", '<path d="M1 2 L20 9" stroke="currentColor"/><path d="M25 11 l-7 -.6 l2.4 -5z" fill="currentColor"/>'],
    ["lost", '<path d="M1 2 L16 8" stroke="var(--bad)" stroke-dasharray="3 2"/><path d="M13 5l6 6m0-6l-6 6" stroke="var(--bad)" stroke-width="1.6"/>'],
    ["note", '<circle cx="13" cy="6" r="3.5" fill="var(--accent)"/>'],
    ["fault", '<path d="M13 0l6 6-6 6-6-6z" fill="var(--bad)"/>'],
    ["crash", '<path d="M8 1l10 10m0-10l-10 10" stroke="var(--bad)" stroke-width="2"/>'],
    ["restart, heal", '<path d="M9 0l10 6-10 6z" fill="var(--good)"/>'],
    ["choice", '<path d="M8 1h10l-5 9z" fill="var(--warn)"/>'],
  ];
  for (const [name, inner] of entries) {
    const item = element("i", "");
    item.append(icon(inner), name);
    $("legend").append(item);
  }
  $("legend").append(note);
}

// ---- Keys and buttons

const keys = {
  "+": () => zoom(0.5), "=": () => zoom(0.5), "-": () => zoom(2), "0": whole, f: () => run.failed && goTo(run.end, true),
  t: () => setTheme(theme === "dark" ? "light" : "dark"),
  ArrowLeft: () => move(-0.15), ArrowRight: () => move(0.15),
  ArrowUp: () => { view.top -= 40; redraw(); }, ArrowDown: () => { view.top += 40; redraw(); },
  Escape: () => { pinned = cursor = null; redraw(); },
};
function move(part) {
  const shift = (view.end - view.start) * part;
  show(view.start + shift, view.end + shift);
}
document.addEventListener("keydown", (event) => {
  if (event.target === $("search")) { if (event.key === "Escape") lanes.focus(); return; }
  if (event.ctrlKey || event.metaKey || event.altKey) return;
  if (event.key === "/") { event.preventDefault(); if (tab === "report") choose("events"); $("search").focus(); return; }
  const action = keys[event.key];
  if (action) { event.preventDefault(); action(); }
});
function choose(name) { tab = name; fill(); near(); }
document.querySelectorAll("nav button").forEach((button) => button.addEventListener("click", () => choose(button.dataset.tab)));
$("search").addEventListener("input", fill);
$("in").addEventListener("click", keys["+"]);
$("out").addEventListener("click", keys["-"]);
$("fit").addEventListener("click", whole);
$("failure").addEventListener("click", keys.f);
$("theme").addEventListener("click", keys.t);
$("failure").hidden = !run.failed;

$("title").textContent = run.title;
$("headline").textContent = run.headline;
$("text").textContent = run.report || run.headline;
document.body.classList.toggle("failed", run.failed);
document.querySelector('[data-tab="choices"] b').textContent = run.choices.length.toLocaleString("en");
document.querySelector('[data-tab="events"] b').textContent = events.length.toLocaleString("en");
if (!run.choices.length) tab = "events";
legend();
fill();
new ResizeObserver(redraw).observe($("stage"));
const dark = window.matchMedia("(prefers-color-scheme: dark)");
dark.addEventListener("change", () => setTheme(dark.matches ? "dark" : "light"));
// A long run that failed is shown from its end: about as many packets as can be told apart.
if (run.failed && run.messages.length > 4 * LIST_MAX) {
  const since = run.messages[run.messages.length - LIST_MAX][SENT];
  view.end = run.end + (run.end - since) * 0.03;
  view.start = since;
}
const asked = new URLSearchParams(location.hash.slice(1));
setTheme(asked.get("theme") || (dark.matches ? "dark" : "light"));
if (asked.get("from")) show(Number(asked.get("from")) * 1e9, Number(asked.get("to")) * 1e9);
if (asked.get("tab")) choose(asked.get("tab"));
})();
