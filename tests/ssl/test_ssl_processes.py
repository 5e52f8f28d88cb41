"""Two processes with b images each are one process with 2b: losses and weights. So are FSDP, and a run taken up again."""

import json

import numpy as np
import pytest
import safetensors.torch
import torch
from ssl_processes import train, train_in_processes

from strata.curation.errors import ConfigError
from strata.curation.pools.rendered import RenderedPool
from strata.ssl.image.config import ImageSSLConfig
from strata.ssl.image.pretrain import pretrain
from strata.ssl.image.share import Share

SETTINGS = {
    "backbone": "vit_tiny_patch16_224",
    "model_kwargs": {"patch_size": 8, "embed_dim": 24, "depth": 2, "num_heads": 2, "reg_tokens": 1},
    "drop_path": 0.3, "steps": 4, "batch_size": 8, "cache_size": 32, "global_size": 32, "local_size": 16, "n_local": 2,
    "n_prototypes": 16, "ibot_n_prototypes": 12, "head_hidden": 16, "head_bottleneck": 8, "ibot_bottleneck": 8,
    "warmup_steps": 3, "teacher_temperature_steps": 2, "freeze_last_layer_steps": 1, "base_lr": 1e-3, "koleo_weight": 0.5,
    "checkpoint_every": 2,
}  # fmt: skip
NO_CROPS = {"n_local": 0, "drop_path": 0.0}
CASES = {
    "plain": {},
    "other losses": {"centering": "softmax", "ibot_separate_head": False, "koleo_group": 8},
    "parts": {"accumulate": 2, "koleo_group": 2, "learned_gain": True},
    "taken up again": {"stop_at": 3},
    "fsdp, taken up again": {"strategy": "fsdp", "stop_at": 3},
    "simclr": {"method": "simclr", **NO_CROPS, "stop_at": 3},
    "mae": {
        "method": "mae",
        **NO_CROPS,
        "mae": {"decoder_dim": 16, "decoder_depth": 1, "decoder_heads": 2},
        "stop_at": 3,
    },
}
SLOW_CASES = {
    "without iBOT": {"ibot_weight": 0.0},
    "no mask on a process": {"mask_probability": 0.1, "n_local": 0},
    "simclr by fsdp": {"method": "simclr", **NO_CROPS, "strategy": "fsdp"},
    "fsdp in parts": {"strategy": "fsdp", "accumulate": 2, "recompute": True},
}


def in_two(root, cases):
    assert train_in_processes(2, root, {name: SETTINGS | case for name, case in cases.items()}) == [0, 0]
    return root


@pytest.fixture(scope="module")
def two(tmp_path_factory):
    return in_two(tmp_path_factory.mktemp("two"), CASES)


def log(folder):
    return [json.loads(line) for line in (folder / "metrics.jsonl").read_text().splitlines()]


def assert_same_run(actual, expected):
    losses = [
        [[entry[name] for name in entry if name.startswith("loss")] for entry in log(f)] for f in (actual, expected)
    ]
    assert len(losses[0]) == SETTINGS["steps"]
    np.testing.assert_allclose(*losses, rtol=1e-5, atol=1e-5)
    files = sorted(path.name for path in expected.glob("*.safetensors"))
    assert "model.safetensors" in files
    for file in files:
        one, other = (safetensors.torch.load_file(folder / file) for folder in (actual, expected))
        torch.testing.assert_close(one, other, rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("name", CASES)
def test_two_processes_are_one(two, tmp_path, name):
    case = {key: value for key, value in CASES[name].items() if key != "stop_at"}
    train(tmp_path / "one", SETTINGS | case)
    assert_same_run(two / name, tmp_path / "one")


@pytest.mark.slow
def test_two_processes_are_one_in_rarer_cases(tmp_path):
    in_two(tmp_path / "two", SLOW_CASES)
    for name, case in SLOW_CASES.items():
        train(tmp_path / name, SETTINGS | case)
        assert_same_run(tmp_path / "two" / name, tmp_path / name)


def test_the_checkpoint_is_one_file_of_whole_tensors(two):
    files = [two / name / "checkpoints" / "last.ckpt" for name in ("plain", "fsdp, taken up again")]
    states = [torch.load(file, weights_only=True)["state_dict"] for file in files]
    torch.testing.assert_close(*states, rtol=1e-4, atol=1e-5)


def test_a_number_of_processes_that_is_not_there_is_refused(tmp_path):
    with pytest.raises(ConfigError, match=r"start them with `torchrun --nnodes 1 --nproc-per-node 2 \.\.\.`") as caught:
        train(tmp_path / "run", SETTINGS | {"devices": 2})
    assert caught.value.field == "ssl.devices" and not list(tmp_path.iterdir())


# ---- parts of a step, in one process


def test_shares_make_up_the_step():
    shares = [Share(24, index, 6) for index in range(6)]
    assert [i for share in shares for i in range(share.first, share.last)] == list(range(24))
    assert (Share.here(24, part=1, parts=2).first, Share(24).images) == (12, 24)


@pytest.mark.parametrize("parts", [2, 4])
def test_parts_are_the_whole_step_where_nothing_looks_across_images(tmp_path, parts):
    """True of DINO and iBOT with a center that stays put, and of KoLeo in groups within a part; not of Sinkhorn-Knopp, a
    moving center or KoLeo over the batch, which see the images of one part."""
    apart = {"centering": "softmax", "center_momentum": 1.0, "koleo_group": 2}
    train(tmp_path / "whole", SETTINGS | apart)
    train(tmp_path / "parts", SETTINGS | apart | {"accumulate": parts})
    assert_same_run(tmp_path / "parts", tmp_path / "whole")


def test_sinkhorn_sees_one_part(tmp_path):
    train(tmp_path / "whole", SETTINGS)
    train(tmp_path / "parts", SETTINGS | {"accumulate": 2})
    first = [log(tmp_path / name)[0]["loss_dino"] for name in ("whole", "parts")]
    assert abs(first[0] - first[1]) > 1e-4


def test_one_step_of_parts_is_logged_and_saved_once(tmp_path):
    seen = []
    settings = ImageSSLConfig(**SETTINGS | {"accumulate": 4})
    pretrain(
        settings, RenderedPool(40), np.arange(30), tmp_path / "run", seed=0, log_every=2, progress=False, device="cpu",
        on_metrics=lambda values, step: seen.append(step),
    )  # fmt: skip
    assert seen == [2, 4]
    assert torch.load(tmp_path / "run" / "checkpoints" / "last.ckpt", weights_only=True)["global_step"] == 4
