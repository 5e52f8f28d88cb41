"""Text pools: fields that are kept, parts of a pool, what is left out of it."""

import gzip
import json

import numpy as np
import pytest

from strata.curation.artifact import read_manifest
from strata.curation.errors import ConfigError, DataError
from strata.curation.pools.inventory import readable, take_inventory
from strata.curation.pools.jsonl import JsonlPool
from strata.curation.pools.left_out import leave_out
from strata.curation.pools.split import SplitPool
from strata.curation.pools.where import WherePool
from strata.curation.text.decontaminate import find_overlap

RECORDS = [
    {"raw_content": f"text number {i}", "digest": f"sha:{i}", "perplexity": 100.5 + i, "bucket": ["head", "tail"][i % 2],
     "length": i, **({"url": f"http://x/{i}"} if i != 3 else {})}
    for i in range(200)
]  # fmt: skip


@pytest.fixture
def ccnet(tmp_path):
    file = tmp_path / "en_head_0000.jsonl.gz"
    file.write_bytes(gzip.compress("\n".join(map(json.dumps, RECORDS)).encode()))
    return JsonlPool(str(file), text_field="raw_content", id_field="digest", label_field="bucket")


def test_ccnet_fields_are_kept(ccnet):
    assert ccnet[5] == "text number 5" and ccnet.ids[5] == "sha:5"
    assert ccnet.column("perplexity").dtype == np.float64 and ccnet.column("perplexity")[2] == 102.5
    assert ccnet.column("length").dtype == np.int64
    assert ccnet.column("url")[3] is None and ccnet.column("url")[4] == "http://x/4"
    assert json.loads(ccnet.line(7)) == RECORDS[7]
    with pytest.raises(ConfigError, match="no line of .* has a field 'uri'"):
        ccnet.column("uri")


def test_where_takes_one_value_and_keeps_the_classes(ccnet):
    tail = WherePool(ccnet, "bucket", "tail")
    assert len(tail) == 100 and set(tail.labels.tolist()) == {1} and tail.label_names == ccnet.label_names
    assert len(WherePool(ccnet, "bucket", ["tail", "head"])) == 200
    with pytest.raises(ConfigError, match="no row has bucket 'middle'; choose among head, tail"):
        WherePool(ccnet, "bucket", "middle")


def test_parts_are_disjoint_whole_and_do_not_move_when_the_pool_grows(ccnet, tmp_path):
    parts = {part: set(SplitPool(ccnet, part).ids) for part in ("train", "valid", "test")}
    assert set.union(*parts.values()) == set(ccnet.ids) and sum(map(len, parts.values())) == 200
    file = tmp_path / "grown.jsonl"
    file.write_text("\n".join(json.dumps(r) for r in [*RECORDS[::-1], {"raw_content": "new", "digest": "new"}]))
    grown = JsonlPool(str(file), text_field="raw_content", id_field="digest")
    assert set(SplitPool(grown, "test").ids) - {"new"} == parts["test"]
    assert set(SplitPool(ccnet, "test", seed=1).ids) != parts["test"]
    assert SplitPool(ccnet, "train").fingerprint != SplitPool(ccnet, "valid").fingerprint
    with pytest.raises(ConfigError, match="sum to 1"):
        SplitPool(ccnet, "a", {"a": 0.5})
    with pytest.raises(ConfigError, match="part: 'dev' is unknown"):
        SplitPool(ccnet, "dev")


def test_rows_left_out_stay_out_of_the_readable_pool(tmp_path):
    lines = [json.dumps({"text": f"t{i}"}) for i in range(6)]
    lines[1] = '{"text": '  # broken
    (tmp_path / "p.jsonl").write_text("\n".join(lines))
    pool = JsonlPool(str(tmp_path / "p.jsonl"))
    take_inventory(pool, tmp_path / "inv", on_error="skip")
    first = readable(pool, tmp_path / "inv")
    assert [first[i] for i in range(len(first))] == ["t0", "t2", "t3", "t4", "t5"]
    overlap = find_overlap((first[i] for i in range(len(first))), {"a": ["T3 x"]}, n=2)
    assert len(overlap.rows) == 0
    leave_out(tmp_path / "inv", np.array([0, 2]), tmp_path / "once")  # t0 and t3
    second = readable(pool, tmp_path / "once")
    assert [second[i] for i in range(len(second))] == ["t2", "t4", "t5"]
    leave_out(tmp_path / "once", np.array([1]), tmp_path / "twice", meta={"why": "test"})  # t4
    third = readable(pool, tmp_path / "twice")
    assert [third[i] for i in range(len(third))] == ["t2", "t5"]
    manifest = read_manifest(tmp_path / "twice", "pool")
    assert (manifest["n_left_out"], manifest["n_unreadable"], manifest["why"]) == (3, 1, "test")


def test_bad_lines_are_named(tmp_path):
    file = tmp_path / "bad.jsonl"
    file.write_text('{"text": "fine"}\n{"text": "cut\n\n{"text": "  "}\n{"body": "x"}\n')
    pool = JsonlPool(str(file))
    with pytest.raises(DataError, match=r"3 of 4 items .* first 'bad.jsonl:2' .*line 2 of bad.jsonl: no JSON"):
        take_inventory(pool, tmp_path / "inv")
    assert not (tmp_path / "inv").exists() and not (tmp_path / "inv.partial").exists()
    take_inventory(pool, tmp_path / "inv", on_error="skip")
    told = json.loads((tmp_path / "inv" / "unreadable.json").read_text())
    assert [item["why"].split(": ")[0] for item in told] == [f"line {n} of bad.jsonl" for n in (2, 4, 5)]
    assert "empty" in told[1]["why"] and "no field 'text' (it has body)" in told[2]["why"]
    with pytest.raises(ConfigError, match=r"pool.text_field: no field 'content' .*fields: body, text"):
        JsonlPool(str(file), text_field="content")


# ---- decontamination


def brute(documents, sets, n):
    """By strings alone: (document, set) that share n words."""
    import re

    def grams(text):
        words = re.findall(r"\w+", text.lower())
        return {tuple(words[i : i + n]) for i in range(len(words) - n + 1)}

    return {
        (i, name) for i, document in enumerate(documents) for name, texts in sets.items()
        if any(grams(document) & grams(text) for text in texts)
    }  # fmt: skip


@pytest.mark.parametrize("n", [2, 3, 5])
def test_overlap_is_that_of_plain_strings(n):
    rng = np.random.default_rng(n)

    def draw(length):
        return " ".join(rng.choice(["a", "B", "c.", "d,", "E!", "f"], length))

    documents, sets = [draw(12) for _ in range(60)], {"x": [draw(7) for _ in range(4)], "y": [draw(2), draw(9)]}
    found = find_overlap(documents, sets, n)
    table = found.table.to_pylist()
    assert {(line["row"], line["set"]) for line in table} == brute(documents, sets, n)
    assert len(table) == len({(line["row"], line["set"]) for line in table})
    assert found.rows.tolist() == sorted({line["row"] for line in table})
    assert found.n_texts == {"x": 4, "y": 2} and found.too_short == {"x": 0, "y": int(n > 2)}
    for line in table:
        assert len(line["words"].split()) == n


def test_case_and_punctuation_do_not_hide_an_overlap():
    text = "The quick brown fox; jumps over the lazy dog, and then it sleeps until noon today"
    document = 'He said: "THE QUICK, BROWN FOX JUMPS (over) the lazy dog and then it sleeps".'
    assert find_overlap([document, "something else"], {"s": [text]}, 13).rows.tolist() == [0]
    assert find_overlap([document], {"s": [text]}, 14).rows.tolist() == []
    with pytest.raises(ConfigError, match="decontaminate.n"):
        find_overlap([], {}, 1)
