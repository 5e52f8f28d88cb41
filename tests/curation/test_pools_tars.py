"""WebDataset shards read through their offsets."""

import io
import json
import os
import pickle
import tarfile
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from strata.curation.errors import ConfigError, DataError
from strata.curation.pools.base import Pool, UnreadableItem
from strata.curation.pools.webdataset_tars import WebDatasetPool

OPEN = Path("/proc/self/fd")


def png(value):
    stream = io.BytesIO()
    Image.new("RGB", (4, 3), (value, 0, 255 - value)).save(stream, "PNG")
    return stream.getvalue()


def write(path, members):
    with tarfile.open(path, "w") as tar:
        for name, data in members:
            info = tarfile.TarInfo(name)
            info.size = len(data)
            tar.addfile(info, io.BytesIO(data))
    return str(path)


def sample(key, value, **more):
    return [(f"{key}.png", png(value)), *((f"{key}.{ending}", data) for ending, data in more.items())]


def test_items_of_several_shards_at_random(tmp_path):
    long = "d/" + "k" * 150  # longer than a tar header holds
    write(tmp_path / "s-0.tar", [*sample("ä/0", 10, cls=b"2"), *sample(long, 20, cls=b"0")])
    write(tmp_path / "s-1.tar", [])
    write(tmp_path / "s-2.tar", [("._x.png", b"mac"), ("README", b"?"), *sample("ä/0", 30), ("z.seg.png", b"?")])
    pool = WebDatasetPool(str(tmp_path / "s-*.tar"))
    assert isinstance(pool, Pool) and pool.kind == "images" and len(pool) == 4
    assert list(pool.ids) == ["ä/0", long, "ä/0#2", "z"]
    pool = pickle.loads(pickle.dumps(pool))
    assert [pool[i].getpixel((0, 0))[0] for i in (2, 0, 1)] == [30, 10, 20] and pool[0].size == (4, 3)
    assert pool.labels.tolist() == [2, 0, -1, -1] and pool.label_names is None
    assert pool.encoded(1) == png(20)
    with pytest.raises(UnreadableItem, match="'z'.*no member ending in jpg"):
        pool[3]


def test_labels_from_json_and_names(tmp_path):
    members = [*sample("a", 1, json=b'{"label": "dog"}'), *sample("b", 2, json=b'{"label": "cat"}')]
    members += [*sample("c", 3, json=b"broken"), *sample("d", 3, cls=b"emu\n"), *sample("e", 3, json=b"[]")]
    pool = WebDatasetPool(write(tmp_path / "s.tar", members))
    assert pool.label_names == ["cat", "dog", "emu"] and pool.labels.tolist() == [1, 0, -1, 2, -1]
    assert WebDatasetPool(str(tmp_path / "s.tar"), label_field=None).labels is None


def test_the_same_member_twice_begins_a_new_sample(tmp_path):
    pool = WebDatasetPool(write(tmp_path / "s.tar", [*sample("a", 1, cls=b"0"), *sample("a", 2, cls=b"1")]))
    assert list(pool.ids) == ["a", "a#2"] and pool.labels.tolist() == [0, 1]


def test_texts(tmp_path):
    members = [("0.txt", "grüße".encode()), ("1.txt", b"\xff"), ("2.txt", b" "), ("3.json", json.dumps({}).encode())]
    pool = WebDatasetPool(write(tmp_path / "s.tar", members))
    assert pool.kind == "text" and pool[0] == "grüße"
    for row, why in ((1, "UTF-8"), (2, "empty"), (3, "no member")):
        with pytest.raises(UnreadableItem, match=why):
            pool[row]


def test_damaged_shards(tmp_path):
    whole = write(tmp_path / "s.tar", [member for i in range(6) for member in sample(str(i), i, bin=bytes(3000))])
    data = (tmp_path / "s.tar").read_bytes()
    assert len(WebDatasetPool(whole)) == 6
    for cut in (100, 512 * 3, len(data) // 2):
        (tmp_path / "cut.tar").write_bytes(data[:cut])
        with pytest.raises(DataError, match="cut.tar"):
            WebDatasetPool(str(tmp_path / "cut.tar"))
    broken = bytearray(data)
    second = 512 + 512 * -(-len(png(0)) // 512)  # the header of the second member
    broken[second : second + 512] = os.urandom(512)
    (tmp_path / "broken.tar").write_bytes(broken)
    with pytest.raises(DataError, match=f"damaged after byte {second}"):
        WebDatasetPool(str(tmp_path / "broken.tar"))
    (tmp_path / "none.tar").write_bytes(b"")
    with pytest.raises(DataError, match="none.tar"):
        WebDatasetPool(str(tmp_path / "none.tar"))
    with tarfile.open(tmp_path / "packed.tar", "w:gz") as tar:
        tar.addfile(tarfile.TarInfo("a.png"))
    with pytest.raises(DataError, match="uncompressed"):
        WebDatasetPool(str(tmp_path / "packed.tar"))


def test_an_image_that_is_corrupt_is_one_item_only(tmp_path):
    pool = WebDatasetPool(write(tmp_path / "s.tar", [("a.jpg", b"no image"), *sample("b", 7)]))
    with pytest.raises(UnreadableItem, match="'a'"):
        pool[0]
    assert pool[1].getpixel((0, 0))[0] == 7


def test_nothing_to_read(tmp_path):
    with pytest.raises(ConfigError, match="no sample"):
        WebDatasetPool(write(tmp_path / "s.tar", []))
    with pytest.raises(ConfigError, match=r"endings are mp4"):
        WebDatasetPool(write(tmp_path / "s.tar", [("a.mp4", b"")]))
    with pytest.raises(ConfigError, match="pool.item"):
        WebDatasetPool(str(tmp_path / "s.tar"), item="video")


@pytest.mark.skipif(not OPEN.is_dir(), reason="open files are counted in /proc")
def test_many_shards_keep_few_files_open(tmp_path):
    for i in range(80):
        write(tmp_path / f"s-{i:03d}.tar", sample("a", i))
    pool = WebDatasetPool(str(tmp_path))
    before = len(list(OPEN.iterdir()))
    assert [pool[i].getpixel((0, 0))[0] for i in range(80)] == list(range(80))
    assert len(list(OPEN.iterdir())) - before <= 64
    del pool
    assert len(list(OPEN.iterdir())) <= before + 1


def test_the_package_webdataset_sees_the_same(tmp_path):
    wds = pytest.importorskip("webdataset")
    members = [member for i in range(5) for member in sample(f"dir/{i}", i, cls=str(i).encode())]
    path = write(tmp_path / "s.tar", members)
    pool = WebDatasetPool(path)
    theirs = list(wds.WebDataset(path, shardshuffle=False).decode("rgb8"))
    assert [item["__key__"] for item in theirs] == list(pool.ids) and [item["cls"] for item in theirs] == [
        0,
        1,
        2,
        3,
        4,
    ]
    for i, item in enumerate(theirs):
        assert np.array_equal(item["png"], np.asarray(pool[i]))
