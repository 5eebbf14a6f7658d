"use strict";
// Draws what /live sends: one JSON object for each quarter of a second.

const KEPT = 240; // samples: a minute
const PLOTS = [
  { title: "Requests", unit: "per second", help: "HTTP requests that were completed", series: [["requests", "requests"]] },
  { title: "Latency of the last second", unit: "ms", help: "from the handler's start to its end, and the wait in the ready queue",
    series: [["request_p99_ms", "request, 99 %"], ["request_p50_ms", "request, 50 %"], ["lag_p99_ms", "wait, 99 %"]] },
  { title: "Where the time goes", unit: "%", help: "of the loop's time, on the clock", most: 100,
    series: [["callbacks_percent", "callbacks"], ["polling_percent", "polling"], ["sleeping_percent", "asleep"]] },
  { title: "Ring: polls and requests", unit: "per second", help: "submitted to the ring, and events reaped from it",
    series: [["submitted", "submitted"], ["completed", "reaped"]] },
  { title: "Ring: reaping", unit: "per second", help: "batches taken from the mapped ring, and system calls that took some",
    series: [["ring_reaps", "without a system call"], ["getevents_calls", "io_getevents"]] },
  { title: "System calls of the loop", unit: "per second", help: "io_submit, and waits in the kernel",
    series: [["submit_calls", "io_submit"], ["sleeps", "sleeps"]] },
  { title: "Files", unit: "per second", help: "requests by the route that they took",
    series: [["file_ring", "ring"], ["file_inline", "page cache"], ["file_threads", "threads"]] },
  { title: "Connections and tasks", unit: "now", help: "transports of sockets, tasks that have not ended",
    series: [["connections", "connections"], ["tasks", "tasks"]] },
];
const TILES = [
  ["requests", "requests per second"], ["request_p99_ms", "ms, 99 % of requests"], ["lag_p99_ms", "ms, 99 % waited"],
  ["callbacks_per_iteration", "callbacks an iteration"], ["connections", "connections"], ["waits_on", "waits on"],
];

const samples = [];

function number(value) {
  if (typeof value !== "number") return value ?? "–";
  if (value >= 1000 || Number.isInteger(value)) return Math.round(value).toLocaleString("en");
  return value >= 10 || value === 0 ? value.toFixed(0) : value.toFixed(2);
}

function color(index) {
  return getComputedStyle(document.documentElement).getPropertyValue(["--one", "--two", "--three"][index]);
}

function element(name, properties, ...children) {
  const made = Object.assign(document.createElement(name), properties);
  made.append(...children);
  return made;
}

function build() {
  for (const [key, label] of TILES) {
    const value = element("b", { id: `tile-${key}` }, "–");
    document.getElementById("tiles").append(element("div", { className: "tile" }, value, element("span", {}, label)));
  }
  for (const plot of PLOTS) {
    plot.canvas = element("canvas", { role: "img", ariaLabel: `${plot.title}, ${plot.unit}` });
    plot.values = plot.series.map(() => element("b", {}, "–"));
    plot.swatches = plot.series.map(() => element("i", {}));
    const keys = plot.series.map(([, label], i) => element("span", {}, plot.swatches[i], `${label} `, plot.values[i]));
    const caption = element("figcaption", {}, `${plot.title}, ${plot.unit}`);
    const figure = element("figure", {}, caption, element("small", {}, plot.help), element("div", { className: "key" }, ...keys), plot.canvas);
    document.getElementById("plots").append(figure);
  }
}

function roundUp(value) {
  const power = 10 ** Math.floor(Math.log10(value));
  return [1, 2, 5, 10].map((step) => step * power).find((step) => step >= value);
}

function draw(plot) {
  const ratio = window.devicePixelRatio || 1;
  const { clientWidth: width, clientHeight: height } = plot.canvas;
  plot.canvas.width = width * ratio;
  plot.canvas.height = height * ratio;
  const context = plot.canvas.getContext("2d");
  context.scale(ratio, ratio);
  const style = getComputedStyle(document.documentElement);
  const values = plot.series.flatMap(([key]) => samples.map((sample) => sample[key] ?? 0));
  const most = plot.most ?? roundUp(Math.max(...values, 1e-2));
  const left = 46, bottom = height - 18, top = 6;
  context.font = "11px system-ui, sans-serif";
  context.fillStyle = style.getPropertyValue("--soft");
  context.strokeStyle = style.getPropertyValue("--grid");
  context.textAlign = "right";
  for (const part of [0, 0.5, 1]) {
    const y = bottom - part * (bottom - top);
    context.beginPath();
    context.moveTo(left, y);
    context.lineTo(width, y);
    context.stroke();
    context.fillText(number(most * part), left - 6, y + 4);
  }
  context.textAlign = "left";
  context.fillText("a minute ago", left, height - 4);
  context.textAlign = "right";
  context.fillText("now", width, height - 4);
  plot.series.forEach(([key], index) => {
    context.strokeStyle = color(index);
    context.lineWidth = 2;
    context.lineJoin = "round";
    context.beginPath();
    samples.forEach((sample, at) => {
      const x = width - (samples.length - 1 - at) * (width - left) / (KEPT - 1);
      const y = bottom - Math.min(1, (sample[key] ?? 0) / most) * (bottom - top);
      if (at) context.lineTo(x, y); else context.moveTo(x, y);
    });
    context.stroke();
    plot.swatches[index].style.background = color(index);
    plot.values[index].textContent = number(samples.at(-1)?.[key]);
  });
}

function showCounters(counters) {
  const rows = document.getElementById("counters");
  for (const [name, value] of Object.entries(counters ?? {})) {
    let cell = document.getElementById(`counter-${name}`);
    if (!cell) {
      cell = element("td", { id: `counter-${name}` });
      rows.append(element("tr", {}, element("th", { scope: "row" }, name), cell));
    }
    cell.textContent = typeof value === "number" ? number(value) : String(value);
  }
}

function drawAll() {
  const last = samples.at(-1) ?? {};
  for (const [key] of TILES) document.getElementById(`tile-${key}`).textContent = number(last[key]);
  PLOTS.forEach(draw);
  showCounters(last.counters);
}

function show(text) {
  document.getElementById("state").textContent = text;
}

function listen() {
  const source = new EventSource("/live");
  source.onmessage = (event) => {
    const sample = JSON.parse(event.data);
    samples.push(sample);
    if (samples.length > KEPT) samples.shift();
    show(`process ${sample.pid}, ${sample.loop}, backend ${sample.backend ?? "–"}`);
    document.documentElement.dataset.samples = samples.length;
    requestAnimationFrame(drawAll);
  };
  source.onerror = () => show("the server does not respond; trying again");
}

async function putLoad(event) {
  event.preventDefault();
  const button = event.target.querySelector("button");
  const connections = Number(document.getElementById("connections").value);
  const seconds = Number(document.getElementById("seconds").value);
  button.disabled = true;
  try {
    const response = await fetch("/load", { method: "POST", headers: { "Content-Type": "application/json" }, body: JSON.stringify({ connections, seconds }) });
    if (!response.ok) throw new Error(await response.text());
    button.textContent = "Load is on";
    await new Promise((resolve) => setTimeout(resolve, 1000 * seconds));
  } catch (error) {
    show(`no load: ${error.message}`);
  }
  button.disabled = false;
  button.textContent = "Put load on it";
}

build();
drawAll();
listen();
window.addEventListener("resize", drawAll);
matchMedia("(prefers-color-scheme: dark)").addEventListener("change", drawAll);
document.getElementById("load").addEventListener("submit", putLoad);
