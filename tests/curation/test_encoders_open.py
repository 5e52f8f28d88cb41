"""Opening encoders: damaged and missing weights, unknown names, and the config files."""

import inspect
import shutil

import pytest
import torch
from hydra import compose, initialize_config_module
from hydra.utils import get_class, instantiate
from safetensors.torch import load_file, save_file

from strata.curation.encoders.backbone import BackboneEncoder
from strata.curation.encoders.base import weights_sha256
from strata.curation.encoders.network import pool_tokens
from strata.curation.encoders.timm_encoder import TimmEncoder
from strata.curation.encoders.transformers_encoder import TransformersEncoder
from strata.curation.errors import ConfigError


def test_weights_that_lack_a_part_are_refused(timm_folder, vit_folder, tmp_path):
    for name, source, make, lost in [
        ("t", timm_folder[0], lambda p: TimmEncoder(str(p)), "blocks.1.mlp.fc1.weight"),
        ("b", timm_folder[0], BackboneEncoder, "blocks.1.mlp.fc1.weight"),
        ("h", vit_folder[0], lambda p: TransformersEncoder(str(p)), "layernorm.weight"),
    ]:
        shutil.copytree(source, tmp_path / name)
        file = tmp_path / name / "model.safetensors"
        tensors = load_file(file)
        del tensors[lost]
        file.unlink()
        save_file(tensors, file, metadata={"format": "pt"})
        with pytest.raises(ConfigError, match=lost):
            make(tmp_path / name)
        file.write_bytes(b"not weights")
        with pytest.raises(ConfigError):
            make(tmp_path / name)
        file.unlink()
        with pytest.raises(ConfigError):
            make(tmp_path / name)


@pytest.fixture
def offline(monkeypatch):
    import huggingface_hub.constants

    monkeypatch.setattr(huggingface_hub.constants, "HF_HUB_OFFLINE", True)
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")


@pytest.mark.parametrize(
    ("make", "field"),
    [
        (lambda: TimmEncoder("vit_small_patch14_dinov2.lvd142m"), "encoder.model"),
        (lambda: TimmEncoder("hf-hub:nobody/nothing"), "encoder.model"),
        (lambda: TimmEncoder("no_such_network"), "encoder.model"),
        (lambda: TimmEncoder("no/such/folder"), "encoder.model"),
        (lambda: TimmEncoder("/no/such/folder"), "encoder.model"),
        (lambda: TimmEncoder("resnet10t", pretrained=False), "encoder.pooling"),
        (lambda: TimmEncoder("resnet10t", pretrained=False, pooling="max"), "encoder.pooling"),
        (lambda: TimmEncoder("resnet10t", pretrained=False, pooling="avg", precision="int8"), "encoder.precision"),
        (lambda: TransformersEncoder("facebook/dinov2-small"), "encoder.model"),
        (lambda: TransformersEncoder("/no/such/folder"), "encoder.model"),
        (lambda: TransformersEncoder("x", pooling="avg"), "encoder.pooling"),
        (lambda: BackboneEncoder("/no/such/folder"), "encoder.path"),
    ],
)
def test_what_cannot_be_opened_is_a_config_error(offline, make, field):
    with pytest.raises(ConfigError) as caught:
        make()
    assert caught.value.field == field and "\n" not in str(caught.value)


def test_config_of_another_library_is_refused(vit_folder):
    with pytest.raises(ConfigError, match="encoder=transformers"):
        TimmEncoder(str(vit_folder[0]))
    with pytest.raises(ConfigError, match="no architecture"):
        BackboneEncoder(vit_folder[0])


def test_pool_tokens():
    tokens = torch.arange(24.0).reshape(1, 4, 6)
    assert torch.equal(pool_tokens(tokens, 1, True, "cls"), tokens[:, 0])
    assert torch.equal(pool_tokens(tokens, 2, True, "avg"), (tokens[:, 2] + tokens[:, 3]) / 2)
    with pytest.raises(ConfigError, match="no class token"):
        pool_tokens(tokens, 2, False, "cls_avg")


def test_weights_sha256_sees_names_and_values():
    first, second = torch.nn.Linear(2, 2), torch.nn.Linear(2, 2)
    assert weights_sha256(first) != weights_sha256(second)
    second.load_state_dict(first.state_dict())
    assert weights_sha256(first) == weights_sha256(second) != weights_sha256(torch.nn.Sequential(first))


@pytest.mark.parametrize(
    "name", ["pixels_pca", "hog_color", "timm", "dinov2_vits14", "dinov2_vitl14", "transformers", "backbone"]
)
def test_configs_match_their_encoders(name):
    with initialize_config_module("strata.configs", version_base=None):
        config = compose(overrides=[f"+encoder={name}"]).encoder
    target = get_class(config._target_)
    accepted = inspect.signature(target.__init__).parameters
    assert set(config) - {"_target_"} == set(accepted) - {"self"}
    if name in ("pixels_pca", "hog_color"):
        assert instantiate(config).describe() == target().describe()  # the file states the defaults
