"""One training step: which losses, what learns, the teacher's average, clipping, and what each setting changes."""

import pytest
import torch

from strata.curation.errors import ConfigError
from strata.ssl.image.augment import multi_crop
from strata.ssl.image.config import ImageSSLConfig
from strata.ssl.image.data import step_generator
from strata.ssl.image.heads import PrototypeHead
from strata.ssl.image.masking import Masks
from strata.ssl.image.module import DINOv2
from strata.ssl.image.schedules import step_values
from strata.ssl.image.share import Share

SETTINGS = {
    "backbone": "vit_tiny_patch16_224",
    "model_kwargs": {"patch_size": 8, "embed_dim": 24, "depth": 2, "num_heads": 2, "reg_tokens": 1},
    "steps": 12, "batch_size": 8, "cache_size": 32, "global_size": 32, "local_size": 16, "n_local": 2,
    "n_prototypes": 16, "ibot_n_prototypes": 12, "head_hidden": 16, "head_bottleneck": 8, "ibot_bottleneck": 8,
    "warmup_steps": 4, "teacher_temperature_steps": 4, "freeze_last_layer_steps": 2, "base_lr": 1e-2,
}  # fmt: skip


def make(**changes):
    return DINOv2(ImageSSLConfig(**{**SETTINGS, **changes}), seed=0)


def crops(module, step=0):
    bands = module.config.in_chans
    images = torch.randint(0, 256, (8, bands, 32, 32), dtype=torch.uint8, generator=torch.Generator().manual_seed(0))
    return multi_crop(images, module.config, step_generator(0, step))


def losses_of(module, **changes):
    arguments = {"masks": module._masks(Share(8), 0), "values": step_values(module.config, 0), **changes}
    return module.losses(*crops(module), **arguments)


def test_student_and_teacher_start_equal_and_only_the_student_learns():
    module = make(drop_path=0.3)
    for a, b in zip(module.student.parameters(), module.teacher.parameters(), strict=True):
        assert torch.equal(a, b) and a.requires_grad and not b.requires_grad
    module.train()
    assert module.student.training and not module.teacher.training
    kept = {"global_kept": module._kept(2, Share(8), 0), "local_kept": module._kept(2, Share(8), 1)}
    losses = losses_of(module, **kept)
    assert set(losses) == {"dino", "ibot", "koleo"}
    sum(losses.values()).backward()
    assert all(p.grad is None for p in module.teacher.parameters())
    without = [name for name, p in module.student.named_parameters() if p.grad is None]
    assert without == []


def test_only_the_wanted_losses_are_computed():
    module = make(ibot_weight=0.0, koleo_weight=0.0, n_local=0)
    assert module._masks(Share(8), 0) is None and "ibot" not in module.student.heads
    losses = losses_of(module)
    assert set(losses) == {"dino"}
    losses["dino"].backward()
    wants = {name for name, p in module.student.named_parameters() if p.requires_grad}
    assert wants == {name for name, p in module.student.named_parameters() if p.grad is not None}


@pytest.mark.parametrize("separate", [True, False])
def test_tied_and_separate_heads(separate):
    module = make(ibot_separate_head=separate)
    shown = {"dino", "ibot"} if separate else {"dino"}
    assert set(module.student.heads) == set(module.teacher.heads) == shown
    assert module.student.ibot_head is module.student.heads["ibot" if separate else "dino"]
    losses_of(module)["ibot"].backward()
    assert (module.student.heads["dino"].last_layer.weight.grad is None) == separate


def test_a_pass_without_any_masked_crop_has_no_ibot_loss_but_gradients_for_ddp():
    module = make()
    nothing = Masks.of(torch.zeros(16, 16, dtype=torch.bool).numpy())
    losses = losses_of(module, masks=nothing)
    assert losses["ibot"].item() == 0.0
    sum(losses.values()).backward()
    assert all(p.grad is not None for p in module.student.parameters())


def test_every_crop_masked_is_fine():
    losses = losses_of(make(mask_probability=1.0, mask_ratio=(0.5, 0.9)))
    assert all(torch.isfinite(loss) for loss in losses.values()) and losses["ibot"] > 0


def test_teacher_update_is_the_exact_average():
    module = make()
    with torch.no_grad():
        for p in module.student.parameters():
            p.add_(torch.randn_like(p))
    before = [p.clone().double() for p in module.teacher.parameters()]
    module.update_teacher(0.9)
    for t, old, s in zip(module.teacher.parameters(), before, module.student.parameters(), strict=True):
        torch.testing.assert_close(t.double(), 0.9 * old + 0.1 * s.double(), rtol=1e-6, atol=1e-7)
    module.update_teacher(1.0)
    module.update_teacher(0.0)
    assert all(torch.equal(t, s) for t, s in zip(module.teacher.parameters(), module.student.parameters(), strict=True))


def test_gradients_are_clipped_part_by_part():
    module = make(clip_grad=0.5)
    for p in module.student.parameters():
        p.grad = torch.ones_like(p)
    module.configure_gradient_clipping(None)
    for part in (module.student.backbone, *module.student.heads.values()):
        norm = torch.stack([p.grad.norm() for p in part.parameters()]).norm()
        assert norm.item() == pytest.approx(0.5, rel=1e-3)


def test_bands_other_than_three_need_the_colors_off_and_train():
    plain = {"saturation": 0.0, "hue": 0.0, "gray": 0.0, "solarize": (0, 0, 0)}
    module = make(in_chans=4, mean=(0.1, 0.2, 0.3, 0.4), std=(1, 1, 1, 2), jitter=0.0, **plain)
    assert module.student.backbone.vit.patch_embed.proj.weight.shape[1] == 4
    sum(losses_of(module).values()).backward()
    assert module.student.backbone.vit.patch_embed.proj.weight.grad.abs().amax((0, 2, 3)).min() > 0  # each band counts


def test_learned_gain_starts_as_the_fixed_one_and_learns():
    torch.manual_seed(0)
    fixed = PrototypeHead(24, 16, 8, 5)
    torch.manual_seed(0)
    learned = PrototypeHead(24, 16, 8, 5, learned_gain=True)
    x = torch.randn(3, 24)
    torch.testing.assert_close(fixed(x), learned(x), rtol=0, atol=0)
    learned(x).sum().backward()
    assert learned.last_layer.gain.grad.abs().min() > 0
    assert "gain" not in dict(fixed.last_layer.named_parameters())


def test_heads_normalize_in_float32_under_autocast():
    head = PrototypeHead(24, 16, 8, 5)
    seen = []
    head.last_layer.register_forward_pre_hook(lambda _, x: seen.append(x[0]))
    with torch.autocast("cpu", torch.bfloat16):
        head(torch.randn(50, 24))
    torch.testing.assert_close(seen[0].norm(dim=-1), torch.ones(50))


def test_compiled_parts_keep_their_names():
    assert set(make(compile=True).state_dict()) == set(make().state_dict())


@pytest.mark.parametrize(
    ("field", "changes"),
    [
        ("ssl.batch_size", {"batch_size": 2, "devices": 4}),
        ("ssl.batch_size", {"batch_size": 10, "devices": 2, "num_nodes": 2}),
        ("ssl.batch_size", {"batch_size": 8, "accumulate": 3}),
        ("ssl.koleo_group", {"koleo_group": 3}),
        ("ssl.koleo_group", {"koleo_group": 8, "accumulate": 2}),
        ("ssl.mask_probability", {"mask_probability": 0.0}),
        ("ssl.mean", {"mean": (0.5,)}),
        ("ssl.std", {"std": (0.5, 0.5, 0.5, 0.5)}),
        ("ssl.mean", {"in_chans": 4}),
        ("ssl.saturation", {"in_chans": 1, "mean": [0.5], "std": [0.5]}),
        ("ssl.hue", {"in_chans": 1, "mean": [0.5], "std": [0.5], "saturation": 0.0}),
        ("ssl.solarize", {"in_chans": 1, "mean": [0.5], "std": [0.5], "saturation": 0.0, "hue": 0.0, "gray": 0.0}),
        ("ssl.drop_path", {"drop_path": 1.0}),
        ("ssl.strategy", {"strategy": "deepspeed"}),
        ("ssl.devices", {"devices": 0}),
        ("ssl.global_size", {"global_size": 40}),
        ("ssl.local_size", {"local_size": 40}),
    ],
)
def test_what_cannot_be_is_refused_in_one_line(field, changes):
    with pytest.raises(ConfigError) as caught:
        make(**changes)
    assert caught.value.field == field and "\n" not in str(caught.value)
