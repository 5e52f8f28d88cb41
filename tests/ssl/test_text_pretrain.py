"""Whole runs of the language model trainer: what they write, that they repeat, that they resume to the byte after a kill."""

import json
import os
import signal
import subprocess
import sys
import textwrap
from pathlib import Path

import numpy as np
import pytest
import torch
from transformers import AutoModelForCausalLM, AutoTokenizer

from strata.curation.artifact import read_manifest
from strata.curation.errors import ConfigError, StrataError
from strata.curation.pools.jsonl import JsonlPool
from strata.curation.text.tokenizer import train_tokenizer
from strata.curation.text.tokens import TokenStore, tokenize
from strata.ssl.text.config import TextSSLConfig
from strata.ssl.text.pretrain import pretrain_text

SETTINGS = {
    "model_kwargs": {"hidden_size": 16, "intermediate_size": 32, "num_hidden_layers": 2, "num_attention_heads": 2,
                     "num_key_value_heads": 2, "tie_word_embeddings": True},
    "tokens": 12 * 64, "seq_len": 16, "batch_size": 4, "lr": 1e-2, "warmup_steps": 2, "checkpoint_every": 3,
}  # fmt: skip


@pytest.fixture(scope="module")
def data(tmp_path_factory):
    folder = tmp_path_factory.mktemp("data")
    texts = [f"the {a} saw {n} of the {b} here" for n in range(4) for a in ("cat", "dog") for b in ("birds", "mice")]
    (folder / "t.jsonl").write_text("\n".join(json.dumps({"text": text}) for text in texts))
    pool = JsonlPool(str(folder / "t.jsonl"))
    train_tokenizer(pool, folder / "tokenizer", vocab_size=270)
    tokenize(pool, folder / "tokenizer", folder / "tokens", progress=False)
    return folder


def run(data, out, seed=0, settings=None, rows=None, **kwargs):
    kwargs = {"num_threads": 1, "log_every": 1, "progress": False, "device": "cpu", **kwargs}
    rows = np.arange(16) if rows is None else rows
    config = TextSSLConfig(**{**SETTINGS, **(settings or {})})
    return pretrain_text(config, data / "tokens", data / "tokenizer", rows, out, seed=seed, **kwargs)


def weights(folder):
    return (folder / "model.safetensors").read_bytes()


def lines(folder):
    return [json.loads(line) for line in (folder / "metrics.jsonl").read_text().splitlines()]


@pytest.fixture(scope="module")
def finished(data, tmp_path_factory):
    return run(data, tmp_path_factory.mktemp("run") / "run")


def test_folder_tells_tokens_and_documents(data, finished):
    told, store = read_manifest(finished, "language_model"), TokenStore.open(data / "tokens")
    assert (told["documents"], told["subset_tokens"]) == (16, int(store.lengths.sum()))
    assert (told["steps"], told["tokens_seen"]) == (12, 768)
    assert told["epochs"] == pytest.approx(768 / (store.lengths.sum() + 32))
    assert told["peak_flops"]["value"] > 1e8 and told["flops_per_token"] > 6 * 270 * 16
    log = lines(finished)
    assert [line["step"] for line in log] == list(range(1, 13)) and log[-1]["tokens"] == 768
    assert {"loss", "lr", "grad_norm", "tokens_per_s", "mfu"} <= set(log[0])
    assert log[1]["lr"] < log[2]["lr"] and log[-1]["lr"] == pytest.approx(1e-3)


def test_loss_falls_from_chance_to_below_two(data, tmp_path):
    log = lines(run(data, tmp_path / "run", settings={"tokens": 100 * 64}))
    assert log[0]["loss"] > 5 and log[-1]["loss"] < 2.0  # uniform over 270 tokens: 5.6


def test_transformers_alone_opens_the_export(data, finished):
    model = AutoModelForCausalLM.from_pretrained(finished)
    tokenizer = AutoTokenizer.from_pretrained(finished)
    assert type(model).__name__ == "LlamaForCausalLM" and model.config.vocab_size == len(tokenizer) == 270
    state = torch.load(finished / "checkpoints" / "last.ckpt", weights_only=True)["state_dict"]
    for name, value in model.state_dict().items():
        assert torch.equal(value, state[f"lm.model.{name}"]), name
    ids = tokenizer("the cat saw", return_tensors="pt")
    grown = model.generate(**ids, max_new_tokens=4, do_sample=False)
    assert grown.shape[1] <= ids["input_ids"].shape[1] + 4 and (
        model.config.bos_token_id,
        model.config.eos_token_id,
    ) == (0, 1)


def test_one_seed_gives_the_same_bytes_and_another_others(data, finished, tmp_path):
    torch.manual_seed(5)
    before = torch.get_rng_state()
    assert weights(run(data, tmp_path / "same", log_every=5)) == weights(finished)
    assert torch.equal(before, torch.get_rng_state()), "the caller's generator is left alone"
    assert weights(run(data, tmp_path / "other", seed=1)) != weights(finished)


def test_passes_of_a_batch_change_the_last_bits_only(data, finished, tmp_path):
    found = run(data, tmp_path / "passes", settings={"micro_batch_size": 1})
    losses = [[line["loss"] for line in lines(folder)] for folder in (finished, found)]
    assert losses[0] == pytest.approx(losses[1], rel=1e-4)
    assert read_manifest(found)["steps"] == 12


@pytest.mark.parametrize(
    "change", [{"precision": "bf16-mixed"}, {"gradient_checkpointing": True}, {"packing": "joined"}]
)
def test_other_ways_to_compute_train_too(data, finished, tmp_path, change):
    losses = [line["loss"] for line in lines(run(data, tmp_path / "run", settings=change))]
    exact = [line["loss"] for line in lines(finished)]
    assert losses[-1] < losses[0]
    if "gradient_checkpointing" in change:
        assert losses == pytest.approx(exact, rel=1e-5)
    if "precision" in change:
        assert losses == pytest.approx(exact, rel=0.05)


KILLED = """
    import os, signal, sys
    from pathlib import Path
    sys.path.insert(0, {here!r})
    from test_text_pretrain import run

    def stop(values, step):
        if step == 8:  # after the checkpoint of step 6
            os.kill(os.getpid(), signal.SIGKILL)

    run(Path({data!r}), Path({out!r}), on_metrics=stop)
"""


def test_a_killed_run_resumes_to_the_same_bytes(data, finished, tmp_path):
    out = tmp_path / "run"
    script = textwrap.dedent(KILLED).format(here=str(Path(__file__).parent), data=str(data), out=str(out))
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True)
    assert done.returncode == -signal.SIGKILL, done.stderr
    partial = out.with_name("run.partial")
    assert not out.exists() and (partial / "checkpoints" / "last.ckpt").is_file()
    assert torch.load(partial / "checkpoints" / "last.ckpt", weights_only=True)["global_step"] == 6
    run(data, out)
    assert weights(out) == weights(finished)
    assert [line["step"] for line in lines(out)] == list(range(1, 13))
    assert [line["loss"] for line in lines(out)] == [line["loss"] for line in lines(finished)]


def test_a_run_of_other_settings_does_not_resume_from_it(data, finished, tmp_path):
    class Stop(Exception):
        pass

    def stop(values, step):
        if step == 8:
            raise Stop

    with pytest.raises(Stop):
        run(data, tmp_path / "run", seed=7, on_metrics=stop)
    assert weights(run(data, tmp_path / "run")) == weights(finished)


def test_what_cannot_be_is_refused_before_anything_is_written(data, tmp_path):
    for change, said in (
        ({"rows": np.array([16])}, "rows: go from 16 to 16"),
        ({"rows": np.array([], np.int64)}, "rows: has shape"),
        ({"repeats": np.zeros(16, np.int64)}, "repeats"),
        ({"seed": -1}, "seed"),
        ({"device": "tpu"}, "device"),
    ):
        with pytest.raises(ConfigError) as error:
            run(data, tmp_path / "x", **change)
        assert str(error.value).startswith(said)
    assert not list(tmp_path.iterdir())


def test_a_loss_that_is_not_finite_stops_the_run(data, tmp_path):
    with pytest.raises(StrataError, match=r"the loss is (nan|inf)"):
        run(data, tmp_path / "x", settings={"lr": 1e30, "clip_grad": 0.0, "tokens": 64 * 40})


@pytest.mark.slow
@pytest.mark.parametrize("strategy", ["auto", "fsdp"])
def test_two_processes_train_what_one_does(data, finished, tmp_path, strategy):
    """DDP, and FSDP (weights sharded), by gloo: the same losses, an export that is whole, and a resume."""
    script = tmp_path / "run.py"
    script.write_text(
        f"import sys; sys.path.insert(0, {str(Path(__file__).parent)!r})\n"
        "from pathlib import Path\nfrom test_text_pretrain import run\n"
        f"run(Path({str(data)!r}), Path({str(tmp_path / 'run')!r}), settings={{'strategy': {strategy!r}}})\n"
    )
    command = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node=2", str(script)]
    done = subprocess.run(command, capture_output=True, text=True, env={**os.environ, "OMP_NUM_THREADS": "1"})
    assert done.returncode == 0, done.stderr[-3000:]
    assert [line["loss"] for line in lines(tmp_path / "run")] == pytest.approx(
        [line["loss"] for line in lines(finished)], rel=1e-3
    )
    ours = AutoModelForCausalLM.from_pretrained(tmp_path / "run").state_dict()
    for name, value in AutoModelForCausalLM.from_pretrained(finished).state_dict().items():
        torch.testing.assert_close(ours[name], value, rtol=1e-2, atol=1e-3)
