// The data, and what every section draws with: elements, numbers, exemplars, bars. Everything is set as text or as an
// attribute, never parsed as markup. page.py joins parts.js, browser.js and page.js in one function.
const D = JSON.parse(document.getElementById("data").textContent);
const $ = (id) => document.getElementById(id);
const PAGE = 100; // children put in the tree at a time
const top = D.levels.length;
const L = (level) => D.levels[level - 1];
const SVG = "http://www.w3.org/2000/svg";

function el(tag, props, ...children) {
  const node = document.createElement(tag);
  for (const [name, value] of Object.entries(props || {})) {
    if (value === null || value === undefined || value === false) continue;
    if (name === "class") node.className = value;
    else if (name.startsWith("on")) node.addEventListener(name.slice(2), value);
    else if (name === "style") node.style.cssText = value;
    else node.setAttribute(name, value);
  }
  node.append(...children.filter((child) => child !== null && child !== undefined));
  return node;
}
const svg = (tag, props, text) => {
  const node = document.createElementNS(SVG, tag);
  for (const [name, value] of Object.entries(props)) node.setAttribute(name, value);
  if (text !== undefined) node.textContent = text;
  return node;
};
const int = (value) => value.toLocaleString("en-US");
const percent = (part, whole) => {
  if (!whole) return "–";
  const value = (100 * part) / whole;
  return (value && value < 0.1 ? "<0.1" : value >= 99.95 && part < whole ? ">99.9" : value.toFixed(1)) + " %";
};
const short = (value) =>
  value === null
    ? "–"
    : value
        .toPrecision(3)
        .replace(/\.?0+$/, "")
        .replace(/^(.*)e.*/, (all) => String(Number(all)));
const nats = (value) => (value === null ? "–" : value.toFixed(3));
const plural = (count, noun) => `${int(count)} ${noun}${count === 1 ? "" : "s"}`;
// ImageNet's classes are often named "n02099601: golden retriever"; the number would fill a caption.
const labelName = (label) => (D.label_names[label] ?? `label ${label}`).replace(/^n\d{8}: (?=.)/, "");

// A node is (level, position); the root is level top + 1.
const isRoot = (level) => level > top;
const title = (level, at) => (isRoot(level) ? "All rows" : `L${level} · ${L(level).id[at]}`);
function counts(level, at) {
  if (isRoot(level)) return { before: D.n, after: D.rows, quota: D.rows, lost: D.n - D.distinct };
  const here = L(level);
  const before = here.before[at];
  return { before, after: here.after[at], quota: here.quota[at], lost: before - (here.distinct || here.after)[at] };
}
function range(level, at) {
  if (level === 1) return [0, 0];
  return isRoot(level) ? [0, L(top).id.length] : [L(level).start[at], L(level).start[at + 1]];
}
function parentOf(level, at) {
  if (level === top) return 0;
  const start = L(level + 1).start;
  let low = 0,
    high = start.length - 1;
  while (high - low > 1) {
    const middle = (low + high) >> 1;
    if (start[middle] <= at) low = middle;
    else high = middle;
  }
  return low;
}
function children(level, at) {
  const [first, end] = range(level, at);
  const found = Array.from({ length: end - first }, (_, i) => first + i);
  const by = $("sort").value;
  if (by === "size") return found; // they are stored largest first
  const worth = found.map((child) => {
    const c = counts(level - 1, child);
    return by === "lost" ? -c.lost : -(c.before - c.lost) / c.before;
  });
  return found
    .map((child, i) => [worth[i], i, child])
    .sort((a, b) => a[0] - b[0] || a[1] - b[1])
    .map((entry) => entry[2]);
}
function groupsOf(level, at) {
  return isRoot(level) ? null : (D.places.node?.[level]?.[at] ?? null);
}
function faceOf(level, at) {
  const groups = groupsOf(level, at) ?? D.places.first?.[level]?.[at];
  const first = groups && groups.flat()[0];
  return first === undefined ? null : D.items[first];
}
const triples = (flat) => Array.from({ length: flat.length / 3 }, (_, i) => flat.slice(3 * i, 3 * i + 3));
const topLabels = (level, at) => (D.labels && !isRoot(level) ? triples(L(level).top[at]) : []);

const WEBP = "data:image/webp;base64,";
function tile([row, id, label, copies, kind, content]) {
  const fate = copies ? (copies > 1 ? `kept ${copies} times` : "kept") : "dropped";
  const name = label >= 0 ? labelName(label) : id;
  const told = `${id}${label >= 0 ? ` · ${labelName(label)}` : ""} · row ${int(row)} · ${fate}`;
  const frame = el("figure", { class: copies ? "in" : "out", title: told });
  if (kind === "image") frame.append(el("img", { src: WEBP + content, alt: told, loading: "lazy" }));
  else if (kind === "text") frame.append(el("p", {}, content));
  else if (kind === "unreadable") frame.append(el("p", {}, `cannot be read: ${content}`));
  else frame.append(el("p", {}, id));
  frame.append(el("figcaption", {}, kind === "text" ? `${fate} · ${name}` : kind === "image" ? name : fate));
  return frame;
}
function tiles(indices) {
  const entries = indices.map((i) => D.items[i]);
  const asText = entries.some((entry) => entry[4] !== "image");
  return el("div", { class: asText ? "tiles texts" : "tiles" }, ...entries.map(tile));
}
function labelBars(list, whole) {
  const box = el("div", { class: "tops" });
  for (const [label, before, after] of list) {
    box.append(
      el("span", { title: labelName(label) }, labelName(label)),
      bars(before, after, null, whole),
      el("span", {}, `${int(before)} → ${int(after)}`),
    );
  }
  return box;
}
function bars(before, after, quota, scale) {
  const width = (value) =>
    `display:${value ? "block" : "none"};width:${Math.min(100, (100 * value) / Math.max(1, scale)).toFixed(2)}%`;
  const box = el(
    "span",
    { class: "bars" },
    el("i", { class: "b", style: width(before) }),
    el("i", { class: "a", style: width(after) }),
  );
  if (quota)
    box.append(el("i", { class: "q", style: `left:${Math.min(100, (100 * quota) / Math.max(1, scale)).toFixed(2)}%` }));
  return box;
}
