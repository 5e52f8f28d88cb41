"""Schedules, masks, parameter groups, heads, augmentation, sampling and health: each against a hand-made expectation."""

import math

import numpy as np
import pytest
import torch

from strata.curation.errors import ConfigError
from strata.ssl.image.augment import color_jitter, multi_crop, random_blur, random_resized_crop
from strata.ssl.image.backbone import MaskedViT, create_backbone
from strata.ssl.image.config import ImageSSLConfig
from strata.ssl.image.data import EpochSampler, step_generator
from strata.ssl.image.heads import PrototypeHead
from strata.ssl.image.health import CollapseAlarm, CollapsedRun, effective_rank, health, mean_cosine
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


# ---- augmentation


def pictures(n=6, side=32):
    return torch.randint(0, 256, (n, 3, side, side), dtype=torch.uint8, generator=torch.Generator().manual_seed(0))


PLAIN = {"flip": 0.0, "jitter": 0.0, "gray": 0.0, "blur": (0, 0, 0), "solarize": (0, 0, 0)}


def test_multi_crop_shapes_and_repeatability():
    config = tiny()
    crops = [multi_crop(pictures(), config, step_generator(3, step)) for step in (5, 5, 6)]
    assert crops[0][0].shape == (12, 3, 32, 32) and crops[0][1].shape == (12, 3, 16, 16)
    assert torch.equal(crops[0][0], crops[1][0]) and torch.equal(crops[0][1], crops[1][1])
    assert not torch.equal(crops[0][0], crops[2][0])
    assert multi_crop(pictures(), tiny(n_local=0), step_generator(0, 0))[1].shape == (0, 3, 16, 16)


def test_full_crop_without_augmentation_is_the_normalized_image():
    config = tiny(global_scale=(1.0, 1.0), mean=(0.1, 0.2, 0.3), std=(0.5, 0.6, 0.7), **PLAIN)
    crops, _ = multi_crop(pictures(), config, step_generator(0, 0))
    mean, std = torch.tensor(config.mean).view(3, 1, 1), torch.tensor(config.std).view(3, 1, 1)
    torch.testing.assert_close(crops[:6], (pictures() / 255 - mean) / std, rtol=1e-4, atol=1e-4)


def test_flip_mirrors():
    x = pictures() / 255
    torch.testing.assert_close(
        random_resized_crop(x, 32, (1.0, 1.0), 1.0, step_generator(0, 0)), x.flip(-1), rtol=1e-4, atol=1e-5
    )


def test_downscaling_is_the_antialiased_bilinear_filter_of_torch():
    x = pictures() / 255
    expected = torch.nn.functional.interpolate(x, (16, 16), mode="bilinear", antialias=True)
    torch.testing.assert_close(
        random_resized_crop(x, 16, (1.0, 1.0), 0.0, step_generator(0, 0)), expected, rtol=1e-3, atol=1e-4
    )


def test_crop_area_is_within_scale():
    """A ramp from left to right shows the width of the crop, one from top to bottom its height."""
    ramp = ((torch.arange(64) + 0.5) / 64).expand(64, 64)
    x = torch.stack([ramp, ramp.T, ramp]).expand(400, 3, 64, 64).contiguous()
    y = random_resized_crop(x, 64, (0.2, 0.5), 0.0, step_generator(0, 0))
    width = (y[:, 0, 32, 52] - y[:, 0, 32, 12]) * 64 / 40
    height = (y[:, 1, 52, 32] - y[:, 1, 12, 32]) * 64 / 40
    area, aspect = width * height, width / height
    assert 0.19 < area.min() < 0.22 and 0.48 < area.max() < 0.51 and area.mean() == pytest.approx(0.35, abs=0.02)
    assert aspect.min() > 0.74 and aspect.max() < 1.35


def test_gray_and_hue():
    x = pictures() / 255
    gray = color_jitter(x, tiny(jitter=0.0, gray=1.0), step_generator(0, 0))
    luma = (x * torch.tensor([0.299, 0.587, 0.114]).view(3, 1, 1)).sum(1, keepdim=True)
    torch.testing.assert_close(gray, luma.expand_as(x), rtol=1e-4, atol=1e-4)
    same = color_jitter(x, tiny(jitter=0.0, gray=0.0), step_generator(0, 0))
    torch.testing.assert_close(same, x, rtol=1e-3, atol=1e-4)
    turned = color_jitter(gray, tiny(jitter=1.0, gray=0.0, hue=0.5, brightness=0, contrast=0), step_generator(0, 0))
    torch.testing.assert_close(turned, gray, rtol=1e-3, atol=2e-3)  # gray has no hue
    assert not torch.allclose(color_jitter(x, tiny(jitter=1.0), step_generator(0, 0)), x, atol=0.05)


def test_contrast_keeps_the_mean_gray():
    x = pictures() / 255 * 0.2 + 0.4  # far from the clamp
    config = tiny(jitter=1.0, gray=0.0, brightness=0.0, saturation=0.0, hue=0.0, contrast=0.5)
    y = color_jitter(x, config, step_generator(0, 0))
    luma = torch.tensor([0.299, 0.587, 0.114]).view(3, 1, 1)
    torch.testing.assert_close((y * luma).sum(1).mean((1, 2)), (x * luma).sum(1).mean((1, 2)), rtol=1e-4, atol=1e-4)
    assert not torch.allclose(x.std((1, 2, 3)), y.std((1, 2, 3)), rtol=1e-2)


def test_blur_keeps_flat_images_and_smooths_others():
    flat = torch.full((4, 3, 16, 16), 0.3)
    torch.testing.assert_close(random_blur(flat, 1.0, (0.5, 2.0), step_generator(0, 0)), flat)
    x = pictures() / 255
    blurred = random_blur(x, 1.0, (1.0, 2.0), step_generator(0, 0))
    assert (blurred.std((2, 3)) < 0.6 * x.std((2, 3))).all()
    assert torch.equal(random_blur(x, 0.0, (1.0, 2.0), step_generator(0, 0)), x)


def test_solarize_is_on_the_second_global_view_only():
    base = dict(global_scale=(1.0, 1.0), mean=(0, 0, 0), std=(1, 1, 1))
    config = tiny(**{**base, **PLAIN, "solarize": (0.0, 1.0, 0.0)})
    crops, _ = multi_crop(pictures(), config, step_generator(0, 0))
    assert crops[:6].max() > 0.9 and crops[6:].max() < 0.5001


# ---- the order of the data


def test_sampler_sees_everything_once_an_epoch():
    sampler = EpochSampler(10, seed=1)
    stream = np.concatenate([sampler.batch(step, 4) for step in range(10)])
    epochs = stream.reshape(4, 10)
    assert all(sorted(epoch) == list(range(10)) for epoch in epochs)
    assert not (epochs[0] == epochs[1]).all()


def test_sampler_starts_anywhere():
    ahead = [EpochSampler(10, seed=1).batch(step, 4).tolist() for step in (7, 2)]
    running = EpochSampler(10, seed=1)
    assert ahead == [running.batch(step, 4).tolist() for step in (7, 2)]
    assert running.batch(2, 4).tolist() != EpochSampler(10, seed=2).batch(2, 4).tolist()


# ---- health


def test_effective_rank_and_cosine_of_known_features():
    assert effective_rank(torch.eye(5)) == pytest.approx(5.0, rel=1e-5)
    assert effective_rank(torch.ones(6, 4)) == pytest.approx(1.0, abs=1e-3)
    assert mean_cosine(torch.eye(5)) == pytest.approx(0.0, abs=1e-6)
    assert mean_cosine(torch.ones(6, 4)) == pytest.approx(1.0, rel=1e-5)
    assert mean_cosine(torch.tensor([[1.0, 0], [2.0, 0], [-1.0, 0]])) == pytest.approx(-1 / 3, rel=1e-5)
    assert mean_cosine(torch.ones(1, 4)) == 0.0


def test_health_of_prototypes():
    logits = torch.eye(4)[[0, 0, 1, 1]]  # two of four used, equally
    values = health(torch.eye(4), logits, torch.full((4, 4), 0.25))
    assert values["prototype_share"] == 0.5 and values["prototype_perplexity"] == pytest.approx(0.5)
    assert values["teacher_entropy"] == pytest.approx(1.0)


def test_alarm_wants_three_bad_checks_in_a_row():
    good, bad = ({"effective_rank": r, "mean_cosine": 0.1} for r in (9.0, 1.1))
    alarm = CollapseAlarm()
    for values in (bad, bad, good, bad, bad):
        alarm.check(1, values)
    with pytest.raises(CollapsedRun, match="effective rank 1.10"):
        alarm.check(7, bad)
    with pytest.raises(CollapsedRun, match="mean cosine 0.999"):
        alarm = CollapseAlarm()
        for _ in range(3):
            alarm.check(7, {"effective_rank": 9.0, "mean_cosine": 0.999})


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
