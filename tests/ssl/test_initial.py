"""init_from: our folders, timm's names, transformers' folders and single files; what does not match is named."""

import json

import numpy as np
import pytest
import timm
import torch
from safetensors.torch import load_file, save_file

from strata.curation.errors import ConfigError
from strata.curation.pools.rendered import RenderedPool
from strata.ssl.image.config import ImageSSLConfig
from strata.ssl.image.huggingface import to_huggingface
from strata.ssl.image.initial import load_initial
from strata.ssl.image.pretrain import pretrain

SMALL = {"patch_size": 8, "embed_dim": 24, "depth": 2, "num_heads": 2}
SETTINGS = {
    "backbone": "vit_tiny_patch16_224", "model_kwargs": SMALL,
    "steps": 2, "batch_size": 8, "cache_size": 32, "global_size": 32, "local_size": 16, "n_local": 1,
    "n_prototypes": 16, "ibot_n_prototypes": 12, "head_hidden": 16, "head_bottleneck": 8, "ibot_bottleneck": 8,
    "warmup_steps": 1, "teacher_temperature_steps": 1, "freeze_last_layer_steps": 1,
}  # fmt: skip


def vit(seed=0, **changes):
    torch.manual_seed(seed)
    model = timm.create_model(
        "vit_tiny_patch16_224", **{**SMALL, "img_size": 32, "num_classes": 0, "dynamic_img_size": True, **changes}
    ).eval()
    with torch.no_grad():
        for p in model.parameters():
            p.add_(0.1 * torch.randn_like(p))  # biases and tokens start at 0: a mistake there would not show
    return model


def file_of(model, path):
    save_file({name: value.contiguous() for name, value in model.state_dict().items()}, path)
    return str(path)


def run(out, **settings):
    return pretrain(
        ImageSSLConfig(**{**SETTINGS, **settings}), RenderedPool(40), np.arange(30), out,
        seed=0, num_threads=1, log_every=1, device="cpu",
    )  # fmt: skip


def test_a_run_starts_from_the_weights_of_another_and_says_so(tmp_path, capsys):
    first = run(tmp_path / "first")
    for method in ("dinov2", "mae"):
        still = {"base_lr": 1e-12, "min_lr": 0.0, "method": method, "n_local": 0, "momentum": 1.0}
        second = run(tmp_path / method, init_from=str(first), **still)
        assert "init_from" in (told := capsys.readouterr().err) and "all 30 tensors of the backbone matched" in told
        start, end = load_file(first / "model.safetensors"), load_file(second / "model.safetensors")
        for name in start:
            torch.testing.assert_close(start[name], end[name], atol=1e-6, rtol=1e-5)
    manifest = json.loads((second / "manifest.json").read_text())
    assert manifest["config"]["init_from"] == str(first)
    assert manifest["init_from"] == {"source": str(first), "matched": 30, "unused": []}


@pytest.mark.parametrize(
    "changes", [{}, {"reg_tokens": 2}, {"no_embed_class": True}, {"reg_tokens": 2, "no_embed_class": True}]
)
@pytest.mark.parametrize("kind", ["file", "transformers"])
def test_every_layout_gives_the_same_function(kind, changes, tmp_path):
    source, images = vit(**changes, init_values=0.5), torch.randn(2, 3, 32, 32)
    given = file_of(source, tmp_path / "w.safetensors")
    if kind == "transformers":
        to_huggingface(source).save_pretrained(given := str(tmp_path / "hf"))
    for target_changes in ({**changes, "no_embed_class": False}, {**changes, "no_embed_class": True}):
        target = vit(seed=1, **target_changes, init_values=0.1)
        state, match = load_initial(given, target)
        target.load_state_dict(state, strict=True)
        assert len(match.matched) == len(state)
        if target_changes.get("no_embed_class") or not changes.get("no_embed_class"):
            torch.testing.assert_close(target(images), source(images), atol=2e-5, rtol=1e-4)


def test_position_embedding_is_resampled_and_a_classifier_is_left_over(tmp_path):
    source = vit(img_size=48, num_classes=5)
    state, match = load_initial(file_of(source, tmp_path / "w.safetensors"), target := vit(seed=1))
    assert state["pos_embed"].shape == target.pos_embed.shape == (1, 17, 24)
    assert torch.equal(state["pos_embed"][:, 0], source.pos_embed[:, 0])
    assert match.unused == ["head.bias", "head.weight"]
    assert "not used, of the source: 2 (head.bias, head.weight)" in match.summary()


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        (
            {"embed_dim": 32},
            r"matches 0 of 30 tensors|of another shape: cls_token \(is \(1, 1, 24\), needed \(1, 1, 32\)\)",
        ),
        ({"depth": 3}, "matches 30 of 42 tensors; 12 missing: blocks.2.norm1.weight"),
        ({"reg_tokens": 2}, "1 missing: reg_token"),
        ({"init_values": 0.1}, "missing: blocks.0.ls1.gamma"),
    ],
)
def test_a_mismatch_names_the_first_keys(changes, words, tmp_path):
    given = file_of(vit(), tmp_path / "w.safetensors")
    with pytest.raises(ConfigError, match=words) as caught:
        load_initial(given, vit(**changes))
    assert caught.value.field == "ssl.init_from" and "\n" not in str(caught.value)


def test_what_is_not_there_or_not_weights_is_refused(tmp_path):
    (tmp_path / "broken.safetensors").write_bytes(b"no")
    (tmp_path / "other").mkdir()
    (tmp_path / "other" / "config.json").write_text('{"model_type": "nothing_known"}')
    for given in (
        str(tmp_path / "nowhere"), str(tmp_path), str(tmp_path / "broken.safetensors"), str(tmp_path / "other"),
        "timm:vit_of_nowhere",
    ):  # fmt: skip
        with pytest.raises(ConfigError) as caught:
            load_initial(given, vit())
        assert caught.value.field == "ssl.init_from" and "\n" not in str(caught.value)


def test_bad_initial_weights_leave_nothing_behind(tmp_path):
    with pytest.raises(ConfigError, match="ssl.init_from"):
        run(tmp_path / "run", init_from=str(tmp_path / "nowhere"))
    assert not list(tmp_path.iterdir())
