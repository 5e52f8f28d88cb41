"""Tokens per second of our language model trainer and of Hugging Face's Trainer: same model, batch and tokens.

    python -m strata.experiments.benchmarks.text

Both train the network of ``configs/ssl/llama_micro.yaml`` in float32 with fused AdamW, clipping and a cosine schedule on the
same packed sequences (documents joined: the Trainer knows no other packing). They take turns in one process; a run is
timed from its fifth step to its last, so that what is made once does not count. A third row is the Trainer on one document
per row, padded, as its own collator does it; only real tokens count.
"""

import argparse
import os
import platform
import statistics
import tempfile
import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
import yaml

from strata.curation.artifact import create_artifact
from strata.curation.text.tokens import TokenStore
from strata.experiments.execute import git_commit
from strata.ssl.text.config import TextSSLConfig
from strata.ssl.text.model import model_config
from strata.ssl.text.packing import PackedStream
from strata.ssl.text.pretrain import pretrain_text

VOCAB, FIRST = 4096, 5  # FIRST: the step from which the clock runs
BAR = 1.2
Times = tuple[float, float, float]  # CPU seconds, wall seconds, tokens


def made_up_tokens(folder: Path, n: int = 2000) -> None:
    """An artifact "tokens": ``n`` documents whose lengths are spread as those of web text (log-normal, median 300)."""
    rng = np.random.default_rng(0)
    lengths = np.clip(rng.lognormal(np.log(300), 0.8, n), 8, 3000).astype(np.int64)
    with create_artifact(folder, "tokens") as draft:
        np.save(draft.path / "tokens.npy", rng.integers(2, VOCAB, lengths.sum()).astype(np.uint16))
        np.save(draft.path / "offsets.npy", np.concatenate([[0], np.cumsum(lengths)]))
        np.save(draft.path / "n_bytes.npy", lengths * 3)
        draft.meta.update(vocab_size=VOCAB, bos_id=0, eos_id=1)


class Clock:
    """CPU and wall seconds between two steps."""

    def __init__(self, last: int) -> None:
        self.last, self.began, self.took = last, (0.0, 0.0), (0.0, 0.0)

    def at(self, step: int) -> None:
        """Called after each step."""
        now = (time.process_time(), time.perf_counter())
        if step == FIRST:
            self.began = now
        if step == self.last:
            self.took = (now[0] - self.began[0], now[1] - self.began[1])


def ours(config: TextSSLConfig, tokens: Path, steps: int) -> Times:
    """Our trainer."""
    clock = Clock(steps)
    store = TokenStore.open(tokens)
    with tempfile.TemporaryDirectory() as folder:
        pretrain_text(
            config, tokens, tokens, np.arange(len(store)), Path(folder) / "run", seed=0, device="cpu", log_every=FIRST,
            on_metrics=lambda values, step: clock.at(step), progress=False,
        )  # fmt: skip
    return (*clock.took, float((steps - FIRST) * config.step_tokens))


def trainer(config: TextSSLConfig, tokens: Path, steps: int, padded: bool = False) -> Times:
    """Hugging Face's Trainer on the same sequences, or on documents one by one."""
    import transformers

    store, clock = TokenStore.open(tokens), Clock(steps)
    stream = PackedStream(
        store, np.arange(len(store)), seq_len=config.seq_len, batch_size=config.batch_size, seed=0, isolated=False
    )
    rows: list[dict[str, Any]] = []
    for step in range(steps):
        if padded:
            places = np.random.default_rng(step).choice(len(store), config.batch_size)
            rows += [{"input_ids": [0, *store.document(int(p))[: config.seq_len - 2].tolist(), 1]} for p in places]
        else:
            rows += [{"input_ids": ids, "labels": ids} for ids in stream.batch(step).tokens]
    counted = sum(len(row["input_ids"]) for row in rows[FIRST * config.batch_size :])

    class Tick(transformers.TrainerCallback):
        def on_step_end(self, args: Any, state: Any, control: Any, **_: Any) -> None:
            clock.at(state.global_step)

    def collate(batch: list[dict[str, Any]]) -> dict[str, torch.Tensor]:
        width = max(len(row["input_ids"]) for row in batch)
        ids = torch.zeros(len(batch), width, dtype=torch.int64)
        kept = torch.zeros(len(batch), width, dtype=torch.int64)
        for line, row in enumerate(batch):
            ids[line, : len(row["input_ids"])] = torch.tensor(row["input_ids"])
            kept[line, : len(row["input_ids"])] = 1
        return {"input_ids": ids, "attention_mask": kept, "labels": ids.masked_fill(kept == 0, -100)}

    with tempfile.TemporaryDirectory() as folder:
        settings = transformers.TrainingArguments(
            output_dir=folder, per_device_train_batch_size=config.batch_size, max_steps=steps, use_cpu=True, seed=0,
            learning_rate=config.lr, lr_scheduler_type="cosine", warmup_steps=config.warmup_steps,
            weight_decay=config.weight_decay, adam_beta1=config.betas[0], adam_beta2=config.betas[1],
            max_grad_norm=config.clip_grad, optim="adamw_torch_fused", report_to=[], save_strategy="no",
            logging_strategy="no", disable_tqdm=True, dataloader_pin_memory=False,
        )  # fmt: skip
        model = transformers.AutoModelForCausalLM.from_config(
            model_config(config, VOCAB, 0, 1)
        )  # nothing of ours in it
        made = transformers.Trainer(
            model=model, args=settings, train_dataset=rows,  # type: ignore[arg-type]  # a list is a map-style set
            data_collator=collate if padded else transformers.default_data_collator, callbacks=[Tick()],
        )  # fmt: skip
        made.train()
    return (*clock.took, float(counted))


def measure(config: TextSSLConfig, tokens: Path, steps: int, rounds: int) -> dict[str, list[Times]]:
    """Each way in turn, ``rounds`` times."""
    ways: dict[str, Callable[[], Times]] = {
        "ours": lambda: ours(config, tokens, steps),
        "HF Trainer, same sequences": lambda: trainer(config, tokens, steps),
        "HF Trainer, padded documents": lambda: trainer(config, tokens, steps, padded=True),
    }
    told: dict[str, list[Times]] = {name: [] for name in ways}
    for _ in range(rounds):
        for name, way in ways.items():
            told[name].append(way())
    return told


def table(title: str, told: dict[str, list[Times]]) -> str:
    """Markdown: medians of tokens per second, and our ratio to each."""
    rates = {name: [statistics.median(t[2] / t[i] for t in times) for i in (0, 1)] for name, times in told.items()}
    lines = [f"### {title}", "", "| trainer | tokens / CPU-s | tokens / s | ours by it, CPU | ours by it, wall |",
             "|:--|--:|--:|--:|--:|"]  # fmt: skip
    for name, (cpu, wall) in rates.items():
        ratios = f"{rates['ours'][0] / cpu:.2f} | {rates['ours'][1] / wall:.2f}"
        lines.append(f"| {name} | {cpu:,.0f} | {wall:,.0f} | {ratios} |")
    ratio = rates["ours"][1] / rates["HF Trainer, same sequences"][1]
    met = "met" if ratio >= BAR else "NOT met"
    return "\n".join(lines) + f"\n\nBar of {BAR} (same sequences, wall): {ratio:.2f}, {met}.\n"


def main(arguments: list[str] | None = None) -> None:
    """Run and write the Markdown file."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--steps", type=int, default=25, help="a multiple of 5")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--batch", type=int, action="append", help="sequences; may be given more than once")
    parser.add_argument("--out", type=Path, default=Path("results/benchmarks/text.md"))
    given = parser.parse_args(arguments)
    if given.steps % FIRST or given.steps <= FIRST:
        parser.error("--steps has to be a multiple of 5, and more than 5")
    torch.set_num_threads(given.threads)
    recipe = Path(__file__).parents[2] / "configs" / "ssl" / "llama_micro.yaml"
    base = TextSSLConfig(**yaml.safe_load(recipe.read_text()))
    parts = []
    with tempfile.TemporaryDirectory() as folder:
        tokens = Path(folder) / "tokens"
        made_up_tokens(tokens)
        for batch in given.batch or [base.batch_size, 8]:
            budget = {"tokens": given.steps * batch * base.seq_len, "warmup_steps": FIRST}
            config = replace(base, batch_size=batch, packing="joined", **budget)
            title = f"{batch} sequences of {base.seq_len} tokens, {given.steps - FIRST} steps, median of {given.rounds}"
            parts.append(table(title, measure(config, tokens, given.steps, given.rounds)))
    head = (
        "# Language model training: `python -m strata.experiments.benchmarks.text`\n\n"
        f"Network of llama_micro (1.3 M parameters, vocabulary {VOCAB:,}), float32, {given.threads} thread(s); "
        f"{platform.machine()}, {os.cpu_count()} cores, load {os.getloadavg()[0]:.1f} at the end; commit {git_commit()}.\n"
    )
    text = "\n".join([head, *parts])
    print(text)
    given.out.parent.mkdir(parents=True, exist_ok=True)
    given.out.write_text(text)


if __name__ == "__main__":
    main()
