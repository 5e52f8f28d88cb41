"""SimCLR and MAE on the same harness: they learn their task, resume to the byte after a kill, and export for timm."""

import json
import signal
import subprocess
import sys
import textwrap

import numpy as np
import pytest
import safetensors.torch
import timm
import torch

from strata.curation.errors import ConfigError
from strata.curation.pools.rendered import RenderedPool
from strata.ssl.image.config import ImageSSLConfig
from strata.ssl.image.mae import MAE, patches_of
from strata.ssl.image.pretrain import pretrain
from strata.ssl.image.share import Batch
from strata.ssl.image.simclr import SimCLR

COMMON = {
    "backbone": "vit_tiny_patch16_224",
    "model_kwargs": {"patch_size": 8, "embed_dim": 24, "depth": 2, "num_heads": 2, "reg_tokens": 1},
    "steps": 12, "batch_size": 8, "cache_size": 32, "global_size": 32, "n_local": 0,
    "head_hidden": 16, "head_bottleneck": 8, "head_layers": 2, "warmup_steps": 4, "teacher_temperature_steps": 4,
    "freeze_last_layer_steps": 2, "base_lr": 1e-2, "checkpoint_every": 3,
    "mae": {"decoder_dim": 16, "decoder_depth": 1, "decoder_heads": 2},
}  # fmt: skip


EASY = {"global_scale": (1.0, 1.0), "flip": 0.0, "jitter": 0.0, "gray": 0.0, "blur": (0, 0, 0), "solarize": (0, 0, 0)}


def config(method, **changes):
    return ImageSSLConfig(**{**COMMON, "method": method, **changes})


def run(out, method, **settings):
    return pretrain(
        config(method, **settings), RenderedPool(40), np.arange(30), out,
        seed=0, num_threads=1, log_every=1, progress=False, device="cpu",
    )  # fmt: skip


def batch(step=0, b=8):
    images = torch.randint(0, 256, (b, 3, 32, 32), dtype=torch.uint8, generator=torch.Generator().manual_seed(0))
    return Batch(step, images)


def lines(folder):
    return [json.loads(line) for line in (folder / "metrics.jsonl").read_text().splitlines()]


KILLED = """
import os, signal, sys
import numpy as np
from strata.curation.pools.rendered import RenderedPool
from strata.ssl.image.config import ImageSSLConfig
from strata.ssl.image.pretrain import pretrain

def at_step(values, step):
    if step == 8:
        os.kill(os.getpid(), signal.SIGKILL)

pretrain(ImageSSLConfig(**{settings}), RenderedPool(40), np.arange(30), sys.argv[1], seed=0, num_threads=1, log_every=1,
         progress=False, device="cpu", on_metrics=at_step)
"""


@pytest.mark.parametrize("method", ["simclr", "mae"])
def test_kill_and_resume_equals_an_uninterrupted_run(method, tmp_path):
    whole = run(tmp_path / "whole", method)
    out = tmp_path / "killed"
    script = textwrap.dedent(KILLED).replace("{settings}", repr({**COMMON, "method": method}))
    done = subprocess.run([sys.executable, "-c", script, str(out)], capture_output=True, text=True, timeout=300)
    assert done.returncode == -signal.SIGKILL, done.stderr
    run(out, method)
    assert [line["step"] for line in lines(out)] == list(range(1, 13))
    assert (out / "model.safetensors").read_bytes() == (whole / "model.safetensors").read_bytes()
    assert not (out / "student.safetensors").exists()  # there is only one network
    exported = timm.create_model(f"local-dir:{out}", pretrained=True).eval()
    state = torch.load(out / "checkpoints" / "last.ckpt", weights_only=True)["state_dict"]
    for name, value in exported.state_dict().items():
        assert torch.equal(value, state[f"student.backbone.vit.{name}"])
    fresh = safetensors.torch.load_file(run(tmp_path / "other", method, steps=4) / "model.safetensors")
    assert not torch.equal(fresh["cls_token"], exported.cls_token) and "blocks.0.attn.qkv.weight" in fresh


@pytest.mark.parametrize(("learner", "method"), [(SimCLR, "simclr"), (MAE, "mae")])
def test_every_weight_that_should_learns_and_the_loss_falls(learner, method):
    module = learner(config(method, **EASY), seed=0)
    optimizer = torch.optim.Adam(module.parameters(), lr=2e-3)
    first = None
    for _ in range(40):
        (loss,) = module.batch_losses(batch()).values()
        first = first or loss.item()
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    assert loss.item() < 0.9 * first
    without = [name for name, p in module.named_parameters() if p.requires_grad and p.grad is None]
    assert without == []


def test_health_of_each_method():
    for learner, method, expected in (
        (SimCLR, "simclr", {"effective_rank", "mean_cosine", "agreement"}),
        (MAE, "mae", {"effective_rank"}),
    ):
        module = learner(config(method), seed=0)
        module.wants_health = True
        module.batch_losses(batch())
        assert set(module.report) == expected
    assert MAE.watched == ()


def test_simclr_agreement_is_the_share_of_views_that_find_each_other():
    module = SimCLR(config("simclr", **EASY), seed=0)
    module.wants_health = True
    module.eval()
    module.batch_losses(batch())
    assert module.report["agreement"] == 1.0  # both views are the same image


# ---- MAE


def test_patches_are_in_timms_order():
    images = torch.arange(2 * 3 * 16 * 16, dtype=torch.float32).view(2, 3, 16, 16)
    patches = patches_of(images, (8, 8))
    assert patches.shape == (2, 4, 192)
    for place, (row, column) in enumerate([(0, 0), (0, 1), (1, 0), (1, 1)]):
        expected = images[1, :, row * 8 : row * 8 + 8, column * 8 : column * 8 + 8].permute(1, 2, 0).reshape(-1)
        assert torch.equal(patches[1, place], expected)


def test_mae_encoder_sees_only_what_it_is_shown():
    module = MAE(config("mae"), seed=0).eval()
    images = torch.randn(2, 3, 32, 32)
    seen = torch.tensor([[0, 5, 9], [3, 2, 15]])
    before = module.backbone.encode_seen(images, seen)
    hidden = images.clone()
    hidden[0, :, 8:16, 16:24] = 7.0  # patch 6 of 4 x 4
    assert torch.equal(before, module.backbone.encode_seen(hidden, seen))
    shown = images.clone()
    shown[0, :, 8:16, 8:16] = 7.0  # patch 5
    assert not torch.equal(before[0], module.backbone.encode_seen(shown, seen)[0])
    everything = torch.arange(16).expand(2, -1)
    cls, patches = module.backbone(images)
    tokens = module.backbone.encode_seen(images, everything)
    torch.testing.assert_close(tokens[:, 0], cls)
    torch.testing.assert_close(tokens[:, 2:], patches)  # behind the register


def test_mae_hides_the_wanted_share_anew_in_each_step():
    module = MAE(config("mae"), seed=0)
    a, b = (module._orders(module.share(batch(step)), step) for step in (0, 1))
    assert a.shape == (16, 16) and torch.equal(a.sort(dim=1).values, torch.arange(16).expand(16, -1))
    assert not torch.equal(a, b) and torch.equal(a, module._orders(module.share(batch(0)), 0))


# ---- bad settings


@pytest.mark.parametrize(
    ("field", "settings"),
    [
        ("ssl.method", {"method": "byol"}),
        ("ssl.n_local", {"n_local": 2}),
        ("ssl.drop_path", {"drop_path": 0.1}),
        ("ssl.method", {"strategy": "fsdp"}),
        ("ssl.log_gradients", {"strategy": "fsdp", "method": "dinov2", "log_gradients": True}),
        ("ssl.mae.mask_ratio", {"mae": {"mask_ratio": 1.0}}),
        ("ssl.mae.decoder_dim", {"mae": {"decoder_dim": 10, "decoder_heads": 4}}),
        ("ssl.mae.decoder_depth", {"mae": {"decoder_depth": 0}}),
    ],
)
def test_bad_setting_names_its_field(field, settings):
    with pytest.raises(ConfigError) as caught:
        config(**{"method": "mae", **settings})
    assert caught.value.field == field


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"mae": {"mask_ratio": 0.99}}, "0.99 hides all of a crop's 16 patches"),
        ({"mae": {"mask_ratio": 0.01}}, "0.01 shows all of a crop's 16 patches"),
    ],
)
def test_a_mask_that_hides_all_or_nothing_is_refused(changes, words):
    """With nothing to read or nothing to predict the loss would be a mean over no patch: not a number."""
    with pytest.raises(ConfigError, match=words) as caught:
        MAE(config(method="mae", **changes), seed=0)
    assert caught.value.field == "ssl.mae.mask_ratio"
