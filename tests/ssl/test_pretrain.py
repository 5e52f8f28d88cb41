"""Whole runs: what they write, that they repeat, that they resume to the byte after a kill, that they stop when ill."""

import json
import math
import signal
import subprocess
import sys
import textwrap

import numpy as np
import pytest
import safetensors.torch
import timm
import torch

from strata.curation.artifact import read_manifest
from strata.curation.encoders.backbone import load_backbone
from strata.curation.errors import ConfigError
from strata.curation.pools.rendered import RenderedPool
from strata.ssl.image.alarm import CollapsedRun
from strata.ssl.image.config import ImageSSLConfig
from strata.ssl.image.data import ImageSource, StepBatches
from strata.ssl.image.order import EpochOrder
from strata.ssl.image.pretrain import pretrain
from strata.ssl.image.rates import RATES

SETTINGS = {
    "backbone": "vit_tiny_patch16_224",
    "model_kwargs": {"patch_size": 8, "embed_dim": 24, "depth": 2, "num_heads": 2, "reg_tokens": 1},
    "drop_path": 0.2,
    "steps": 12, "batch_size": 8, "cache_size": 32, "global_size": 32, "local_size": 16, "n_local": 2,
    "n_prototypes": 16, "ibot_n_prototypes": 12, "head_hidden": 16, "head_bottleneck": 8, "ibot_bottleneck": 8,
    "warmup_steps": 4, "teacher_temperature_steps": 4, "freeze_last_layer_steps": 2, "base_lr": 1e-2,
    "checkpoint_every": 3,
}  # fmt: skip


def run(out, seed=0, rows=30, settings=None, **kwargs):
    kwargs = {"num_threads": 1, "log_every": 1, "progress": False, "device": "cpu", **kwargs}
    config = ImageSSLConfig(**{**SETTINGS, **(settings or {})})
    return pretrain(config, RenderedPool(40), np.arange(rows), out, seed=seed, **kwargs)


def weights(folder):
    return [(folder / f"{name}.safetensors").read_bytes() for name in ("model", "student")]


def lines(folder):
    return [json.loads(line) for line in (folder / "metrics.jsonl").read_text().splitlines()]


@pytest.fixture(scope="module")
def finished(tmp_path_factory):
    return run(tmp_path_factory.mktemp("ssl") / "run")


# ---- what a run writes


def test_folder_is_whole(finished):
    manifest = read_manifest(finished, "backbone")
    assert (manifest["images"], manifest["steps"], manifest["seed"]) == (30, 12, 0)
    assert manifest["epochs"] == pytest.approx(3.2)
    assert manifest["config"]["n_prototypes"] == 16
    assert torch.load(finished / "checkpoints" / "last.ckpt", weights_only=True)["global_step"] == 12
    assert not list(finished.rglob("*.tmp"))


def test_metrics_hold_every_step_once(finished):
    log = lines(finished)
    assert [line["step"] for line in log] == list(range(1, 13))
    assert all(math.isfinite(value) for line in log for value in line.values())
    names = {"loss", "loss_dino", "loss_ibot", "loss_koleo", "lr", "momentum", "images_per_s", "effective_rank"}
    assert names | {"mean_cosine", "prototype_share", "prototype_perplexity", "teacher_entropy"} <= set(log[0])
    assert log[-1]["loss"] == pytest.approx(
        log[-1]["loss_dino"] + log[-1]["loss_ibot"] + 0.1 * log[-1]["loss_koleo"], rel=1e-5
    )


@pytest.mark.parametrize("name", ["model", "student"])
def test_timm_alone_opens_the_export(finished, name):
    config = json.loads((finished / "config.json").read_text())
    model = timm.create_model(config["architecture"], **config["model_args"], num_classes=0).eval()
    model.load_state_dict(safetensors.torch.load_file(finished / f"{name}.safetensors"), strict=True)
    state = torch.load(finished / "checkpoints" / "last.ckpt", weights_only=True)["state_dict"]
    prefix = {"model": "teacher", "student": "student"}[name] + ".backbone.vit."
    for key, value in model.state_dict().items():
        assert torch.equal(value, state[prefix + key]), key
    assert config["pretrained_cfg"]["mean"] == [0.485, 0.456, 0.406]
    assert config["pretrained_cfg"]["input_size"] == [3, 32, 32]
    if name == "model":
        images = torch.randn(2, 3, 16, 16)
        torch.testing.assert_close(model(images), load_backbone(finished)(images))


def test_timm_opens_the_folder_by_its_path(finished):
    model = timm.create_model(f"local-dir:{finished}", pretrained=True).eval()
    images = torch.randn(2, 3, 32, 32)
    torch.testing.assert_close(model(images), load_backbone(finished)(images))
    assert tuple(timm.data.resolve_model_data_config(model)["mean"]) == (0.485, 0.456, 0.406)


def test_teacher_and_student_differ_in_the_end(finished):
    teacher, student = weights(finished)
    assert teacher != student


# ---- repeatable, and resumable to the byte


def test_one_seed_gives_the_same_bytes_and_another_others(finished, tmp_path):
    torch.manual_seed(123)  # the caller's generator plays no part, and is left alone
    before = torch.get_rng_state()
    assert weights(run(tmp_path / "same", log_every=5)) == weights(finished)
    assert torch.equal(before, torch.get_rng_state())
    assert weights(run(tmp_path / "other", seed=1)) != weights(finished)


def test_decoding_on_demand_gives_the_same_bytes(finished, tmp_path):
    assert weights(run(tmp_path / "run", cache_bytes=0, num_workers=2)) == weights(finished)


def test_repeats(tmp_path, finished):
    """Rows seen twice an epoch; a row with no repeats is never seen, so its image does not matter."""
    with pytest.raises(ConfigError, match="repeats"):
        run(tmp_path / "bad", repeats=np.ones(29, np.int64))
    assert weights(run(tmp_path / "once", repeats=np.ones(30, np.int64))) == weights(finished)
    twice = run(tmp_path / "twice", repeats=np.array([2] * 15 + [0] * 15))
    assert read_manifest(twice)["epochs"] == pytest.approx(3.2)
    batches = StepBatches(
        ImageSource(RenderedPool(4), np.arange(4), 16, cache_bytes=1 << 20, num_workers=1, show_progress=False),
        EpochOrder(np.repeat(np.arange(4), [2, 0, 1, 1]), 4, seed=0), start=0, stop=1,
    )  # fmt: skip
    ((_, images, _, _),) = batches
    expected = {i: batches.source.cache[i] for i in range(4)}
    seen = sorted(next(i for i in expected if torch.equal(expected[i], image)) for image in images)
    assert seen == [0, 0, 2, 3]


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


def test_kill_and_resume_equals_an_uninterrupted_run(finished, tmp_path):
    out = tmp_path / "run"
    script = textwrap.dedent(KILLED).replace("{settings}", repr(SETTINGS))
    done = subprocess.run([sys.executable, "-c", script, str(out)], capture_output=True, text=True, timeout=120)
    assert done.returncode == -signal.SIGKILL, done.stderr
    partial = tmp_path / "run.partial"
    assert not out.exists() and len(lines(partial)) == 8  # past the checkpoint at step 6
    (partial / "checkpoints" / "last.tmp").write_bytes(b"half a checkpoint")
    with open(partial / "metrics.jsonl", "a") as stream:
        stream.write('{"step": 9, "lo')  # as a kill in the middle of a line would leave it
    seen = []
    run(out, on_metrics=lambda values, step: seen.append(step))
    assert seen == [7, 8, 9, 10, 11, 12]  # it did resume
    assert weights(out) == weights(finished)
    log, expected = lines(out), lines(finished)
    for entry in (*log, *expected):
        for name in RATES:
            del entry[name]
    assert log == expected
    assert not (out / "checkpoints" / "last.tmp").exists()


def test_resume_with_softmax_centering_restores_the_center(tmp_path):
    def stop(values, step):
        if step == 8:
            raise KeyError("stop")

    settings = {"centering": "softmax"}
    with pytest.raises(KeyError):
        run(tmp_path / "b", settings=settings, on_metrics=stop)
    assert weights(run(tmp_path / "b", settings=settings)) == weights(run(tmp_path / "a", settings=settings))


def test_another_run_does_not_resume_from_a_partial_folder(tmp_path):
    def stop(values, step):
        if step == 8:
            raise KeyError("stop")

    with pytest.raises(KeyError):
        run(tmp_path / "run", on_metrics=stop)
    seen = []
    run(tmp_path / "run", seed=1, on_metrics=lambda values, step: seen.append(step))
    assert seen[0] == 1


# ---- a run that is ill, or cannot be


def test_bfloat16_trains(tmp_path):
    log = lines(run(tmp_path / "run", settings={"precision": "bf16-mixed", "steps": 4}))
    assert all(math.isfinite(entry["loss"]) for entry in log)


def test_collapse_stops_the_run(tmp_path):
    with pytest.raises(
        CollapsedRun, match=r"collapsed by step 7: effective_rank .* is below ssl.alarm.min_rank=1e\+09"
    ):
        run(tmp_path / "run", settings={"alarm": {"min_rank": 1e9}})  # three checks after the warm-up of 4
    assert not (tmp_path / "run").exists() and not (tmp_path / "run.partial").exists()
    assert [line["step"] for line in lines(tmp_path / "run.failed")] == list(range(1, 8))


@pytest.mark.parametrize(
    ("field", "kwargs"),
    [
        ("ssl.batch_size", {"rows": 7}),
        ("rows", {"rows": 41}),
        ("rows", {"rows": 0}),
        ("device", {"device": "tpu"}),
        pytest.param(
            "device", {"device": "cuda"}, marks=pytest.mark.skipif(torch.cuda.is_available(), reason="there is a GPU")
        ),
        ("seed", {"seed": -1}),
        ("ssl.backbone", {"settings": {"backbone": "vit_of_nowhere"}}),
    ],
)
def test_bad_input_names_its_field(tmp_path, field, kwargs):
    with pytest.raises(ConfigError) as caught:
        run(tmp_path / "run", **kwargs)
    assert caught.value.field == field
    assert not list(tmp_path.iterdir())
