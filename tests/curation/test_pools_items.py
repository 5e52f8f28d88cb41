"""Decoding, unique ids and fingerprints of files."""

import hashlib
import io

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image

from strata.curation.pools import fingerprint
from strata.curation.pools.base import UnreadableItem
from strata.curation.pools.items import check_row, decode_image, unique_ids


def encode(image, kind="PNG", **options):
    stream = io.BytesIO()
    image.save(stream, kind, **options)
    return stream.getvalue()


@pytest.mark.parametrize("mode", ["1", "L", "LA", "P", "RGB", "RGBA", "CMYK", "YCbCr"])
def test_every_mode_becomes_rgb(mode):
    kind = "TIFF" if mode in ("CMYK", "YCbCr") else "PNG"
    image = decode_image(encode(Image.new(mode, (5, 3)), kind), 0, "a")
    assert (image.mode, image.size) == ("RGB", (5, 3))


def test_sixteen_bit_gray_keeps_its_upper_byte():
    values = np.array([[0, 255, 256, 40000, 65535]], dtype=np.uint16)
    image = decode_image(encode(Image.fromarray(values)), 0, "a")
    assert np.asarray(image)[0, :, 0].tolist() == [0, 0, 1, 156, 255]


@pytest.mark.parametrize("kind", ["JPEG", "PNG"])
def test_truncated_image_is_named(kind):
    noise = Image.fromarray(np.random.default_rng(0).integers(0, 255, (64, 64, 3), dtype=np.uint8))
    data = encode(noise, kind)
    with pytest.raises(UnreadableItem, match=r"'cat\.jpg' \(row 7\)") as caught:
        decode_image(data[: len(data) // 2], 7, "cat.jpg")
    assert (caught.value.row, caught.value.item_id) == (7, "cat.jpg")


@given(st.binary(max_size=60))
def test_garbage_raises_only_unreadable(data):
    with pytest.raises(UnreadableItem):
        decode_image(data, 0, "a")


def test_float_image_is_refused():
    with pytest.raises(UnreadableItem, match="no defined range"):
        decode_image(encode(Image.new("F", (2, 2)), "TIFF"), 0, "a")


@given(st.lists(st.sampled_from(["a", "b", "a#2", "a#3", "b#2"])))
def test_unique_ids(ids):
    unique = unique_ids(ids)
    assert len(set(unique)) == len(ids)
    assert all(new.startswith(old) for new, old in zip(unique, ids))
    first = [i for i, name in enumerate(ids) if name not in ids[:i] and "#" not in name]
    assert all(unique[i] == ids[i] for i in first)


def test_unique_ids_example():
    assert unique_ids(["a", "a", "b", "a"]) == ["a", "a#2", "b", "a#3"]


@pytest.mark.parametrize("row", [-1, 3, 10**9])
def test_row_outside(row):
    with pytest.raises(IndexError):
        check_row(row, 3)


def test_row_must_be_whole():
    assert check_row(np.int64(2), 3) == 2
    with pytest.raises(TypeError):
        check_row(1.0, 3)


def test_small_file_is_hashed_whole(tmp_path):
    (tmp_path / "a").write_bytes(b"strata")
    assert fingerprint.digest_file(tmp_path / "a") == hashlib.sha256(b"strata").hexdigest()


def test_large_file_is_hashed_at_its_ends(tmp_path, monkeypatch):
    monkeypatch.setattr(fingerprint, "WHOLE_FILE", 100)
    monkeypatch.setattr(fingerprint, "EDGE", 10)
    content = bytearray(range(200))
    (tmp_path / "a").write_bytes(content)
    digest = fingerprint.digest_file(tmp_path / "a")
    assert digest == hashlib.sha256(b"200" + bytes(range(10)) + bytes(range(190, 200))).hexdigest()


def test_large_tree_is_sampled_but_every_name_and_size_counts(tmp_path, monkeypatch):
    monkeypatch.setattr(fingerprint, "WHOLE_TREE", 10)
    monkeypatch.setattr(fingerprint, "SAMPLED_FILES", 2)
    names = [f"{i}" for i in range(6)]
    for name in names:
        (tmp_path / name).write_bytes(b"xxxx")
    before = fingerprint.digest_tree(tmp_path, names)
    (tmp_path / "1").write_bytes(b"yyyy")  # not one of the sampled 0 and 3
    assert fingerprint.digest_tree(tmp_path, names) == before
    (tmp_path / "1").write_bytes(b"yyyyy")
    assert fingerprint.digest_tree(tmp_path, names) != before
    (tmp_path / "1").write_bytes(b"xxxx")
    (tmp_path / "3").write_bytes(b"yyyy")
    assert fingerprint.digest_tree(tmp_path, names) != before
