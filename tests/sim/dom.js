// A browser of a few lines: runs the program of a page, and prints what it drew as JSON.
// usage: node dom.js page.html PROGRAM; PROGRAM uses `element(id)`, `frame()` and `drawn`.
"use strict";
const fs = require("fs"), vm = require("vm");
const html = fs.readFileSync(process.argv[2], "utf8");
const script = (pattern) => pattern.exec(html)[1];
const drawn = { texts: [], calls: 0 };
const context = new Proxy({}, {
  get: (own, name) => name === "measureText" ? (text) => ({ width: text.length * 6 })
    : name === "fillText" ? (text, x, y) => {
      if (!Number.isFinite(x) || !Number.isFinite(y)) throw new Error(`${text} at ${x}, ${y}`);
      drawn.texts.push(text);
    } : name in own ? own[name] : (...numbers) => {
      drawn.calls++;
      for (const n of numbers.flat()) if (typeof n === "number" && !Number.isFinite(n)) throw new Error(`${name}(${numbers})`);
    },
  set: (own, name, value) => { own[name] = value; return true; },
});
class Element {
  constructor(name) {
    Object.assign(this, { name, children: [], dataset: {}, style: {}, listeners: {}, textContent: "", value: "", hidden: false });
    this.offsetWidth = 200; this.offsetHeight = 60; this.attributes = {};
    this.classList = { add() {}, remove() {}, toggle() {} };
  }
  append(...items) { this.children.push(...items); }
  replaceChildren(...items) { this.children = items; }
  addEventListener(kind, listener) { this.listeners[kind] = listener; }
  setAttribute(name, value) { this.attributes[name] = value; }
  getBoundingClientRect() { return { width: this.name === "overview" ? 1000 : 1000, height: this.name === "overview" ? 56 : 600 }; }
  getContext() { return context; }
  setPointerCapture() {} scrollIntoView() {} focus() {}
  fire(kind, event = {}) {
    this.listeners[kind]({ button: 0, pointerId: 1, preventDefault() {}, target: this, ...event });
  }
  text() { return [this.textContent, ...this.children.map((c) => typeof c === "string" ? c : c.text())].join(""); }
}
const elements = {}, frames = [];
const element = (id) => elements[id] ||= new Element(id);
const tabs = ["choices", "events", "report"].map((tab) => { const made = new Element("tab"); made.dataset.tab = tab; return made; });
element("data").textContent = script(/<script type="application\/json" id="data">([\s\S]*?)<\/script>/);
const document = Object.assign(new Element("document"), {
  documentElement: new Element("html"), body: new Element("body"), getElementById: element,
  createElement: (name) => new Element(name), createElementNS: (_, name) => new Element(name),
  querySelectorAll: () => tabs, querySelector: () => new Element("b"),
});
const frame = () => { drawn.texts = []; while (frames.length) frames.shift()(); };
const window = { devicePixelRatio: 2, matchMedia: () => ({ matches: true, addEventListener() {} }) };
const world = {
  document, window, drawn, element, frame, tabs, console, URLSearchParams, location: { hash: "" },
  getComputedStyle: () => ({ getPropertyValue: () => "#123456" }),
  requestAnimationFrame: (call) => frames.push(call),
  ResizeObserver: class { constructor(call) { this.call = call; } observe() { this.call(); } },
};
vm.createContext(world);
vm.runInContext(script(/<script>\n([\s\S]*?)<\/script>/), world);
frame();
console.log(JSON.stringify(vm.runInContext(process.argv[3], world)));
