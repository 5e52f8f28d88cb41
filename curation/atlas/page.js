// The other sections, and the start.
function header() {
  $("title").textContent = D.title;
  const kept = D.distinct === D.rows ? "" : ` (${int(D.distinct)} different)`;
  $("lead").append(
    "From ",
    el("b", {}, plural(D.n, "row")),
    " to ",
    el("b", {}, int(D.rows) + kept),
    `, ${percent(D.distinct, D.n)} of the pool, over ${plural(top, "level")} of clusters.`,
  );
  const stage = (kind) => D.stages.find((entry) => entry.kind === kind) || {};
  const lastName = (target) => (target ? String(target).split(".").pop() : null);
  const config = (kind) => stage(kind).config || {};
  const clusters = D.levels.map((level) => int(level.k)).join(" → ");
  const sampler = config("subset").sampler || {};
  const tree = config("hierarchy").hierarchy || {};
  const options = (object, skip) =>
    Object.entries(object)
      .filter(
        ([name, value]) =>
          !name.startsWith("_") && !skip.includes(name) && (typeof value !== "object" || Array.isArray(value)),
      )
      .map(([name, value]) => `${name} ${Array.isArray(value) ? value.join("/") : value}`)
      .join(", ");
  const facts = [
    ["Pool", D.title, [D.pool.reader, D.pool.path, D.pool.split].filter(Boolean).join(" · ")],
    ["Encoder", D.encoder.name || D.encoder.kind || (D.dim ? "embeddings" : null), D.dim ? `${D.dim} dimensions` : ""],
    [
      "Hierarchy",
      `${clusters} clusters`,
      options(tree, [
        "n_clusters",
        "verbose",
        "device",
        "dtype",
        "tol",
        "random_state",
        ...["n_splits", "fit_fraction"].filter((name) => tree[name] === 1),
      ]),
    ],
    [
      "Sampler",
      lastName(sampler._target_),
      [options(sampler, []), config("subset").seed !== undefined ? `seed ${config("subset").seed}` : ""]
        .filter(Boolean)
        .join(", "),
    ],
  ];
  const commit = D.stages
    .map((entry) => entry.commit)
    .filter(Boolean)
    .pop();
  if (commit) facts.push(["Commit", commit, stage("subset").started || ""]);
  $("facts").append(
    ...facts
      .filter((fact) => fact[1])
      .map(([name, value, more]) =>
        el("div", {}, el("dt", {}, name), el("dd", {}, value, more ? el("small", {}, more) : null)),
      ),
  );
  const count = (kind) => D.items.filter((entry) => entry[4] === kind).length;
  const kinds = [
    ["image", "picture"],
    ["text", "text"],
    ["id", "row"],
    ["unreadable", "unreadable item"],
  ]
    .filter(([kind]) => count(kind))
    .map(([kind, noun]) => plural(count(kind), noun));
  $("budget").textContent = kinds.join(", ") || "none";
}

function chart(curve, noun) {
  const W = 400,
    H = 190,
    left = 46,
    right = 8,
    up = 8,
    down = 30;
  const k = curve.rank[curve.rank.length - 1];
  const positive = [...curve.before, ...curve.after].filter((value) => value > 0);
  const high = Math.max(2, ...positive) * 1.15,
    low = Math.max(1e-3, Math.min(0.5, ...positive) / 1.3);
  const x = (rank) => left + ((W - left - right) * rank) / k;
  const y = (value) =>
    up + ((H - up - down) * (Math.log(high) - Math.log(Math.max(low, value)))) / (Math.log(high) - Math.log(low));
  const picture = svg("svg", {
    viewBox: `0 0 ${W} ${H}`,
    role: "img",
    "aria-label": `Share of each ${noun} before and after, largest first`,
  });
  for (let power = -3; power <= 6; power++) {
    const ratio = high / low;
    for (const step of ratio > 1000 ? [1] : ratio > 25 ? [1, 3] : [1, 2, 5]) {
      const value = step * 10 ** power;
      if (value < low || value > high) continue;
      picture.append(
        svg("line", {
          x1: left,
          x2: W - right,
          y1: y(value),
          y2: y(value),
          stroke: value === 1 ? "var(--soft)" : "var(--line)",
          "stroke-dasharray": value === 1 ? "5 4" : "none",
        }),
      );
      picture.append(svg("text", { x: left - 6, y: y(value) + 4, "text-anchor": "end" }, `${short(value)}×`));
    }
  }
  const point = (rank, value) => `${x(rank).toFixed(1)},${y(value).toFixed(1)}`;
  const path = (values) =>
    `M${values.map((value, i) => `${point(curve.rank[i], value)}L${point(curve.rank[i + 1], value)}`).join("L")}`;
  const floor = `L${x(k).toFixed(1)},${H - down}L${left},${H - down}Z`;
  picture.append(svg("path", { d: path(curve.after) + floor, fill: "var(--after)", opacity: 0.1 }));
  picture.append(svg("path", { d: path(curve.before), fill: "none", stroke: "var(--before)", "stroke-width": 2.2 }));
  picture.append(
    svg("path", {
      d: path(curve.after),
      fill: "none",
      stroke: "var(--after)",
      "stroke-width": 2.2,
      "stroke-linejoin": "round",
    }),
  );
  picture.append(
    svg("text", { x: left, y: H - 12 }, `largest ${noun}`),
    svg("text", { x: W - right, y: H - 12, "text-anchor": "end" }, `${noun} ${int(k)}`),
  );
  const line = svg("line", { y1: up, y2: H - down, stroke: "var(--soft)", visibility: "hidden" });
  const said = svg("text", { x: W - right, y: up + 10, "text-anchor": "end", "font-weight": 600 });
  picture.append(line, said);
  picture.addEventListener("pointermove", (event) => {
    const box = picture.getBoundingClientRect();
    const rank = ((((event.clientX - box.left) / box.width) * W - left) / (W - left - right)) * k;
    const at = Math.min(curve.before.length - 1, Math.max(0, curve.rank.findIndex((border) => border > rank) - 1));
    const [first, last] = [curve.rank[at] + 1, curve.rank[at + 1]];
    const middle = x((first - 1 + last) / 2);
    line.setAttribute("x1", middle);
    line.setAttribute("x2", middle);
    line.setAttribute("visibility", "visible");
    const ranks = last > first ? `${int(first)}–${int(last)}` : int(first);
    said.textContent = `${noun} ${ranks}: ${short(curve.before[at])}× → ${short(curve.after[at])}×`;
  });
  picture.addEventListener("pointerleave", () => {
    line.setAttribute("visibility", "hidden");
    said.textContent = "";
  });
  return picture;
}
function klBars(kl) {
  const box = el("div", { class: "kl" });
  const scale = Math.max(kl.before ?? 0, kl.after ?? 0, 1e-9);
  const told = [
    ["KL before", kl.before, "--before"],
    ["KL after", kl.after, "--after"],
  ];
  if (kl.quota !== undefined && kl.quota !== null && Math.abs(kl.quota - kl.after) > 5e-4)
    told.push(["KL of quotas", kl.quota, "--quota"]);
  for (const [name, value, color] of told) {
    box.append(
      el("span", {}, name),
      el(
        "span",
        { class: "meter" },
        el("i", { style: `width:${((100 * (value ?? 0)) / scale).toFixed(1)}%;background:var(${color})` }),
      ),
      el("span", {}, nats(value)),
    );
  }
  return box;
}
function charts() {
  for (let level = top; level >= 1; level--) {
    const here = L(level),
      fate = here.fates;
    const empty = here.k - here.occupied;
    $("charts").append(
      el(
        "article",
        { class: "card" },
        el(
          "div",
          { class: "top" },
          el("h3", {}, `Level ${level}${level === top && top > 1 ? ", top" : ""}`),
          el("span", { class: "soft" }, plural(here.k, "cluster") + (empty ? `, ${int(empty)} empty` : "")),
        ),
        chart(here.curve, "cluster"),
        klBars(here.curve.kl),
        el(
          "p",
          { class: "fates" },
          `${int(fate.whole)} kept whole, ${int(fate.thinned)} thinned, ${int(fate.gone)} without any row left`,
        ),
      ),
    );
  }
}

function losers(level) {
  for (const button of $("tabs").children) button.setAttribute("aria-pressed", String(button.level === level));
  const here = L(level);
  $("losers").replaceChildren(
    ...here.losers.map(([cluster, before, after, lost], rank) => {
      const at = here.id.indexOf(cluster);
      const groups = D.places.loser?.[level]?.[rank];
      const card = el(
        "article",
        { class: "card loser" },
        el(
          "div",
          { class: "top" },
          el("h3", {}, `L${level} · ${cluster}`),
          el("b", { class: "lost" }, `−${int(lost)} of ${int(before)} (${percent(lost, before)})`),
        ),
      );
      if (D.labels && here.loser_top[rank].length)
        card.append(
          el(
            "p",
            { class: "fates" },
            triples(here.loser_top[rank])
              .map(([label, b, a]) => `${labelName(label)} ${int(b)} → ${int(a)}`)
              .join(" · "),
          ),
        );
      if (groups)
        [
          ["Dropped", groups[0]],
          ["Kept", groups[1]],
        ].forEach(([name, list]) => {
          if (list.length)
            card.append(
              el("h4", {}, name),
              tiles(D.items[list[0]][4] === "text" ? list.slice(0, name === "Kept" ? 2 : 5) : list),
            );
        });
      if (at >= 0)
        card.append(
          el(
            "p",
            { class: "fates" },
            el("button", { type: "button", onclick: () => reveal(level, at) }, "Show in browser"),
          ),
        );
      return card;
    }),
  );
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
  if (!D.labels) {
    $("labels").remove();
    $("to-labels").remove();
    return;
  }
  const { before, after, curve, largest, rarest } = D.labels;
  const line = (name, b, a) => [el("dt", {}, name), el("dd", {}, `${b} → ${a}`)];
  const share = (value) => percent(value, 1);
  $("label-body").append(
    el(
      "div",
      { class: "two" },
      el(
        "article",
        { class: "card" },
        el(
          "div",
          { class: "top" },
          el("h3", {}, "All classes"),
          el("span", { class: "soft" }, `${int(before.n_classes)} classes, ${int(before.n_labelled)} labelled rows`),
        ),
        chart(curve, "class"),
        klBars(curve.kl),
        el(
          "dl",
          { class: "pairs" },
          ...line(
            "effective number of classes",
            before.effective_classes.toFixed(1),
            after.effective_classes.toFixed(1),
          ),
          ...line("classes with a row", share(before.coverage), share(after.coverage)),
          ...line("largest class", share(before.largest_share), share(after.largest_share)),
          ...line("rarest half of the classes", share(before.tail_share), share(after.tail_share)),
          ...line("labelled rows", int(before.n_labelled), int(after.n_labelled)),
        ),
      ),
      el("article", { class: "card" }, el("h3", {}, "Largest classes"), el("p"), labelBars(largest, largest[0][1])),
      rarest.length
        ? el(
            "article",
            { class: "card" },
            el("h3", {}, "Rarest classes"),
            el("p"),
            labelBars(rarest, Math.max(...rarest.map(([, b]) => b))),
          )
        : null,
    ),
  );
}
function made() {
  if (!D.stages.length)
    $("stages").append(el("p", { class: "note" }, "Made from arrays in memory: no manifests to tell."));
  for (const entry of D.stages) {
    const pairs = ["key", "command", "commit", "started", "seconds", "machine"].filter(
      (name) => entry[name] !== undefined,
    );
    const tell = (object) => JSON.stringify(object, null, 1);
    $("stages").append(
      el(
        "details",
        {},
        el(
          "summary",
          {},
          entry.kind,
          el(
            "span",
            { class: "soft" },
            [entry.key, entry.commit && `commit ${entry.commit}`].filter(Boolean).join(" · "),
          ),
        ),
        el(
          "dl",
          { class: "pairs" },
          ...pairs.flatMap((name) => [
            el("dt", {}, name),
            el("dd", {}, name === "command" ? el("code", {}, entry[name]) : String(entry[name])),
          ]),
        ),
        el("pre", {}, tell({ config: entry.config, inputs: entry.inputs, versions: entry.versions })),
      ),
    );
  }
}

const dark = () =>
  (document.documentElement.dataset.theme ||
    (matchMedia("(prefers-color-scheme: dark)").matches ? "dark" : "light")) === "dark";
const sayTheme = () => {
  $("theme").textContent = dark() ? "Light" : "Dark";
};
$("theme").addEventListener("click", () => {
  document.documentElement.dataset.theme = dark() ? "light" : "dark";
  sayTheme();
});
$("sort").addEventListener("change", () => {
  const node = selected && selected.node;
  plant();
  if (node && !isRoot(node.level)) reveal(node.level, node.at);
  else select(tree.firstElementChild, false);
});
for (let level = top; level >= 1; level--) $("jump-level").append(el("option", { value: level }, String(level)));
$("jump").addEventListener("submit", (event) => {
  event.preventDefault();
  const level = Number($("jump-level").value),
    at = L(level).id.indexOf(Number($("jump-id").value.trim() || -1));
  $("jump-said").textContent = at < 0 ? "no such cluster here" : "";
  if (at >= 0) reveal(level, at);
});
const hidden = D.levels
  .filter((level) => level.hidden)
  .map((level) => `${int(level.hidden)} small ones of level ${level.level}`);
if (hidden.length) $("browser-note").textContent = `Left out to keep the file small: ${hidden.join(", ")}.`;
sayTheme();
header();
charts();
plant();
select(tree.firstElementChild, false);
dropped();
labels();
if (D.map) {
  $("map").hidden = false;
  $("map-picture").src = D.map;
}
made();
