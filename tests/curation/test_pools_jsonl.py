"""Texts in JSON Lines: offsets, bad lines by number, ids, labels."""

import gzip
import json
import pickle

import pytest

from strata.curation.errors import ConfigError, DataError
from strata.curation.pools.base import Pool, UnreadableItem
from strata.curation.pools.inventory import readable, take_inventory
from strata.curation.pools.jsonl import JsonlPool

LINES = [
    b'{"text": "erste Zeile \xc3\xa4\xe2\x82\xac", "id": "a", "label": "x"}',
    b"",
    b'{"text": "second", "id": "b", "label": null}\r',
    b"   ",
    b'{"text": "\\ud83d\\ude00 \xf0\x9f\x8e\x89", "id": "a", "label": "w"}',
    b'{"text": "no id"}',
]


def write(path, lines, end=b"\n"):
    path.write_bytes(b"\n".join(lines) + end)
    return str(path)


@pytest.mark.parametrize("end", [b"\n", b"", b"\r\n", b"\n\n\n"])
def test_lines_are_found_whatever_ends_them(tmp_path, end):
    pool = JsonlPool(write(tmp_path / "t.jsonl", LINES, end), id_field="id", label_field="label")
    assert isinstance(pool, Pool) and pool.kind == "text" and len(pool) == 4
    assert [pool[i] for i in (3, 0, 2, 1)] == ["no id", "erste Zeile ä€", "😀 🎉", "second"]
    assert list(pool.ids) == ["a", "b", "a#2", "t.jsonl:6"]
    assert pool.labels.tolist() == [1, -1, 0, -1] and pool.label_names == ["w", "x"]
    assert pool.line(1) == b'{"text": "second", "id": "b", "label": null}'
    with pytest.raises(IndexError):
        pool[4]


def test_it_survives_pickling_and_reads_several_files_in_order(tmp_path):
    write(tmp_path / "b.jsonl", [b'{"text": "two"}'])
    write(tmp_path / "a.ndjson", [b'{"text": "zero"}', b'{"text": "one"}'])
    (tmp_path / "notes.txt").write_text("not data")
    pool = JsonlPool(str(tmp_path))
    again = pickle.loads(pickle.dumps(pool))
    assert [again[i] for i in range(3)] == ["zero", "one", "two"] == [pool[i] for i in range(3)]
    assert list(again.ids) == ["a.ndjson:1", "a.ndjson:2", "b.jsonl:1"] and again.labels is None
    assert JsonlPool(str(tmp_path / "*.jsonl"))[0] == "two"


@pytest.mark.parametrize(
    ("line", "why"),
    [
        (b'{"text": "cut', "no JSON"),
        (b"[1, 2]", "no JSON object"),
        (b'{"body": "x", "id": 3}', "no field 'text' (it has body, id)"),
        (b'{"text": 7}', "is no text"),
        (b'{"text": " \\n"}', "is empty"),
        (b'{"text": "\xff\xfe"}', "no JSON"),
        (b'{"text": "\\ud800"}', "surrogate"),
        (b"[" * 100_000, "no JSON"),
    ],
)
def test_a_bad_line_is_told_by_its_number(tmp_path, capsys, line, why):
    lines = [b'{"text": "good 0"}', b"", line, b'{"text": "good 1"}']
    pool = JsonlPool(write(tmp_path / "t.jsonl", lines), id_field="id", label_field="label")
    with pytest.raises(UnreadableItem, match=r"item 't.jsonl:3' \(row 1\)") as caught:
        pool[1]
    assert why in str(caught.value)
    with pytest.raises(DataError, match="line 3 of t.jsonl.*on_error=skip"):
        take_inventory(pool, tmp_path / "fatal", on_error="fatal")
    out = take_inventory(pool, tmp_path / "skip", on_error="skip")
    assert "line 3 of t.jsonl" in capsys.readouterr().err
    kept = readable(pool, out)
    assert [kept[i] for i in range(len(kept))] == ["good 0", "good 1"] and kept.kind == "text"
    assert kept.line(1) == lines[3]
    assert json.loads((out / "manifest.json").read_text())["text_length"] == [6, 6]


def test_gz_is_read_up_to_a_size(tmp_path):
    with gzip.open(tmp_path / "t.jsonl.gz", "wb") as stream:
        stream.write(b'{"text": "x"}\n' * 200_000)
    pool = JsonlPool(str(tmp_path / "t.jsonl.gz"))
    assert len(pool) == 200_000 and pickle.loads(pickle.dumps(pool))[199_999] == "x"
    with pytest.raises(ConfigError, match="gunzip"):
        JsonlPool(str(tmp_path / "t.jsonl.gz"), unpacked_mib=1)
    data = (tmp_path / "t.jsonl.gz").read_bytes()
    (tmp_path / "cut.jsonl.gz").write_bytes(data[: len(data) // 2])
    with pytest.raises(DataError, match="cannot be unpacked"):
        JsonlPool(str(tmp_path / "cut.jsonl.gz"))


def test_a_byte_order_mark_is_no_text(tmp_path):
    pool = JsonlPool(write(tmp_path / "t.jsonl", [b'\xef\xbb\xbf{"text": "x"}']))
    assert pool[0] == "x" and pool.line(0) == b'{"text": "x"}'


def test_empty_and_missing_are_refused(tmp_path):
    for content in (b"", b"\n \n\n"):
        (tmp_path / "t.jsonl").write_bytes(content)
        with pytest.raises(ConfigError, match="holds no line"):
            JsonlPool(str(tmp_path / "t.jsonl"))
    (tmp_path / "folder").mkdir()
    with pytest.raises(ConfigError, match="no file ending in"):
        JsonlPool(str(tmp_path / "folder"))
    with pytest.raises(ConfigError, match="no file matches"):
        JsonlPool(str(tmp_path / "*.nothing"))


@pytest.mark.parametrize(("values", "message"), [(["1.5"], "1.5"), (["true"], "True"), (["-2"], "-2")])
def test_labels_that_are_none(tmp_path, values, message):
    lines = [f'{{"text": "x", "label": {value}}}'.encode() for value in values]
    with pytest.raises(ConfigError, match=message):
        JsonlPool(write(tmp_path / "t.jsonl", lines), label_field="label").labels  # noqa: B018


def test_the_fingerprint_is_of_content_not_of_place(tmp_path):
    one = JsonlPool(write(tmp_path / "t.jsonl", LINES)).fingerprint
    (tmp_path / "b").mkdir()
    assert JsonlPool(write(tmp_path / "b" / "t.jsonl", LINES)).fingerprint == one
    assert JsonlPool(write(tmp_path / "b" / "t.jsonl", LINES[::-1])).fingerprint != one
    assert JsonlPool(str(tmp_path / "t.jsonl"), id_field="id").fingerprint != one
