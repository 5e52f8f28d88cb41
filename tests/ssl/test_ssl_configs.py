"""Every recipe in configs/ssl is valid, and the paper's one holds the public numbers."""

import dataclasses
from pathlib import Path

import pytest
import torch
import yaml

from strata.ssl.image.backbone import create_backbone
from strata.ssl.image.config import ImageSSLConfig

FOLDER = Path(__file__).parents[2] / "configs" / "ssl"
LLAMAS = {path.stem for path in FOLDER.glob("llama_*.yaml")}  # see test_text_configs.py


def recipe(name):
    """The file with its defaults under it, as Hydra composes them."""
    values = yaml.safe_load((FOLDER / f"{name}.yaml").read_text())
    merged = {}
    for parent in values.pop("defaults", []):
        if parent != "_self_":
            merged |= recipe(parent)
    return merged | values


@pytest.mark.parametrize("name", sorted({path.stem for path in FOLDER.glob("*.yaml")} - LLAMAS))
def test_recipe_is_valid_and_its_backbone_can_be_made(name):
    config = ImageSSLConfig(**recipe(name))
    with torch.device("meta"):
        create_backbone(config)


def test_paper_recipe_names_every_setting():
    assert set(recipe("dinov2_vitl_paper")) == {field.name for field in dataclasses.fields(ImageSSLConfig)}


def test_paper_recipe_has_the_public_numbers():
    config = ImageSSLConfig(**recipe("dinov2_vitl_paper"))
    assert (config.steps, config.warmup_steps, config.teacher_temperature_steps) == (500 * 1250, 80 * 1250, 30 * 1250)
    assert config.lr == pytest.approx(2e-4 * 3**0.5)
    assert (config.n_prototypes, config.head_bottleneck, config.momentum, config.clip_grad) == (131072, 384, 0.994, 3.0)
