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
            merged = deep(merged, recipe(parent))
    return deep(merged, values)


def deep(base, over):
    """``over`` merged into ``base`` as Hydra does: groups of settings key by key."""
    both = {name for name in base.keys() & over.keys() if isinstance(base[name], dict) and isinstance(over[name], dict)}
    return base | over | {name: deep(base[name], over[name]) for name in both}


@pytest.mark.parametrize("name", sorted({path.stem for path in FOLDER.glob("*.yaml")} - LLAMAS))
def test_recipe_is_valid_and_its_backbone_can_be_made(name):
    config = ImageSSLConfig(**recipe(name))
    with torch.device("meta"):
        create_backbone(config)


def test_paper_recipe_names_every_setting():
    assert set(recipe("dinov2_vitl_paper")) == {field.name for field in dataclasses.fields(ImageSSLConfig)}


# dinov2's vitl14.yaml over ssl_default_config.yaml (as of b8931f7), under our names; epochs are of 1250 steps
PUBLIC = {
    "steps": 500 * 1250, "warmup_steps": 80 * 1250, "teacher_temperature_steps": 30 * 1250, "freeze_last_layer_steps": 1250,
    "batch_size": 96 * 32, "koleo_group": 32, "base_lr": 2e-4, "min_lr": 1e-6, "weight_decay": 0.04, "weight_decay_end": 0.2,
    "betas": (0.9, 0.999), "clip_grad": 3.0, "layer_decay": 1.0, "patch_embed_lr": 0.2, "drop_path": 0.4,
    "drop_path_uniform": True, "global_size": 224, "local_size": 98, "n_local": 8, "global_scale": (0.32, 1.0),
    "local_scale": (0.05, 0.32), "dino_weight": 1.0, "ibot_weight": 1.0, "koleo_weight": 0.1, "mask_probability": 0.5,
    "mask_ratio": (0.1, 0.5), "n_prototypes": 131072, "head_hidden": 2048, "head_bottleneck": 384, "head_layers": 3,
    "ibot_separate_head": True, "ibot_n_prototypes": 131072, "ibot_bottleneck": 256, "centering": "sinkhorn",
    "sinkhorn_iterations": 3, "student_temperature": 0.1, "teacher_temperature_start": 0.04, "teacher_temperature": 0.07,
    "momentum": 0.994, "momentum_end": 1.0, "pos_embed_std": 0.02, "flip": 0.5, "jitter": 0.8, "brightness": 0.4,
    "contrast": 0.4, "saturation": 0.2, "hue": 0.1, "gray": 0.2, "blur": (1.0, 0.1, 0.5), "blur_sigma": (0.1, 2.0),
    "solarize": (0.0, 0.2, 0.0),
}  # fmt: skip


def test_paper_recipe_has_the_public_numbers():
    config = ImageSSLConfig(**recipe("dinov2_vitl_paper"))
    assert {name: getattr(config, name) for name in PUBLIC} == PUBLIC
    assert config.lr == pytest.approx(2e-4 * 3**0.5)


@pytest.mark.parametrize(
    ("name", "width", "depth", "heads", "hidden"), [("vitl", 1024, 24, 16, 2736), ("vitg", 1536, 40, 24, 4096)]
)
def test_paper_backbones(name, width, depth, heads, hidden):
    """dinov2's ViT-L and ViT-g: SwiGLU of width 2/3 x 4 x dim rounded up to 8, LayerScale 1e-5, 4 registers, patch 14."""
    config = ImageSSLConfig(**recipe(f"dinov2_{name}_paper"))
    with torch.device("meta"):
        vit = create_backbone(config)
    mlp = vit.blocks[-1].mlp
    assert (vit.embed_dim, len(vit.blocks), vit.blocks[0].attn.num_heads) == (width, depth, heads)
    assert hidden == (int(4 * width * 2 / 3) + 7) // 8 * 8
    assert (mlp.fc1.out_features, mlp.fc2.in_features, type(mlp.act)) == (2 * hidden, hidden, torch.nn.SiLU)
    assert vit.blocks[0].ls1.init_values == 1e-5 and vit.reg_token.shape == (1, 4, width)
    assert vit.patch_embed.patch_size == (14, 14) and vit.num_prefix_tokens == 5


def test_the_curation_papers_own_numbers():
    config = ImageSSLConfig(**recipe("dinov2_vitg_paper"))
    assert (config.steps, config.base_lr) == (625_000, 5e-5)
