"""Schedules, masks, parameter groups, heads, augmentation and sampling: each against a hand-made expectation."""

import math

import pytest
import torch

from strata.curation.errors import ConfigError
from strata.ssl.image.backbone import MaskedViT, create_backbone
from strata.ssl.image.config import ImageSSLConfig
from strata.ssl.image.heads import PrototypeHead
from strata.ssl.image.health import mean_cosine
from strata.ssl.image.parameters import apply_step, is_decayed, lr_factor, parameter_groups
from strata.ssl.image.schedules import cosine_schedule, linear_schedule, step_values
from strata.ssl.losses.koleo import koleo_loss


def tiny(**changes):
    """A network that trains in milliseconds."""
    values = {
        "backbone": "vit_tiny_patch16_224",
        "model_kwargs": {"patch_size": 8, "embed_dim": 24, "depth": 2, "num_heads": 2, "reg_tokens": 1},
        "steps": 12, "batch_size": 8, "cache_size": 32, "global_size": 32, "local_size": 16, "n_local": 2,
        "n_prototypes": 16, "ibot_n_prototypes": 12, "head_hidden": 16, "head_bottleneck": 8, "ibot_bottleneck": 8,
        "warmup_steps": 4, "teacher_temperature_steps": 4, "freeze_last_layer_steps": 2, "base_lr": 1e-2,
    }  # fmt: skip
    return ImageSSLConfig(**{**values, **changes})


# ---- schedules


def test_cosine_corners():
    assert cosine_schedule(0, 100, 2.0, 0.5) == 2.0
    assert cosine_schedule(99, 100, 2.0, 0.5) == pytest.approx(0.5)
    assert cosine_schedule(500, 100, 2.0, 0.5) == pytest.approx(0.5)
    assert cosine_schedule(50, 101, 2.0, 0.0) == pytest.approx(1.0)
    assert cosine_schedule(10, 100, 2.0, 0.5, warmup=10) == 2.0
    assert cosine_schedule(4, 100, 2.0, 0.5, warmup=9) == pytest.approx(1.0)
    assert cosine_schedule(0, 1, 2.0, 0.5) == 0.5  # one step: both ends at once, the end wins


def test_linear_corners():
    assert [linear_schedule(s, 4, 0.0, 2.0) for s in (0, 2, 4, 9)] == [0.0, 1.0, 2.0, 2.0]
    assert linear_schedule(0, 0, 0.04, 0.07) == 0.07


def test_step_values_corners():
    config = tiny(batch_size=256, momentum=0.9, momentum_end=1.0)
    first, warm, last = (step_values(config, s) for s in (0, 4, 11))
    assert config.lr == pytest.approx(1e-2 / 2)  # square-root scaling
    assert 0 < first.lr < warm.lr == config.lr and last.lr == pytest.approx(config.min_lr)
    assert (first.last_layer_lr, step_values(config, 1).last_layer_lr) == (0.0, 0.0)
    assert step_values(config, 2).last_layer_lr == step_values(config, 2).lr > 0
    assert (first.momentum, last.momentum) == (0.9, pytest.approx(1.0))
    assert (first.weight_decay, last.weight_decay) == (pytest.approx(0.04), pytest.approx(0.2))
    assert (first.teacher_temperature, warm.teacher_temperature) == (0.04, 0.07)


# ---- parameters


def test_lr_factors_and_decay():
    config = tiny(layer_decay=0.5, patch_embed_lr=0.2)
    assert lr_factor("vit.blocks.1.attn.qkv.weight", 2, config) == 0.5
    assert lr_factor("vit.blocks.0.attn.qkv.weight", 2, config) == 0.25
    assert lr_factor("vit.pos_embed", 2, config) == 0.125
    assert lr_factor("vit.patch_embed.proj.weight", 2, config) == pytest.approx(0.025)
    assert lr_factor("vit.norm.weight", 2, config) == 1.0
    backbone = MaskedViT(create_backbone(config))
    decayed = {name for name, p in backbone.named_parameters() if is_decayed(name, p)}
    assert {"vit.blocks.0.mlp.fc1.weight", "vit.patch_embed.proj.weight"} <= decayed
    assert not [n for n in decayed if n.endswith("bias") or "norm" in n or "token" in n or "pos_embed" in n]


def test_groups_hold_every_parameter_once_and_follow_the_step():
    config = tiny()
    backbone = MaskedViT(create_backbone(config))
    heads = torch.nn.ModuleDict({"dino": PrototypeHead(24, 16, 8, 16)})
    groups = parameter_groups(backbone, heads, config)
    members = [p for group in groups for p in group["params"]]
    everything = [*backbone.parameters(), *heads.parameters()]
    assert {id(p) for p in members} == {id(p) for p in everything} and len(members) == len(everything)
    optimizer = torch.optim.AdamW(groups, lr=0.0)
    apply_step(optimizer, step_values(config, 1))
    frozen = [g for g in optimizer.param_groups if g["lr"] == 0.0]
    assert len(frozen) == 1 and frozen[0]["params"][0] is heads["dino"].last_layer.weight
    assert {g["weight_decay"] for g in optimizer.param_groups} == {0.0, step_values(config, 1).weight_decay}


def test_head_scores_are_cosines():
    head = PrototypeHead(24, 16, 8, 5)
    scores = head(torch.randn(7, 24) * 100)
    assert scores.shape == (7, 5) and scores.abs().max() <= 1 + 1e-5
    with torch.no_grad():
        head.last_layer.weight.mul_(10)
    x = torch.randn(3, 24)
    before = head(x)
    with torch.no_grad():
        head.last_layer.weight.mul_(0.1)
    torch.testing.assert_close(head(x), before)  # the gain is fixed at 1


# ---- KoLeo's sign


def test_koleo_lowers_the_mean_cosine():
    """The sign is right: descent on KoLeo spreads the features."""
    x = (torch.ones(16, 8) + 0.1 * torch.randn(16, 8, generator=torch.Generator().manual_seed(0))).requires_grad_()
    before = mean_cosine(x.detach())
    optimizer = torch.optim.SGD([x], lr=1.0)
    for _ in range(50):
        optimizer.zero_grad()
        koleo_loss(x).backward()
        optimizer.step()
    assert mean_cosine(x.detach()) < before - 0.1


# ---- settings


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("global_size", 64), ("local_size", 40), ("steps", 0), ("batch_size", 2.5), ("global_scale", (0.5, 0.2)),
        ("mask_ratio", (0.0, 0.5)), ("momentum", 1.5), ("teacher_temperature", 0.0), ("base_lr", math.nan),
        ("centering", "mean"), ("precision", "16-true"), ("std", (1.0, 1.0, 0.0)), ("blur", (0.1, 0.2)), ("n_local", -1),
        ("warmup_steps", 99), ("flip", -0.1), ("mean", (0.5,)),
    ],
)  # fmt: skip
def test_bad_setting_names_its_field(field, value):
    with pytest.raises(ConfigError) as caught:
        tiny(**{field: value})
    assert caught.value.field == f"ssl.{field}"


def test_no_loss_is_refused():
    with pytest.raises(ConfigError, match="no loss"):
        tiny(dino_weight=0, ibot_weight=0)
