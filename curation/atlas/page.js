"use strict";
// Everything shown is set as text or as an attribute, never parsed as markup.
(() => {
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
  const short = (value) => (value === null ? "–" : value.toPrecision(3).replace(/\.?0+$/, "").replace(/^(.*)e.*/, (all) => String(Number(all))));
  const nats = (value) => (value === null ? "–" : value.toFixed(3));
  const plural = (count, noun) => `${int(count)} ${noun}${count === 1 ? "" : "s"}`;
  // ImageNet's classes are often named "n02099601: golden retriever"; the number would fill a caption.
  const labelName = (label) => (D.label_names[label] ?? `label ${label}`).replace(/^n\d{8}: (?=.)/, "");

  // ---- nodes -------------------------------------------------------------------------------------------------
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
    let low = 0, high = start.length - 1;
    while (high - low > 1) { const middle = (low + high) >> 1; if (start[middle] <= at) low = middle; else high = middle; }
    return low;
  }
  function children(level, at) {
    const [first, end] = range(level, at);
    const found = Array.from({ length: end - first }, (_, i) => first + i);
    const by = $("sort").value;
    if (by === "size") return found; // they are stored largest first
    const worth = found.map((child) => { const c = counts(level - 1, child); return by === "lost" ? -c.lost : -(c.before - c.lost) / c.before; });
    return found.map((child, i) => [worth[i], i, child]).sort((a, b) => a[0] - b[0] || a[1] - b[1]).map((entry) => entry[2]);
  }
  function groupsOf(level, at) { return isRoot(level) ? null : D.places.node?.[level]?.[at] ?? null; }
  function faceOf(level, at) {
    const groups = groupsOf(level, at) ?? D.places.first?.[level]?.[at];
    const first = groups && groups.flat()[0];
    return first === undefined ? null : D.items[first];
  }
  const triples = (flat) => Array.from({ length: flat.length / 3 }, (_, i) => flat.slice(3 * i, 3 * i + 3));
  const topLabels = (level, at) => (D.labels && !isRoot(level) ? triples(L(level).top[at]) : []);

  // ---- items -------------------------------------------------------------------------------------------------
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
    frame.append(el("figcaption", {}, kind === "text" ? `${name} · ${fate}` : kind === "image" ? name : fate));
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
      box.append(el("span", { title: labelName(label) }, labelName(label)), bars(before, after, null, whole), el("span", {}, `${int(before)} → ${int(after)}`));
    }
    return box;
  }
  function bars(before, after, quota, scale) {
    const width = (value) => `display:${value ? "block" : "none"};width:${Math.min(100, (100 * value) / Math.max(1, scale)).toFixed(2)}%`;
    const box = el("span", { class: "bars" }, el("i", { class: "b", style: width(before) }), el("i", { class: "a", style: width(after) }));
    if (quota !== null) box.append(el("i", { class: "q", style: `left:${Math.min(100, (100 * quota) / Math.max(1, scale)).toFixed(2)}%` }));
    return box;
  }

  // ---- header ------------------------------------------------------------------------------------------------
  function header() {
    $("title").textContent = D.title;
    const kept = D.distinct === D.rows ? "" : ` (${int(D.distinct)} different)`;
    $("lead").append("From ", el("b", {}, plural(D.n, "row")), " to ", el("b", {}, int(D.rows) + kept), `, ${percent(D.distinct, D.n)} of the pool, over ${plural(top, "level")} of clusters.`);
    const stage = (kind) => D.stages.find((entry) => entry.kind === kind) || {};
    const lastName = (target) => (target ? String(target).split(".").pop() : null);
    const config = (kind) => stage(kind).config || {};
    const clusters = D.levels.map((level) => int(level.k)).join(" → ");
    const sampler = config("subset").sampler || {};
    const tree = config("hierarchy").hierarchy || {};
    const options = (object, skip) => Object.entries(object).filter(([name, value]) => !name.startsWith("_") && !skip.includes(name) && (typeof value !== "object" || Array.isArray(value))).map(([name, value]) => `${name} ${Array.isArray(value) ? value.join("/") : value}`).join(", ");
    const facts = [
      ["Pool", D.title, [D.pool.reader, D.pool.path, D.pool.split].filter(Boolean).join(" · ")],
      ["Encoder", D.encoder.name || D.encoder.kind || (D.dim ? "embeddings" : "not told"), D.dim ? `${D.dim} dimensions` : ""],
      ["Hierarchy", `${clusters} clusters`, options(tree, ["n_clusters", "verbose", "device", "dtype", "tol", "random_state", ...["n_splits", "fit_fraction"].filter((name) => tree[name] === 1)])],
      ["Sampler", lastName(sampler._target_) || "not told", [options(sampler, []), config("subset").seed !== undefined ? `seed ${config("subset").seed}` : ""].filter(Boolean).join(", ")],
    ];
    const commit = D.stages.map((entry) => entry.commit).filter(Boolean).pop();
    if (commit) facts.push(["Commit", commit, stage("subset").started || ""]);
    $("facts").append(...facts.map(([name, value, more]) => el("div", {}, el("dt", {}, name), el("dd", {}, value, more ? el("small", {}, more) : null))));
    const count = (kind) => D.items.filter((entry) => entry[4] === kind).length;
    const kinds = [["image", "picture"], ["text", "text"], ["id", "row"], ["unreadable", "unreadable item"]].filter(([kind]) => count(kind)).map(([kind, noun]) => plural(count(kind), noun));
    $("budget").textContent = kinds.join(", ") || "none";
  }

  // ---- charts ------------------------------------------------------------------------------------------------
  function chart(curve, noun) {
    const W = 400, H = 190, left = 46, right = 8, up = 8, down = 30;
    const k = curve.rank[curve.rank.length - 1];
    const positive = [...curve.before, ...curve.after].filter((value) => value > 0);
    const high = Math.max(2, ...positive) * 1.15, low = Math.max(1e-3, Math.min(0.5, ...positive) / 1.3);
    const x = (rank) => left + ((W - left - right) * rank) / k;
    const y = (value) => up + ((H - up - down) * (Math.log(high) - Math.log(Math.max(low, value)))) / (Math.log(high) - Math.log(low));
    const picture = svg("svg", { viewBox: `0 0 ${W} ${H}`, role: "img", "aria-label": `Share of each ${noun} before and after, largest first` });
    for (let power = -3; power <= 6; power++) {
      const ratio = high / low;
      for (const step of ratio > 1000 ? [1] : ratio > 25 ? [1, 3] : [1, 2, 5]) {
        const value = step * 10 ** power;
        if (value < low || value > high) continue;
        picture.append(svg("line", { x1: left, x2: W - right, y1: y(value), y2: y(value), stroke: value === 1 ? "var(--soft)" : "var(--line)", "stroke-dasharray": value === 1 ? "5 4" : "none" }));
        picture.append(svg("text", { x: left - 6, y: y(value) + 4, "text-anchor": "end" }, `${short(value)}×`));
      }
    }
    const path = (values) => values.map((value, i) => `${i ? "L" : "M"}${x(curve.rank[i]).toFixed(1)},${y(value).toFixed(1)}L${x(curve.rank[i + 1]).toFixed(1)},${y(value).toFixed(1)}`).join("");
    const floor = `L${x(k).toFixed(1)},${H - down}L${left},${H - down}Z`;
    picture.append(svg("path", { d: path(curve.after) + floor, fill: "var(--after)", opacity: 0.1 }));
    picture.append(svg("path", { d: path(curve.before), fill: "none", stroke: "var(--before)", "stroke-width": 2.2 }));
    picture.append(svg("path", { d: path(curve.after), fill: "none", stroke: "var(--after)", "stroke-width": 2.2, "stroke-linejoin": "round" }));
    picture.append(svg("text", { x: left, y: H - 12 }, `largest ${noun}`), svg("text", { x: W - right, y: H - 12, "text-anchor": "end" }, `${noun} ${int(k)}`));
    return picture;
  }
  function klBars(kl) {
    const box = el("div", { class: "kl" });
    const scale = Math.max(kl.before ?? 0, kl.after ?? 0, 1e-9);
    const told = [["KL before", kl.before, "--before"], ["KL after", kl.after, "--after"]];
    if (kl.quota !== undefined && kl.quota !== null && Math.abs(kl.quota - kl.after) > 5e-4) told.push(["KL of quotas", kl.quota, "--quota"]);
    for (const [name, value, color] of told) {
      box.append(el("span", {}, name), el("span", { class: "meter" }, el("i", { style: `width:${((100 * (value ?? 0)) / scale).toFixed(1)}%;background:var(${color})` })), el("span", {}, nats(value)));
    }
    return box;
  }
  function charts() {
    for (let level = top; level >= 1; level--) {
      const here = L(level), fate = here.fates;
      const empty = here.k - here.occupied;
      $("charts").append(el("article", { class: "card" },
        el("div", { class: "top" }, el("h3", {}, `Level ${level}${level === top && top > 1 ? ", top" : ""}`), el("span", { class: "soft" }, plural(here.k, "cluster") + (empty ? `, ${int(empty)} empty` : ""))),
        chart(here.curve, "cluster"), klBars(here.curve.kl),
        el("p", { class: "fates" }, `${int(fate.whole)} kept whole, ${int(fate.thinned)} thinned, ${int(fate.gone)} without any row left`)));
    }
  }

  // ---- tree --------------------------------------------------------------------------------------------------
  const tree = $("tree");
  let selected = null;
  function rowOf(level, at, depth, place, siblings, scale) {
    const c = counts(level, at), face = faceOf(level, at), first = topLabels(level, at)[0];
    const [start, end] = range(level, at);
    const sub = face && face[4] === "text" ? face[5].slice(0, 90) : first ? labelName(first[0]) : isRoot(level) ? D.title : end > start ? plural(end - start, "cluster") : "";
    const picture = face && face[4] === "image" ? el("img", { class: "face", src: WEBP + face[5], alt: "" }) : null;
    const row = el("div", { class: "row", role: "treeitem", tabindex: -1, "aria-level": depth + 1, "aria-selected": "false", "aria-posinset": place, "aria-setsize": siblings, "aria-expanded": end > start ? "false" : null,
      "aria-label": `${title(level, at)}, ${plural(c.before, "row")} before, quota ${int(c.quota)}, after ${int(c.after)}${sub ? `, ${sub}` : ""}` },
      el("span", { class: "name", style: `--depth:${depth}` }, el("span", { class: "caret", "aria-hidden": "true" }, end > start ? "▶" : ""), picture,
        el("span", { class: "words" }, el("b", {}, title(level, at)), sub ? el("small", {}, sub) : null)),
      bars(c.before, c.after, c.quota, scale), el("span", {}, int(c.before)), el("span", {}, int(c.quota)), el("span", {}, int(c.after)));
    row.node = { level, at, depth };
    row.addEventListener("click", (event) => { if (event.target.classList.contains("caret")) toggle(row); else if (selected === row) toggle(row); select(row); });
    return row;
  }
  const depthOf = (element) => (element.node ? element.node.depth : element.depth);
  function open(row, atLeast = PAGE) {
    const { level, at, depth } = row.node;
    if (row.getAttribute("aria-expanded") !== "false") return;
    row.setAttribute("aria-expanded", "true");
    const list = children(level, at);
    const scale = Math.max(...list.map((child) => { const c = counts(level - 1, child); return Math.max(c.before, c.after, c.quota); }));
    const make = (from, to) => list.slice(from, to).map((child, i) => rowOf(level - 1, child, depth + 1, from + i + 1, list.length, scale));
    const put = (after, from, to) => {
      const rows = make(from, to);
      after.after(...rows);
      if (to >= list.length) return;
      const more = el("button", { class: "more", type: "button", style: `padding-left:${depth * 16 + 50}px`, onclick: () => { put(more, to, to + PAGE); const next = more.nextElementSibling; more.remove(); select(next); } }, `Show ${int(Math.min(PAGE, list.length - to))} more of ${int(list.length - to)}`);
      more.depth = depth + 1;
      rows[rows.length - 1].after(more);
    };
    put(row, 0, Math.max(PAGE, atLeast));
  }
  function close(row) {
    if (row.getAttribute("aria-expanded") !== "true") return;
    row.setAttribute("aria-expanded", "false");
    while (row.nextElementSibling && depthOf(row.nextElementSibling) > row.node.depth) {
      if (row.nextElementSibling === selected) selected = null;
      row.nextElementSibling.remove();
    }
    if (!selected) select(row);
  }
  const toggle = (row) => (row.getAttribute("aria-expanded") === "true" ? close(row) : open(row));
  function select(row, focus = true) {
    if (selected) { selected.setAttribute("aria-selected", "false"); selected.tabIndex = -1; }
    selected = row;
    row.setAttribute("aria-selected", "true");
    row.tabIndex = 0;
    if (focus) { row.focus({ preventScroll: true }); row.scrollIntoView({ block: "nearest" }); }
    detail(row.node.level, row.node.at);
  }
  function reveal(level, at) {
    const path = [];
    for (let l = level, a = at; l <= top; a = parentOf(l, a), l++) path.unshift([l, a]);
    let row = tree.firstElementChild;
    for (const [l, a] of path) {
      const place = children(row.node.level, row.node.at).indexOf(a);
      const find = () => { let next = row.nextElementSibling; while (next && depthOf(next) > row.node.depth) { if (next.node && next.node.level === l && next.node.at === a) return next; next = next.nextElementSibling; } return null; };
      open(row, place + 1);
      let next = find();
      if (!next) { close(row); open(row, place + 1); next = find(); }
      row = next;
    }
    $("browser").scrollIntoView();
    select(row);
  }
  tree.addEventListener("keydown", (event) => {
    if (!event.target.node || event.altKey || event.ctrlKey || event.metaKey) return;
    const row = event.target;
    const step = (from, way) => { let next = from[way]; while (next && !next.node) next = next[way]; return next; };
    const parent = () => { let above = row.previousElementSibling; while (above && !(above.node && above.node.depth < row.node.depth)) above = above.previousElementSibling; return above; };
    const expanded = row.getAttribute("aria-expanded");
    const go = { ArrowDown: () => step(row, "nextElementSibling"), ArrowUp: () => step(row, "previousElementSibling"), Home: () => tree.firstElementChild, End: () => { let last = tree.lastElementChild; while (!last.node) last = last.previousElementSibling; return last; },
      ArrowRight: () => { if (expanded === "false") { open(row); return row; } return expanded === "true" ? step(row, "nextElementSibling") : row; },
      ArrowLeft: () => { if (expanded === "true") { close(row); return row; } return parent(); },
      Enter: () => { toggle(row); return row; }, " ": () => { toggle(row); return row; } }[event.key];
    if (!go) return;
    event.preventDefault();
    const next = go();
    if (next) select(next);
  });
  function plant() {
    tree.replaceChildren(rowOf(top + 1, 0, 0, 1, 1, D.n));
    selected = null;
    open(tree.firstElementChild);
  }

  // ---- detail ------------------------------------------------------------------------------------------------
  function detail(level, at) {
    const c = counts(level, at), box = $("detail");
    const path = [];
    for (let l = level + 1, a = isRoot(level) ? 0 : parentOf(level, at); l <= top; a = parentOf(l, a), l++) path.unshift([l, a]);
    const number = (value, name) => el("div", {}, el("b", {}, value), el("span", {}, name));
    const crumbs = el("p", { class: "crumbs" });
    if (!isRoot(level)) {
      crumbs.append(el("button", { type: "button", onclick: () => select(tree.firstElementChild) }, "All rows"), " › ");
      for (const [l, a] of path) crumbs.append(el("button", { type: "button", onclick: () => reveal(l, a) }, title(l, a)), " › ");
    }
    const [first, end] = range(level, at);
    box.replaceChildren(crumbs, el("h3", {}, title(level, at), el("span", { class: "soft" }, end > first ? `  ${plural(end - first, "cluster")} of level ${level - 1} shown below it` : "")),
      el("div", { class: "nums" }, number(int(c.before), "rows before"), number(int(c.quota), "quota"), number(int(c.after), "rows after"), number(percent(c.before - c.lost, c.before), "of its rows kept"),
        number(`${percent(c.before, D.n)} → ${percent(c.after, D.rows)}`, "share of all rows")));
    if (D.labels && !isRoot(level)) {
      const here = L(level);
      box.append(el("h4", {}, "Labels", el("span", { class: "soft" }, `  effective number ${here.effective_before[at].toFixed(1)} → ${here.effective_after[at].toFixed(1)}`)), labelBars(topLabels(level, at), c.before));
    }
    const groups = groupsOf(level, at);
    if (groups) {
      const above = level > 1;
      const names = [above ? "Closest to the center (through its closest clusters)" : "Closest to the center", D.ranked ? "Random" : "Random rows", above ? "Furthest (through its furthest clusters)" : "Furthest from the center"];
      groups.forEach((group, i) => { if (group.length) box.append(el("h4", {}, names[i]), tiles(group)); });
      box.append(el("p", { class: "fates" }, "A colored edge marks rows that were kept."));
    } else if (isRoot(level)) {
      const faces = children(level, at).slice(0, 24).map((child) => (D.places.node?.[top]?.[child] ?? [[]]).flat()[0]).filter((i) => i !== undefined);
      if (faces.length) box.append(el("h4", {}, "One exemplar of each of the largest top clusters"), tiles(faces));
    } else {
      const single = D.places.first?.[level]?.[at];
      if (single) box.append(el("h4", {}, D.ranked ? "Closest to the center" : "A random row"), tiles(single.flat()));
      box.append(el("p", { class: "note" }, `${single ? "No more" : "No"} exemplars of this cluster are stored: clusters with most rows and largest losses come first.`));
    }
  }

  // ---- losers, labels, provenance ----------------------------------------------------------------------------
  function losers(level) {
    for (const button of $("tabs").children) button.setAttribute("aria-pressed", String(button.level === level));
    const here = L(level);
    $("losers").replaceChildren(...here.losers.map(([cluster, before, after, lost], rank) => {
      const at = here.id.indexOf(cluster);
      const groups = D.places.loser?.[level]?.[rank];
      const card = el("article", { class: "card loser" }, el("div", { class: "top" }, el("h3", {}, `L${level} · ${cluster}`), el("b", { class: "lost" }, `−${int(lost)} of ${int(before)} (${percent(lost, before)})`)));
      if (D.labels && here.loser_top[rank].length) card.append(el("p", { class: "fates" }, triples(here.loser_top[rank]).map(([label, b, a]) => `${labelName(label)} ${int(b)} → ${int(a)}`).join(" · ")));
      if (groups) [["Dropped", groups[0]], ["Kept", groups[1]]].forEach(([name, list]) => { if (list.length) card.append(el("h4", {}, name), tiles(D.items[list[0]][4] === "text" ? list.slice(0, name === "Kept" ? 2 : 5) : list)); });
      if (at >= 0) card.append(el("p", { class: "fates" }, el("button", { type: "button", onclick: () => reveal(level, at) }, "Show in browser")));
      return card;
    }));
    if (!here.losers.length) $("losers").append(el("p", { class: "note" }, "No cluster of this level lost a row."));
  }
  function dropped() {
    for (let level = top; level >= 1; level--) {
      const button = el("button", { type: "button", onclick: () => losers(level) }, `Level ${level}`);
      button.level = level;
      $("tabs").append(button);
    }
    losers(top > 1 ? top - 1 : 1);
  }
  function labels() {
    if (!D.labels) { $("labels").remove(); $("to-labels").remove(); return; }
    const { before, after, curve, largest, rarest } = D.labels;
    const line = (name, b, a) => [el("dt", {}, name), el("dd", {}, `${b} → ${a}`)];
    const share = (value) => percent(value, 1);
    $("label-body").append(el("div", { class: "two" },
      el("article", { class: "card" }, el("div", { class: "top" }, el("h3", {}, "All classes"), el("span", { class: "soft" }, `${int(before.n_classes)} classes, ${int(before.n_labelled)} labelled rows`)), chart(curve, "class"), klBars(curve.kl), el("dl", { class: "pairs" },
        ...line("effective number of classes", before.effective_classes.toFixed(1), after.effective_classes.toFixed(1)), ...line("classes with a row", share(before.coverage), share(after.coverage)),
        ...line("largest class", share(before.largest_share), share(after.largest_share)), ...line("rarest half of the classes", share(before.tail_share), share(after.tail_share)),
        ...line("labelled rows", int(before.n_labelled), int(after.n_labelled)))),
      el("article", { class: "card" }, el("h3", {}, "Largest classes"), el("p"), labelBars(largest, largest[0][1])),
      rarest.length ? el("article", { class: "card" }, el("h3", {}, "Rarest classes"), el("p"), labelBars(rarest, Math.max(...rarest.map(([, b]) => b)))) : null));
  }
  function made() {
    if (!D.stages.length) $("stages").append(el("p", { class: "note" }, "Made from arrays in memory: no manifests to tell."));
    for (const entry of D.stages) {
      const pairs = ["key", "command", "commit", "started", "seconds", "machine"].filter((name) => entry[name] !== undefined);
      const tell = (object) => JSON.stringify(object, null, 1);
      $("stages").append(el("details", {}, el("summary", {}, entry.kind, el("span", { class: "soft" }, [entry.key, entry.commit && `commit ${entry.commit}`].filter(Boolean).join(" · "))),
        el("dl", { class: "pairs" }, ...pairs.flatMap((name) => [el("dt", {}, name), el("dd", {}, name === "command" ? el("code", {}, entry[name]) : String(entry[name]))])),
        el("pre", {}, tell({ config: entry.config, inputs: entry.inputs, versions: entry.versions }))));
    }
  }

  // ---- start -------------------------------------------------------------------------------------------------
  const dark = () => (document.documentElement.dataset.theme || (matchMedia("(prefers-color-scheme: dark)").matches ? "dark" : "light")) === "dark";
  const sayTheme = () => { $("theme").textContent = dark() ? "Light" : "Dark"; };
  $("theme").addEventListener("click", () => { document.documentElement.dataset.theme = dark() ? "light" : "dark"; sayTheme(); });
  $("sort").addEventListener("change", () => { const node = selected && selected.node; plant(); if (node && !isRoot(node.level)) reveal(node.level, node.at); else select(tree.firstElementChild, false); });
  for (let level = top; level >= 1; level--) $("jump-level").append(el("option", { value: level }, String(level)));
  $("jump").addEventListener("submit", (event) => {
    event.preventDefault();
    const level = Number($("jump-level").value), at = L(level).id.indexOf(Number($("jump-id").value.trim() || -1));
    $("jump-said").textContent = at < 0 ? "no such cluster here" : "";
    if (at >= 0) reveal(level, at);
  });
  const hidden = D.levels.filter((level) => level.hidden).map((level) => `${int(level.hidden)} small ones of level ${level.level}`);
  if (hidden.length) $("browser-note").textContent = `Left out to keep the file small: ${hidden.join(", ")}.`;
  sayTheme(); header(); charts(); plant(); select(tree.firstElementChild, false); dropped(); labels(); made();
})();
