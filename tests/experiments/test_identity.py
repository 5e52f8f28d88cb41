"""A stage's key holds what its result depends on, and nothing else."""

import json
import shutil
from pathlib import Path

import pytest
import torch
from safetensors.torch import save_file

from strata.experiments.identity import clustering_identity, folder_digest, identity, ssl_identity
from strata.ssl.image.config import ImageSSLConfig

KNN = "strata.eval.protocols.knn.KNN"
BACKBONE = "strata.curation.encoders.backbone.BackboneEncoder"


@pytest.fixture
def model(tmp_path: Path) -> Path:
    folder = tmp_path / "here"
    folder.mkdir()
    (folder / "config.json").write_text(json.dumps({"architecture": "vit_tiny"}))
    save_file({"w": torch.zeros(3)}, folder / "model.safetensors")
    return folder


def test_a_default_written_out_is_the_same_setting():
    assert identity({"_target_": KNN}) == identity({"_target_": KNN, "temperature": 0.07, "k": [10, 20, 100, 200]})
    assert identity({"_target_": KNN}) != identity({"_target_": KNN, "temperature": 0.1})
    assert clustering_identity({"n_clusters": [9, 3]}) == clustering_identity({"n_clusters": [9, 3], "tol": 0.0})
    assert clustering_identity({"n_clusters": [9, 3]}) != clustering_identity({"n_clusters": [9, 3], "tol": 0.1})


def test_how_often_a_checkpoint_is_written_is_not_in_the_key():
    assert ssl_identity(ImageSSLConfig(checkpoint_every=7)) == ssl_identity(ImageSSLConfig())
    assert ssl_identity(ImageSSLConfig(steps=9_999)) != ssl_identity(ImageSSLConfig())


def test_a_model_folder_is_its_content(model: Path, tmp_path: Path):
    def found(path: Path) -> dict[str, object]:
        return identity({"_target_": BACKBONE, "path": str(path)})

    moved = Path(shutil.copytree(model, tmp_path / "there"))
    (moved / "run.json").write_text("{}")  # what lies beside it does not matter
    assert found(model) == found(moved)
    (moved / "config.json").write_text(json.dumps({"architecture": "vit_small"}))
    assert found(model) != found(moved), "the config belongs to the model"
    before = found(model)
    save_file({"w": torch.ones(3)}, model / "model.safetensors")
    assert found(model) != before, "other weights in the same place are another encoder"


def test_a_name_that_is_no_folder_stays(tmp_path: Path):
    assert identity({"_target_": BACKBONE, "path": "nowhere"})["path"] == "nowhere"
    assert folder_digest(tmp_path) == ""
