"""resume=auto|path|false, signals, Slurm's requeue, and checkpoints that cannot be."""

import json
import os
import signal
import stat
import subprocess
import sys
import textwrap
import threading

import numpy as np
import pytest
import torch

from strata.curation.errors import ConfigError
from strata.curation.pools.rendered import RenderedPool
from strata.ssl.image.config import ImageSSLConfig
from strata.ssl.image.preemption import Preempted, requeue
from strata.ssl.image.pretrain import pretrain

SETTINGS = {
    "backbone": "vit_tiny_patch16_224",
    "model_kwargs": {"patch_size": 8, "embed_dim": 24, "depth": 2, "num_heads": 2},
    "steps": 10, "batch_size": 8, "cache_size": 32, "global_size": 32, "local_size": 16, "n_local": 1,
    "n_prototypes": 16, "ibot_n_prototypes": 12, "head_hidden": 16, "head_bottleneck": 8, "ibot_bottleneck": 8,
    "warmup_steps": 4, "teacher_temperature_steps": 4, "freeze_last_layer_steps": 2, "base_lr": 1e-2,
    "checkpoint_every": 3,
}  # fmt: skip


class Stop(Exception):
    pass


def stop_at(last):
    def on_metrics(values, step):
        if step == last:
            raise Stop

    return on_metrics


def run(out, seed=0, rows=30, settings=None, **kwargs):
    kwargs = {"num_threads": 1, "log_every": 1, "progress": False, "device": "cpu", **kwargs}
    config = ImageSSLConfig(**{**SETTINGS, **(settings or {})})
    return pretrain(config, RenderedPool(40), np.arange(rows), out, seed=seed, **kwargs)


def seen_steps(out, **kwargs):
    seen = []
    run(out, on_metrics=lambda values, step: seen.append(step), **kwargs)
    return seen


def weights(folder):
    return [(folder / f"{name}.safetensors").read_bytes() for name in ("model", "student")]


@pytest.fixture(scope="module")
def whole(tmp_path_factory):
    return run(tmp_path_factory.mktemp("resume") / "whole")


@pytest.fixture
def killed(tmp_path):
    """A run that stopped after step 8; its checkpoint is of step 6."""
    with pytest.raises(Stop):
        run(tmp_path / "killed", on_metrics=stop_at(8))
    return tmp_path / "killed"


# ---- auto, path, false


def test_auto_goes_on_and_false_starts_anew(killed, whole, tmp_path):
    with pytest.raises(Stop):
        run(killed, on_metrics=stop_at(7))  # auto: from 6, and again
    assert seen_steps(killed) == [7, 8, 9, 10]
    with pytest.raises(Stop):
        run(tmp_path / "again", on_metrics=stop_at(8))
    assert seen_steps(tmp_path / "again", resume=False) == list(range(1, 11))
    assert weights(killed) == weights(tmp_path / "again") == weights(whole)


@pytest.mark.parametrize("given", ["killed", "killed.partial", "killed.partial/checkpoints/last.ckpt"])
def test_path_goes_on_from_another_run(given, killed, whole, tmp_path):
    assert seen_steps(tmp_path / "new", resume=tmp_path / given) == [7, 8, 9, 10]
    assert weights(tmp_path / "new") == weights(whole)


def test_settings_that_change_nothing_do_not_stand_in_the_way(killed, whole):
    how = {"checkpoint_every": 2, "alarm": {"patience": 9}, "log_gradients": True}
    assert seen_steps(killed, settings=how) == [7, 8, 9, 10]
    assert weights(killed) == weights(whole)
    last = json.loads((killed / "metrics.jsonl").read_text().splitlines()[-1])
    assert {"gradient_dino", "gradient_ibot", "gradient_koleo"} <= set(last)


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"settings": {"n_prototypes": 8}}, "ssl.n_prototypes is 16 there and 8 here"),
        (
            {"settings": {"model_kwargs": {"patch_size": 8, "embed_dim": 32, "depth": 2, "num_heads": 2}}},
            "ssl.model_kwargs",
        ),
        ({"seed": 1}, "seed is 0 there and 1 here"),
        ({"rows": 29}, "other images"),
    ],
)
def test_a_checkpoint_of_another_run_is_refused(changes, words, killed, tmp_path):
    with pytest.raises(ConfigError, match=words) as caught:
        run(tmp_path / "new", resume=killed, **changes)
    assert caught.value.field == "resume" and "\n" not in str(caught.value)
    assert not (tmp_path / "new").exists() and not (tmp_path / "new.partial").exists()


def test_what_is_no_checkpoint_is_refused(killed, tmp_path):
    file = tmp_path / "killed.partial" / "checkpoints" / "last.ckpt"
    half, foreign, text = tmp_path / "half.ckpt", tmp_path / "foreign.ckpt", tmp_path / "text.ckpt"
    half.write_bytes(file.read_bytes()[:5000])
    torch.save({"state_dict": {}, "global_step": 3}, foreign)
    text.write_text("no checkpoint")
    for given, words in ((half, "cannot be read"), (text, "cannot be read"), (foreign, "not written by this trainer")):
        with pytest.raises(ConfigError, match=words) as caught:
            run(tmp_path / "new", resume=given)
        assert caught.value.field == "resume" and "\n" not in str(caught.value)
    with pytest.raises(ConfigError, match="no checkpoint and no folder of a run"):
        run(tmp_path / "new", resume=tmp_path / "nowhere")


# ---- signals


@pytest.mark.parametrize("number", [signal.SIGUSR1, signal.SIGTERM])
def test_a_signal_saves_after_the_step_and_the_run_goes_on_later(number, whole, tmp_path):
    before = signal.getsignal(number)

    def tell(values, step):
        if step == 5:
            os.kill(os.getpid(), number)

    with pytest.raises(Preempted, match=f"stopped by {number.name} after step 5, which is saved"):
        run(tmp_path / "run", on_metrics=tell)
    assert signal.getsignal(number) == before
    assert seen_steps(tmp_path / "run") == [6, 7, 8, 9, 10]  # not from 3, the last regular checkpoint
    assert weights(tmp_path / "run") == weights(whole)


def test_a_signal_in_the_last_step_changes_nothing(whole, tmp_path):
    def tell(values, step):
        if step == 10:
            os.kill(os.getpid(), signal.SIGTERM)

    assert weights(run(tmp_path / "run", on_metrics=tell)) == weights(whole)


SIGNALLED = """
import sys
import numpy as np
from strata.curation.pools.rendered import RenderedPool
from strata.ssl.image.config import ImageSSLConfig
from strata.ssl.image.pretrain import pretrain
pretrain(ImageSSLConfig(**{settings}), RenderedPool(40), np.arange(30), sys.argv[1], seed=0, num_threads=1, log_every=1,
         progress=False, device="cpu", on_metrics=lambda values, step: print(step, flush=True))
"""


def test_a_signal_from_outside_under_slurm_requeues_the_job(tmp_path):
    """As Slurm does it: SIGUSR1 to the process before the limit. ``scontrol`` is a stand-in that writes its arguments."""
    scontrol = tmp_path / "bin" / "scontrol"
    scontrol.parent.mkdir()
    scontrol.write_text(f'#!/bin/sh\necho "$@" > {tmp_path}/asked\n')
    scontrol.chmod(scontrol.stat().st_mode | stat.S_IXUSR)
    environment = {**os.environ, "PATH": f"{scontrol.parent}:{os.environ['PATH']}", "SLURM_JOB_ID": "1234"}
    script = textwrap.dedent(SIGNALLED).replace("{settings}", repr({**SETTINGS, "steps": 5000}))
    process = subprocess.Popen(
        [sys.executable, "-c", script, str(tmp_path / "run")],
        stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, env=environment,
    )  # fmt: skip
    watchdog = threading.Timer(300, process.kill)
    watchdog.start()
    for line in process.stdout:
        if line.strip() == "4":
            process.send_signal(signal.SIGUSR1)
            break
    _, errors = process.communicate()
    watchdog.cancel()
    assert process.returncode != 0 and "Preempted: stopped by SIGUSR1 after step" in errors, errors
    assert "Slurm job 1234 is back in the queue" in errors
    assert (tmp_path / "asked").read_text() == "requeue 1234\n"
    checkpoint = torch.load(tmp_path / "run.partial" / "checkpoints" / "last.ckpt", weights_only=True)
    assert f"after step {checkpoint['global_step']}," in errors


def test_requeue_names_an_array_task_and_says_when_it_fails(monkeypatch):
    for name in ("SLURM_JOB_ID", "SLURM_ARRAY_JOB_ID", "SLURM_ARRAY_TASK_ID"):
        monkeypatch.delenv(name, raising=False)
    assert requeue() == ""
    monkeypatch.setenv("SLURM_JOB_ID", "7")
    monkeypatch.setenv("PATH", "/nowhere")
    assert "did not requeue job 7" in requeue()
    monkeypatch.setenv("SLURM_ARRAY_JOB_ID", "5")
    monkeypatch.setenv("SLURM_ARRAY_TASK_ID", "2")
    assert "job 5_2" in requeue()


# ---- the probe


def test_a_probe_is_called_on_schedule_and_changes_nothing(whole, tmp_path):
    modes = []

    def probe(vit):
        modes.append((vit.training, torch.is_grad_enabled()))
        return {"random": torch.rand(1).item()}  # uses the global generator

    out = run(tmp_path / "run", probe=probe, probe_every=4)
    assert weights(out) == weights(whole)
    assert modes == [(False, False)] * 3
    log = [json.loads(line) for line in (out / "metrics.jsonl").read_text().splitlines()]
    assert [line["step"] for line in log if "random" in line] == [4, 8, 10]
    with pytest.raises(ConfigError, match="multiple of log_every=5"):
        run(tmp_path / "bad", probe=probe, probe_every=4, log_every=5)
