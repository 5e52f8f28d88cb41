"""Folders of image files."""

import json
import pickle
import shutil

import pytest
from PIL import Image

from strata.curation.errors import ConfigError
from strata.curation.pools.base import Pool, UnreadableItem
from strata.curation.pools.folder import ImageFolderPool

FILES = ["dog/b.JPG", "cat/z.png", "cat/deep/er/a.jpg", "dog/a.webp", "top.png"]


def write(root, files=FILES):
    for i, name in enumerate(files):
        file = root / name
        file.parent.mkdir(parents=True, exist_ok=True)
        Image.new("RGB", (3 + i, 3), (40 * i, 0, 0)).save(file)
    return root


def test_classes_are_first_level_folders(tmp_path):
    root = write(tmp_path / "pets")
    (root / "eel").mkdir()
    (root / "cat/notes.txt").write_text("no image")
    (root / "dog/.hidden.jpg").write_bytes(b"")
    write(root, [".cache/x.png"])
    pool = ImageFolderPool(str(root))
    assert isinstance(pool, Pool) and pool.name == "pets"
    assert list(pool.ids) == ["cat/deep/er/a.jpg", "cat/z.png", "dog/a.webp", "dog/b.JPG", "top.png"]
    assert pool.label_names == ["cat", "dog", "eel"] and pool.labels.tolist() == [0, 0, 1, 1, -1]
    assert [pool[i].size[0] for i in range(5)] == [5, 4, 6, 3, 7] and pool[4].mode == "RGB"
    json.dumps(pool.describe())


def test_without_folders_there_are_no_labels(tmp_path):
    pool = ImageFolderPool(str(write(tmp_path, ["b.png", "a.png"])))
    assert pool.labels is None and pool.label_names is None and list(pool.ids) == ["a.png", "b.png"]
    assert ImageFolderPool(str(write(tmp_path / "x")), labels_from_folders=False).labels is None


def test_extensions(tmp_path):
    assert list(ImageFolderPool(str(write(tmp_path)), extensions=[".WEBP"]).ids) == ["dog/a.webp"]
    with pytest.raises(ConfigError, match=r"pool\.extensions"):
        ImageFolderPool(str(tmp_path), extensions=["png"])
    with pytest.raises(ConfigError, match=r"pool\.path.*\.bmp"):
        ImageFolderPool(str(tmp_path), extensions=[".bmp"])


def test_bad_folder(tmp_path):
    with pytest.raises(ConfigError, match=r"pool\.path"):
        ImageFolderPool(str(tmp_path / "none"))
    (tmp_path / "file.png").touch()
    with pytest.raises(ConfigError, match="is a file"):
        ImageFolderPool(str(tmp_path / "file.png"))


def test_corrupt_and_vanished_files_are_named(tmp_path):
    root = write(tmp_path)
    (root / "cat/z.png").write_bytes((root / "cat/z.png").read_bytes()[:40])
    pool = ImageFolderPool(str(root))
    with pytest.raises(UnreadableItem, match=r"'cat/z\.png' \(row 1\)"):
        pool[1]
    (root / "dog/b.JPG").unlink()
    with pytest.raises(UnreadableItem, match=r"'dog/b\.JPG' \(row 3\).*No such file"):
        pool[3]


def test_fingerprint(tmp_path):
    first = ImageFolderPool(str(write(tmp_path / "a"))).fingerprint
    shutil.copytree(tmp_path / "a", tmp_path / "moved")
    assert ImageFolderPool(str(tmp_path / "moved")).fingerprint == first
    Image.new("RGB", (3, 3), (200, 0, 0)).save(tmp_path / "moved/dog/b.JPG")
    assert ImageFolderPool(str(tmp_path / "moved")).fingerprint != first
    shutil.copytree(tmp_path / "a", tmp_path / "renamed")
    (tmp_path / "renamed/dog/b.JPG").rename(tmp_path / "renamed/dog/c.JPG")
    assert ImageFolderPool(str(tmp_path / "renamed")).fingerprint != first


def test_pickle(tmp_path):
    pool = ImageFolderPool(str(write(tmp_path)))
    copy = pickle.loads(pickle.dumps(pool))
    assert copy.ids == pool.ids and copy[0].tobytes() == pool[0].tobytes()
