"""The atlas: its numbers against independent ones, its markup, its size, and that it draws itself in a browser."""

import base64
import hashlib
import io
import json
import math
import re
import shutil
import subprocess
import time
from collections import Counter
from html.parser import HTMLParser
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from strata.curation import EmbeddingStore, Hierarchy
from strata.curation.atlas import Limits, write_atlas
from strata.curation.atlas.exemplars import Exemplars, with_distances
from strata.curation.errors import ConfigError, DataError
from strata.curation.pools.base import UnreadableItem
from strata.curation.subset import Selection, write_subset

NASTY = [
    "</script><script>alert(1)</script>",
    "<!--",
    "\"quoted\" & 'so'",
    "\u2028 líne \U0001f600",
    "half \ud800",
    "@@DATA@@",
]


class ListPool:
    """Items of a list: texts, pictures or errors."""

    def __init__(self, items, labels=None, label_names=None, name="things"):
        self.items, self.name = items, name
        self.labels = None if labels is None else np.asarray(labels, np.int64)
        self.label_names = label_names
        self.ids = [f"{name}/{row}" for row in range(len(items))]
        self.fingerprint = "f"
        self.read: list[int] = []

    def __len__(self):
        return len(self.items)

    def __getitem__(self, row):
        self.read.append(row)
        if isinstance(self.items[row], Exception):
            raise self.items[row]
        return self.items[row]

    def describe(self):
        return {"reader": "list"}


def tree(seed=0, n=600, k=(60, 15, 4), distances=True):
    """Skewed sizes and some empty clusters on every level."""
    rng = np.random.default_rng(seed)
    counts, assignments = (n, *k), []
    for items, clusters in zip(counts, k):
        assignments.append(rng.choice(clusters, items, p=rng.dirichlet(np.full(clusters, 0.4))))
    assignments[-1][0] = k[-1] - 1
    return Hierarchy.from_assignments(
        assignments, distances=[rng.random(len(a)) for a in assignments] if distances else None
    )


def text_pool(n=600, seed=0):
    rng = np.random.default_rng(seed)
    labels = rng.integers(-1, 7, n)
    return ListPool([f"text of row {row}" for row in range(n)], labels, [f"class {i}" for i in range(8)])


class Page(HTMLParser):
    """Scripts, styles, tags and attributes of a page."""

    def __init__(self, text):
        super().__init__()
        self.scripts, self.styles, self.attributes, self.tags = [], [], [], Counter()
        self._into = None
        self.feed(text)

    def handle_starttag(self, tag, attrs):
        self.tags[tag] += 1
        self.attributes += [(tag, name, value) for name, value in attrs]
        self._into = {"script": self.scripts, "style": self.styles}.get(tag)
        if self._into is not None:
            self._into.append("")

    def handle_data(self, data):
        if self._into is not None:
            self._into[-1] += data

    def handle_endtag(self, tag):
        self._into = None


def data_of(file: Path):
    return json.loads(Page(file.read_text()).scripts[0])


def test_numbers_are_those_of_a_count_by_hand(tmp_path: Path):
    h, pool = tree(), text_pool()
    chosen = h.sample(150, random_state=3)
    data = data_of(write_atlas(tmp_path / "a.html", h, Selection.of(chosen), pool=pool))
    quotas = h.quotas(150, random_state=0)
    assert (data["n"], data["rows"], data["distinct"]) == (600, 150, 150)
    for level in (1, 2, 3):
        own, labels = data["levels"][level - 1], h.labels(level)
        before, after = Counter(labels.tolist()), Counter(labels[chosen].tolist())
        assert sorted(own["id"]) == sorted(before) and own["hidden"] == 0
        assert own["before"] == [before[c] for c in own["id"]]
        assert own["after"] == [after[c] for c in own["id"]]
        assert own["quota"] == [int(quotas[level - 1][c]) for c in own["id"]]
        for name, counts, total in (("before", before, 600), ("after", after, 150)):
            entropy = -sum(v / total * math.log(v / total) for v in counts.values() if v)
            assert own["curve"]["kl"][name] == pytest.approx(math.log(len(before)) - entropy, abs=1e-5)
            per_group = np.array(own["curve"][name]) * np.diff(own["curve"]["rank"])  # the shares add up to k
            assert per_group.sum() == pytest.approx(len(before), rel=2e-3)
        whole = sum(after[c] == before[c] for c in before)
        gone = sum(after[c] == 0 for c in before)
        assert own["fates"] == {"whole": whole, "gone": gone, "thinned": len(before) - whole - gone}
        worst = sorted(before, key=lambda c: (after[c] - before[c], c))[:12]
        lost = [[c, before[c], after[c], before[c] - after[c]] for c in worst if before[c] > after[c]]
        assert own["losers"] == lost
        for place, cluster in enumerate(own["id"]):
            inside = pool.labels[(labels == cluster)]
            kept = Counter(pool.labels[chosen[labels[chosen] == cluster]].tolist())
            told = Counter(inside[inside >= 0].tolist())
            ranked = sorted(told, key=lambda c: (-told[c], c))[:3]
            assert own["top"][place] == [v for c in ranked for v in (c, told[c], kept[c])]
            for name, counts in (("effective_before", told), ("effective_after", kept)):
                values = np.array([v for c, v in counts.items() if c >= 0], float)
                share = values / max(values.sum(), 1)
                expected = math.exp(-(share * np.log(share)).sum()) if len(values) else 0
                assert own[name][place] == pytest.approx(expected, abs=6e-3)
    classes = Counter(pool.labels[pool.labels >= 0].tolist())
    assert data["labels"]["largest"][0][:2] == list(min(classes.items(), key=lambda item: (-item[1], item[0])))
    assert data["labels"]["before"]["n_labelled"] == sum(classes.values())


def test_children_are_under_their_parents_largest_first(tmp_path: Path):
    h = tree(5)
    levels = data_of(write_atlas(tmp_path / "a.html", h, Selection.of([0])))["levels"]
    for level in (2, 3):
        own, below = levels[level - 1], levels[level - 2]
        assert own["start"][0] == 0 and own["start"][-1] == len(below["id"])
        for place, cluster in enumerate(own["id"]):
            span = slice(own["start"][place], own["start"][place + 1])
            sizes = h.sizes(level - 1)
            children = [c for c in h.members(level, cluster).tolist() if sizes[c]]
            assert sorted(below["id"][span]) == sorted(children)
            assert below["before"][span] == sorted(below["before"][span], reverse=True)
            assert sum(below["before"][span]) == own["before"][place]


def test_exemplars_are_what_they_are_called(tmp_path: Path):
    h, pool = tree(1), text_pool()
    chosen = h.sample(100)
    data = data_of(write_atlas(tmp_path / "a.html", h, Selection.of(chosen), pool=pool, limits=Limits(per_kind=2)))
    row = [entry[0] for entry in data["items"]]
    assert len(set(row)) == len(row) == len(set(pool.read))
    for entry in data["items"]:
        at, name, label, copies, kind, content = entry
        assert (name, label, kind, content) == (f"things/{at}", pool.labels[at], "text", f"text of row {at}")
        assert copies == int(at in chosen)
    distance = h.levels[0].distance
    leaves = data["levels"][0]
    for place, groups in data["places"]["node"]["1"].items():
        members = np.flatnonzero(h.labels(1) == leaves["id"][int(place)])
        ranked = members[np.argsort(distance[members], kind="stable")].tolist()
        closest, random, furthest = ([row[i] for i in group] for group in groups)
        assert closest == ranked[:2] and furthest == [r for r in ranked[::-1][:2] if r not in closest]
        assert set(random) <= set(members.tolist()) - set(closest) - set(furthest)
        assert len(random) == min(2, max(0, len(members) - 4))
    for level in ("2", "3"):
        own = data["levels"][int(level) - 1]
        assert len(data["places"]["node"][level]) == len(own["id"])
        for place, groups in data["places"]["node"][level].items():
            rows = [row[i] for group in groups for i in group]
            assert rows and len(set(rows)) == len(rows)
            assert (h.labels(int(level))[rows] == own["id"][int(place)]).all()
        for rank, (dropped, kept) in data["places"]["loser"][level].items():
            assert {h.labels(int(level))[row[i]] for i in dropped + kept} == {own["losers"][int(rank)][0]}
            assert not any(row[i] in chosen for i in dropped) and all(row[i] in chosen for i in kept)
            assert len(dropped) == min(8, own["losers"][int(rank)][3])


def test_upper_levels_take_their_children_in_turn():
    # Rows 0-3 in leaves 0 and 1 of one top cluster, leaf 1 the closer one.
    h = Hierarchy.from_assignments([[0, 0, 1, 1], [0, 0]], distances=[[0.1, 0.2, 0.4, 0.3], [0.9, 0.5]])
    exemplars = Exemplars(h, 3, 0)
    assert exemplars.extreme(2, 0, 3, 1) == [3, 0, 2]
    assert exemplars.extreme(2, 0, 3, -1) == [1, 2, 0]
    assert exemplars.first(2, 0) == [3]


def test_without_distances_they_come_from_embeddings_or_are_random(tmp_path: Path):
    rng = np.random.default_rng(0)
    points = rng.normal(size=(600, 5)).astype(np.float16)
    h = tree(2, distances=False)
    measured = with_distances(h, points)
    for cluster in range(60):
        own = np.flatnonzero(h.labels(1) == cluster)
        if len(own):
            gap = points[own] - points[own].astype(float).mean(0)
            assert np.allclose(measured.levels[0].distance[own], np.linalg.norm(gap, axis=1), atol=2e-3)
    EmbeddingStore.from_array(tmp_path / "store", points, labels=rng.integers(0, 3, 600), encoder={"name": "mine"})
    known = data_of(write_atlas(tmp_path / "a.html", h, Selection.of([1]), embeddings=tmp_path / "store"))
    assert known["ranked"] and known["encoder"] == {"name": "mine"} and known["labels"]["after"]["n"] == 1
    blind = data_of(write_atlas(tmp_path / "b.html", h, Selection.of([1])))
    assert not blind["ranked"] and blind["items"][0][4] == "id"
    assert all(not g[0] and g[1] and not g[2] for g in blind["places"]["node"]["1"].values())


def test_one_file_no_network_and_only_its_own_script_may_run(tmp_path: Path):
    text = write_atlas(tmp_path / "a.html", tree(), Selection.of([0]), pool=text_pool()).read_text()
    page = Page(text)
    assert text.startswith("<!doctype html>") and page.tags["script"] == 2 and page.tags["style"] == 1
    assert not [a for a in page.attributes if a[1] in ("src", "srcset", "style") or a[1].startswith("on")]
    assert all(value.startswith("#") for _, name, value in page.attributes if name == "href")
    assert page.tags["link"] == 0 and "@import" not in text and "url(" not in page.styles[0]
    assert not re.search(r"fetch\(|XMLHttp|innerHTML|eval\(|document\.write", page.scripts[1])
    assert set(re.findall(r"https?://[^\s\"']+", text)) == {"http://www.w3.org/2000/svg"}
    (policy,) = (v for _, n, v in page.attributes if n == "content" and "default-src" in v)
    for kind, body in (("script", page.scripts[1]), ("style", page.styles[0])):
        digest = base64.b64encode(hashlib.sha256(body.encode()).digest()).decode()
        assert f"{kind}-src 'sha256-{digest}'" in policy
    assert "default-src 'none'" in policy and "unsafe" not in policy


def test_nothing_a_pool_says_is_taken_for_markup(tmp_path: Path):
    n = len(NASTY) * 20
    pool = ListPool(NASTY * 20, np.arange(n) % len(NASTY), NASTY, name=NASTY[0])
    h = Hierarchy.from_assignments([np.arange(n) % 4, np.zeros(4, int)], distances=[np.arange(n), np.zeros(4)])
    file = write_atlas(tmp_path / "a.html", h, Selection.of([0, 1]), pool=pool)
    page = Page(file.read_bytes().decode("utf-8"))
    assert page.tags["script"] == 2 and page.tags["style"] == 1
    assert not set("<>&") & set(page.scripts[0])
    data = json.loads(page.scripts[0])
    writable = [text.encode("utf-8", "replace").decode() for text in NASTY]
    assert data["title"] == NASTY[0]
    assert {entry[5] for entry in data["items"]} == {" ".join(text.split()) for text in writable}
    assert set(data["label_names"].values()) == set(writable)


def test_same_input_same_bytes(tmp_path: Path):
    h = tree(3)
    files = [
        write_atlas(tmp_path / name, h, Selection.of(h.sample(90)), pool=text_pool(), seed=seed)
        for name, seed in (("a.html", 0), ("b.html", 0), ("c.html", 1))
    ]
    assert files[0].read_bytes() == files[1].read_bytes() != files[2].read_bytes()


def test_pictures_become_small_ones_and_unreadable_items_are_told(tmp_path: Path):
    h = Hierarchy.from_assignments([[0, 0, 0, 1]], distances=[[0, 1, 2, 0]])
    wide = Image.fromarray(np.full((300, 600, 3), (200, 30, 30), np.uint8))
    items = [wide, wide.resize((40, 20)).convert("L"), wide.convert("RGBA"), UnreadableItem(3, "x", "cut short")]
    data = data_of(write_atlas(tmp_path / "a.html", h, Selection.of([0]), pool=ListPool(items)))
    entries = {entry[0]: entry for entry in data["items"]}
    assert entries[3][4:] == ["unreadable", "cut short"]
    for row, size in ((0, (72, 36)), (1, (40, 20)), (2, (72, 36))):
        with Image.open(io.BytesIO(base64.b64decode(entries[row][5]))) as image:
            assert (image.format, image.size) == ("WEBP", size)
    with pytest.raises(DataError, match="row 0 of pool 'things' is a int"):
        write_atlas(tmp_path / "b.html", h, Selection.of([0]), pool=ListPool([1, 2, 3, 4]))
    assert not (tmp_path / "b.html").exists()


def test_provenance_and_quotas_come_from_the_folders(tmp_path: Path):
    h, pool = tree(), text_pool()
    h.save(tmp_path / "h", key="abc", config={"hierarchy": {"n_clusters": [60, 15, 4]}})
    (tmp_path / "h" / "run.json").write_text(json.dumps({"command": "strata curate <x>", "commit": "c0ffee"}))
    sampler = {"_target_": "strata.curation.samplers.hierarchical.HierarchicalRows", "max_repeats": 2}
    chosen = h.sample(700, max_repeats=2, random_state=9)
    config = {"sampler": sampler, "size": 700, "seed": 9}
    names = pool.label_names
    write_subset(tmp_path / "s", Selection.of(chosen), ids=pool.ids, labels=None, label_names=names, config=config)
    data = data_of(write_atlas(tmp_path / "a.html", tmp_path / "h", tmp_path / "s", pool=pool))
    assert [stage["kind"] for stage in data["stages"]] == ["hierarchy", "subset"]
    assert (data["stages"][0]["command"], data["stages"][0]["commit"]) == ("strata curate <x>", "c0ffee")
    assert data["stages"][1]["config"] == config
    for level in data["levels"]:
        assert level["quota"] == level["after"]  # the very draw: seed and repeats of the sample stage
    leaves = data["levels"][0]
    distinct = Counter(h.labels(1)[np.unique(chosen)].tolist())
    assert leaves["distinct"] == [distinct[c] for c in leaves["id"]]
    before = Counter(h.labels(1).tolist())
    assert all(lost == before[c] - distinct[c] > 0 for c, _, _, lost in leaves["losers"])
    assert leaves["fates"]["whole"] == sum(before[c] == distinct[c] for c in before)


def test_small_limits_hold_and_the_largest_clusters_stay(tmp_path: Path):
    h = tree(7, n=60_000, k=(6000, 400, 20))
    rng = np.random.default_rng(0)
    noise = ListPool([rng.bytes(200).hex() for _ in range(100)] * 600, rng.zipf(1.5, 60_000) % 50)
    chosen = Selection.of(h.sample(6000))
    file = write_atlas(tmp_path / "a.html", h, chosen, pool=noise, limits=Limits(max_bytes=400_000))
    assert 300_000 < file.stat().st_size <= 400_000
    data = data_of(file)
    leaves = data["levels"][0]
    assert leaves["hidden"] > 0 and leaves["hidden"] + len(leaves["id"]) == (h.sizes(1) > 0).sum()
    assert leaves["fates"]["whole"] + leaves["fates"]["thinned"] + leaves["fates"]["gone"] == (h.sizes(1) > 0).sum()
    assert int(h.sizes(1).argmax()) in leaves["id"] and len(data["items"]) > 50
    few = data_of(write_atlas(tmp_path / "b.html", h, chosen, pool=noise, limits=Limits(max_items=40)))
    assert 0 < len(few["items"]) <= 40 and few["levels"][0]["hidden"] == 0
    named = ListPool(noise.items, rng.integers(0, 5000, 60_000), [f"{i} " + "&<é" * 40 for i in range(5000)])
    assert (
        300_000
        < write_atlas(tmp_path / "d.html", h, chosen, pool=named, limits=Limits(max_bytes=900_000)).stat().st_size
        <= 900_000
    )
    none = data_of(write_atlas(tmp_path / "c.html", h, chosen, pool=noise, limits=Limits(max_items=0)))
    assert none["items"] == []


@pytest.mark.slow
def test_a_million_rows_and_100_000_leaves(tmp_path: Path):
    h = tree(0, n=1_000_000, k=(100_000, 3000, 100))
    rng = np.random.default_rng(0)
    pictures = [Image.fromarray(rng.integers(0, 256, (64, 64, 3), np.uint8)) for _ in range(50)]
    pool = ListPool(pictures * 20_000, rng.zipf(1.3, 1_000_000) % 1000)
    chosen = Selection.of(h.sample(100_000))
    start = time.perf_counter()
    file = write_atlas(tmp_path / "a.html", h, chosen, pool=pool)
    assert time.perf_counter() - start < 60
    assert file.stat().st_size < 20_000_000
    assert len(data_of(file)["levels"][0]["id"]) == (h.sizes(1) > 0).sum()


def test_wrong_rows_and_limits_are_refused(tmp_path: Path):
    h = tree()
    for field, value in (("pool", text_pool(5)), ("embeddings", np.zeros((5, 2))), ("labels", [1]), ("ids", ["a"])):
        with pytest.raises(DataError, match=f"{field}: . rows, but the hierarchy has 600"):
            write_atlas(tmp_path / "a.html", h, Selection.of([0]), **{field: value})
    with pytest.raises(DataError, match="row 600"):
        write_atlas(tmp_path / "a.html", h, Selection.of([600]))
    with pytest.raises(ConfigError, match="atlas.max_bytes"):
        Limits(max_bytes=10)
    assert not any(tmp_path.iterdir())


def test_an_empty_selection_and_a_single_cluster(tmp_path: Path):
    h = Hierarchy.from_assignments([[0, 0]])
    data = data_of(write_atlas(tmp_path / "a.html", h, Selection.of([])))
    assert data["levels"][0]["curve"]["kl"]["after"] is None and data["levels"][0]["fates"]["gone"] == 1
    data = data_of(write_atlas(tmp_path / "a.html", h, Selection.of([0, 1])))
    assert data["levels"][0]["losers"] == [] and data["levels"][0]["curve"]["kl"]["after"] == 0


CHROMIUM = shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")
in_browser = pytest.mark.skipif(CHROMIUM is None, reason="no Chromium on this machine")


def drawn_by_browser(file: Path) -> str:
    """The document of a page after its script has run."""
    options = ["--headless", "--no-sandbox", "--disable-gpu", "--window-size=1000,900", "--dump-dom"]
    command = [CHROMIUM, *options, f"--user-data-dir={file.parent}/profile", file.as_uri()]
    return subprocess.run(command, capture_output=True, text=True, timeout=300).stdout


@in_browser
def test_it_draws_itself_in_a_browser(tmp_path: Path):
    h = tree()
    pool = ListPool((NASTY * 100)[:600], np.arange(600) % 6, NASTY, name=NASTY[0])
    file = write_atlas(tmp_path / "a.html", h, Selection.of(h.sample(150)), pool=pool)
    drawn = drawn_by_browser(file).split('<script type="application/json"')[0]
    assert "From <b>600 rows</b> to <b>150</b>" in drawn
    occupied = int((h.sizes(3) > 0).sum())
    assert drawn.count('role="treeitem"') == 1 + occupied and drawn.count("<svg") == 4
    assert "<script" not in drawn.split("<main>")[1] and "&lt;/script&gt;" in drawn
    assert drawn.count('class="card loser"') > 0 and "How it was made" in drawn


@in_browser
def test_long_texts_stay_inside_their_pane(tmp_path: Path):
    """A text pool as it is: paragraphs without a break, ids that are long paths. Measured in the browser itself."""
    texts = [f"{'word ' * 60}{'x' * (i % 200)}" for i in range(600)]
    file = write_atlas(tmp_path / "a.html", (h := tree()), Selection.of(h.sample(150)), pool=ListPool(texts),
                       ids=[f"{'some/folder/' * 9}{i}" for i in range(600)])  # fmt: skip
    page = re.sub(r'<meta http-equiv="Content-Security-Policy"[^>]*>', "", file.read_text(encoding="utf-8"))
    measure = """<script>addEventListener("load", () => { document.querySelectorAll("#tree .row")[1].click();
      const wide = [...document.querySelectorAll(".detail, .loser, main")].filter(b => b.scrollWidth > b.clientWidth);
      const figures = document.querySelectorAll(".detail figure").length;
      document.title = `measured ${wide.length} too wide, ${figures} texts`; });</script></body>"""
    file.write_text(page.replace("</body>", measure), encoding="utf-8")
    found = re.search(r"<title>measured (\d+) too wide, (\d+) texts</title>", drawn_by_browser(file))
    assert found and found[1] == "0" and int(found[2]) > 5
