"""Small pools, a features folder made of given arrays, and a backbone folder with random weights."""

import hashlib
import json
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import torch
from PIL import Image

from strata.curation.artifact import create_artifact
from strata.curation.shards import write_items

torch.set_num_threads(1)


class ArrayPool:
    """A pool of random images."""

    def __init__(self, labels, label_names, seed=0, name="toy", size=16):
        rng = np.random.default_rng(seed)
        self.name = name
        self.labels = None if labels is None else np.asarray(labels, np.int64)
        self.label_names = label_names
        self.n = 6 if labels is None else len(labels)
        self.pixels = rng.integers(0, 256, (self.n, size, size, 3), dtype=np.uint8)
        self.reads = 0

    @property
    def ids(self):
        return [f"{self.name}-{row}" for row in range(self.n)]

    @property
    def fingerprint(self):
        return hashlib.sha256(self.pixels.tobytes() + repr(self.labels).encode()).hexdigest()

    def __len__(self):
        return self.n

    def __getitem__(self, row):
        self.reads += 1
        return Image.fromarray(self.pixels[row])

    def describe(self):
        return {"reader": "toy"}


@pytest.fixture
def array_pool():
    return ArrayPool


@pytest.fixture
def make_features(tmp_path):
    """Write a features folder: ``make_features(train=(cls, labels), test=(cls, labels))``; avg defaults to -cls.

    ``extra={"test": {"columns": {...}, "candidates": [...], "label_names": [...], "patches": [n, B, p, d]}}``.
    """

    def make(name="features", n_classes=None, extra=None, **splits):
        n_classes = n_classes or 1 + max(int(np.max(split[1])) for split in splits.values())
        described = {}
        with create_artifact(tmp_path / name, "features") as draft:
            for split, (cls, labels, *avg) in splits.items():
                cls = cls[:, None] if cls.ndim == 2 else cls  # one block
                folder = draft.path / split
                folder.mkdir()
                np.save(folder / "cls.npy", cls)
                np.save(folder / "avg.npy", avg[0] if avg else -cls)
                write_items(folder, [f"{split}-{row}" for row in range(len(cls))], np.asarray(labels, np.int64))
                described[split] = {"n": len(cls), "pool": {"name": f"toy-{split}"}, "fingerprint": f"{name}-{split}"}
                more = dict((extra or {}).get(split, {}))
                if more.get("columns"):
                    table = pq.read_table(folder / "items.parquet")
                    for column, values in more.pop("columns").items():
                        table = table.append_column(column, pa.array(values))
                    pq.write_table(table, folder / "items.parquet")
                if "patches" in more:
                    np.save(folder / "patches.npy", more.pop("patches"))
                described[split] |= more
            names = [f"class-{c}" for c in range(n_classes)]
            draft.meta.update(splits=described, label_names=names, backbone={"name": "none"})
        return tmp_path / name

    return make


@pytest.fixture
def dense_features(tmp_path):
    """Write features with maps: ``make(name, train=(patches [n B p d], maps), test=...)``."""

    def make(name="f", label_names=(), task_info=None, grid=(3, 4), **splits):
        described = {}
        with create_artifact(tmp_path / name, "features") as draft:
            for split, (patches, maps) in splits.items():
                folder = draft.path / split
                folder.mkdir()
                n, blocks, _, width = patches.shape
                np.save(folder / "patches.npy", patches)
                for token in ("cls", "avg"):
                    np.save(folder / f"{token}.npy", np.zeros((n, blocks, width), patches.dtype))
                np.save(folder / "targets.npy", np.concatenate([m.ravel() for m in maps]))
                np.save(folder / "target_sizes.npy", np.array([m.shape for m in maps], np.int32))
                write_items(folder, [f"{split}-{row}" for row in range(n)], None)
                described[split] = {"n": n, "pool": {"name": split}, "grid": list(grid), "task_info": task_info}
            draft.meta.update(splits=described, label_names=list(label_names), backbone={"name": "none"})
        return tmp_path / name

    return make


@pytest.fixture(scope="session")
def backbone_folder(tmp_path_factory) -> Path:
    """A tiny ViT (16 px, patch 8, 3 blocks of 12 dims, 2 registers) as the trainer writes it."""
    import timm
    from safetensors.torch import save_file

    arguments = {"img_size": 16, "patch_size": 8, "embed_dim": 12, "depth": 3, "num_heads": 2, "reg_tokens": 2}
    with torch.random.fork_rng():
        torch.manual_seed(3)
        model = timm.create_model("vit_tiny_patch16_224", num_classes=0, **arguments)
        for parameter in model.parameters():  # norms that do something
            parameter.data.add_(torch.randn_like(parameter) * 0.1)
    folder = tmp_path_factory.mktemp("backbone") / "vit"
    with create_artifact(folder, "backbone", key="abc123") as draft:
        save_file(model.state_dict(), draft.path / "model.safetensors")
        config = {
            "architecture": "vit_tiny_patch16_224",
            "model_args": arguments,
            "num_features": 12,
            "pretrained_cfg": {
                "mean": [0.4, 0.5, 0.6],
                "std": [0.2, 0.25, 0.3],
                "input_size": [3, 16, 16],
                "crop_pct": 1.0,
            },
        }
        (draft.path / "config.json").write_text(json.dumps(config))
    return folder
