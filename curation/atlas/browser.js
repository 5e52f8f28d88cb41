// The level browser: a tree that is opened lazily, and the details of the selected cluster.
const tree = $("tree");
let selected = null;
function rowOf(level, at, depth, place, siblings, scale) {
  const c = counts(level, at),
    face = faceOf(level, at),
    first = topLabels(level, at)[0];
  const [start, end] = range(level, at);
  const sub =
    face && face[4] === "text"
      ? face[5].slice(0, 90)
      : first
        ? labelName(first[0])
        : isRoot(level)
          ? D.title
          : end > start
            ? plural(end - start, "cluster")
            : "";
  const picture = face && face[4] === "image" ? el("img", { class: "face", src: WEBP + face[5], alt: "" }) : null;
  const row = el(
    "div",
    {
      class: "row",
      role: "treeitem",
      tabindex: -1,
      "aria-level": depth + 1,
      "aria-selected": "false",
      "aria-posinset": place,
      "aria-setsize": siblings,
      "aria-expanded": end > start ? "false" : null,
      "aria-label":
        `${title(level, at)}, ${plural(c.before, "row")} before, quota ${int(c.quota)}, ` +
        `after ${int(c.after)}${sub ? `, ${sub}` : ""}`,
    },
    el(
      "span",
      { class: "name", style: `--depth:${depth}` },
      el("span", { class: "caret", "aria-hidden": "true" }, end > start ? "▶" : ""),
      picture,
      el("span", { class: "words" }, el("b", {}, title(level, at)), sub ? el("small", {}, sub) : null),
    ),
    bars(c.before, c.after, c.quota, scale),
    el("span", {}, int(c.before)),
    el("span", {}, int(c.quota)),
    el("span", {}, int(c.after)),
  );
  row.node = { level, at, depth };
  row.addEventListener("click", (event) => {
    if (event.target.classList.contains("caret")) toggle(row);
    else if (selected === row) toggle(row);
    select(row);
  });
  return row;
}
const depthOf = (element) => (element.node ? element.node.depth : element.depth);
function open(row, atLeast = PAGE) {
  const { level, at, depth } = row.node;
  if (row.getAttribute("aria-expanded") !== "false") return;
  row.setAttribute("aria-expanded", "true");
  const list = children(level, at);
  const scale = Math.max(
    ...list.map((child) => {
      const c = counts(level - 1, child);
      return Math.max(c.before, c.after, c.quota);
    }),
  );
  const make = (from, to) =>
    list.slice(from, to).map((child, i) => rowOf(level - 1, child, depth + 1, from + i + 1, list.length, scale));
  const put = (after, from, to) => {
    const rows = make(from, to);
    after.after(...rows);
    if (to >= list.length) return;
    const more = el(
      "button",
      {
        class: "more",
        type: "button",
        style: `padding-left:${depth * 16 + 50}px`,
        onclick: () => {
          put(more, to, to + PAGE);
          const next = more.nextElementSibling;
          more.remove();
          select(next);
        },
      },
      `Show ${int(Math.min(PAGE, list.length - to))} more of ${int(list.length - to)}`,
    );
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
  if (selected) {
    selected.setAttribute("aria-selected", "false");
    selected.tabIndex = -1;
  }
  selected = row;
  row.setAttribute("aria-selected", "true");
  row.tabIndex = 0;
  if (focus) {
    row.focus({ preventScroll: true });
    row.scrollIntoView({ block: "nearest" });
  }
  detail(row.node.level, row.node.at);
}
function reveal(level, at) {
  const path = [];
  for (let l = level, a = at; l <= top; a = parentOf(l, a), l++) path.unshift([l, a]);
  let row = tree.firstElementChild;
  for (const [l, a] of path) {
    const place = children(row.node.level, row.node.at).indexOf(a);
    const find = () => {
      let next = row.nextElementSibling;
      while (next && depthOf(next) > row.node.depth) {
        if (next.node && next.node.level === l && next.node.at === a) return next;
        next = next.nextElementSibling;
      }
      return null;
    };
    open(row, place + 1);
    let next = find();
    if (!next) {
      close(row);
      open(row, place + 1);
      next = find();
    }
    row = next;
  }
  $("browser").scrollIntoView();
  select(row);
}
tree.addEventListener("keydown", (event) => {
  if (!event.target.node || event.altKey || event.ctrlKey || event.metaKey) return;
  const row = event.target;
  const step = (from, way) => {
    let next = from[way];
    while (next && !next.node) next = next[way];
    return next;
  };
  const parent = () => {
    let above = row.previousElementSibling;
    while (above && !(above.node && above.node.depth < row.node.depth)) above = above.previousElementSibling;
    return above;
  };
  const expanded = row.getAttribute("aria-expanded");
  const go = {
    ArrowDown: () => step(row, "nextElementSibling"),
    ArrowUp: () => step(row, "previousElementSibling"),
    Home: () => tree.firstElementChild,
    End: () => {
      let last = tree.lastElementChild;
      while (!last.node) last = last.previousElementSibling;
      return last;
    },
    ArrowRight: () => {
      if (expanded === "false") {
        open(row);
        return row;
      }
      return expanded === "true" ? step(row, "nextElementSibling") : row;
    },
    ArrowLeft: () => {
      if (expanded === "true") {
        close(row);
        return row;
      }
      return parent();
    },
    Enter: () => {
      toggle(row);
      return row;
    },
    " ": () => {
      toggle(row);
      return row;
    },
  }[event.key];
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

function detail(level, at) {
  const c = counts(level, at),
    box = $("detail");
  const path = [];
  for (let l = level + 1, a = isRoot(level) ? 0 : parentOf(level, at); l <= top; a = parentOf(l, a), l++)
    path.unshift([l, a]);
  const number = (value, name) => el("div", {}, el("b", {}, value), el("span", {}, name));
  const crumbs = el("p", { class: "crumbs" });
  if (!isRoot(level)) {
    crumbs.append(el("button", { type: "button", onclick: () => select(tree.firstElementChild) }, "All rows"), " › ");
    for (const [l, a] of path)
      crumbs.append(el("button", { type: "button", onclick: () => reveal(l, a) }, title(l, a)), " › ");
  }
  const [first, end] = range(level, at);
  box.replaceChildren(
    crumbs,
    el(
      "h3",
      {},
      title(level, at),
      el(
        "span",
        { class: "soft" },
        end > first ? `  ${plural(end - first, "cluster")} of level ${level - 1} shown below it` : "",
      ),
    ),
    el(
      "div",
      { class: "nums" },
      number(int(c.before), "rows before"),
      number(int(c.quota), "quota"),
      number(int(c.after), "rows after"),
      number(percent(c.before - c.lost, c.before), "of its rows kept"),
      number(`${percent(c.before, D.n)} → ${percent(c.after, D.rows)}`, "share of all rows"),
    ),
  );
  if (D.labels && !isRoot(level)) {
    const here = L(level);
    box.append(
      el(
        "h4",
        {},
        "Labels",
        el(
          "span",
          { class: "soft" },
          `  effective number ${here.effective_before[at].toFixed(1)} → ${here.effective_after[at].toFixed(1)}`,
        ),
      ),
      labelBars(topLabels(level, at), c.before),
    );
  }
  const groups = groupsOf(level, at);
  if (groups) {
    const above = level > 1;
    const names = [
      above ? "Closest to the center (through its closest clusters)" : "Closest to the center",
      D.ranked ? "Random" : "Random rows",
      above ? "Furthest (through its furthest clusters)" : "Furthest from the center",
    ];
    groups.forEach((group, i) => {
      if (group.length) box.append(el("h4", {}, names[i]), tiles(group));
    });
    box.append(el("p", { class: "fates" }, "A colored edge marks rows that were kept."));
  } else if (isRoot(level)) {
    const faces = children(level, at)
      .slice(0, 24)
      .map((child) => (D.places.node?.[top]?.[child] ?? [[]]).flat()[0])
      .filter((i) => i !== undefined);
    if (faces.length) box.append(el("h4", {}, "One exemplar of each of the largest top clusters"), tiles(faces));
  } else {
    const single = D.places.first?.[level]?.[at];
    if (single) box.append(el("h4", {}, D.ranked ? "Closest to the center" : "A random row"), tiles(single.flat()));
    box.append(
      el(
        "p",
        { class: "note" },
        `${single ? "No more" : "No"} exemplars of this cluster are stored: ` +
          "clusters with most rows and largest losses come first.",
      ),
    );
  }
}
