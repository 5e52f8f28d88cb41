"""Training a causal language model on a subset of a pool's documents: one function, one folder."""

import contextlib
import hashlib
import json
import logging
import warnings
from collections.abc import Callable, Iterator, Mapping
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np
import pytorch_lightning as pl
import torch
from jaxtyping import Int
from pytorch_lightning.plugins.environments import LightningEnvironment, TorchElasticEnvironment
from pytorch_lightning.strategies import DDPStrategy, ModelParallelStrategy
from torch import Tensor

from strata.curation.device import resolve_device
from strata.curation.errors import ConfigError, DataError
from strata.curation.text.tokens import TokenStore
from strata.ssl.text.config import UNKEYED_TEXT, TextSSLConfig
from strata.ssl.text.export import export_model
from strata.ssl.text.module import CausalLM
from strata.ssl.text.packing import PackedBatches, PackedStream
from strata.ssl.text.ranks import Ranks
from strata.ssl.text.recorder import TextRecorder


def pretrain_text(
    config: TextSSLConfig,
    tokens: str | Path,
    tokenizer: str | Path,
    rows: Int[np.ndarray, " n"],
    out: str | Path,
    *,
    seed: int,
    repeats: Int[np.ndarray, " n"] | None = None,
    key: str = "",
    inputs: Mapping[str, str] | None = None,
    device: str = "auto",
    num_threads: int | None = None,
    log_every: int = 20,
    on_metrics: Callable[[dict[str, float], int], None] | None = None,
    progress: bool = True,
) -> Path:
    """Train a causal language model for ``config.tokens`` tokens and export it for transformers.

    A run that was killed goes on from its last checkpoint (``config.checkpoint_every`` steps apart) and on the CPU ends
    with the weights of an uninterrupted one: every batch is a function of (seed, step). Started by torchrun, the
    processes share each batch by DDP, or FSDP with ``config.strategy``.

    Args:
        config: everything that changes the result.
        tokens: an artifact "tokens" of the pool.
        tokenizer: the artifact "tokenizer" that made it.
        rows: which documents to train on, [n].
        out: the folder to make, an artifact of kind "language_model": ``model.safetensors``, ``config.json``, the
            tokenizer's files, ``metrics.jsonl``, ``checkpoints/last.ckpt``.
        seed: of weights and order.
        repeats: how often each document occurs in an epoch, [n]; once by default.
        key, inputs: see ``create_artifact``. Without a key, a digest of settings, data and seed takes its place.
        device: "auto" (GPUs, if there are some), "cpu" or "cuda".
        num_threads: of torch on the CPU, for this run only; as it is by default.
        log_every: steps between lines of ``metrics.jsonl``.
        on_metrics: called with each line's values and its step.
        progress: a bar on stderr.

    Raises:
        ConfigError: rows, repeats, seed, device or a setting cannot be. StrataError: a loss is not finite.
    """
    store, ranks = TokenStore.open(tokens), Ranks.from_environment()
    rows, order = _epoch(store, np.asarray(rows), repeats)
    _check("seed", 0 <= seed < 2**32, f"is {seed}", "give a number from 0 to 2^32 - 1")
    _check("log_every", log_every >= 1, f"is {log_every}", "give at least 1")
    cuda = resolve_device(device).type == "cuda"
    stream = PackedStream(
        store,
        order,
        seq_len=config.seq_len,
        batch_size=config.batch_size,
        seed=seed,
        isolated=config.packing == "isolated",
    )
    settings = asdict(config)
    key = key or _digest(settings, store, order, seed)
    with _isolated(num_threads), ranks.joined(cuda):
        module = CausalLM(
            config, vocab_size=store.vocab_size, bos_id=store.bos_id, eos_id=store.eos_id, seed=seed, world=ranks.world
        )
        with ranks.folder(out, "language_model", key=key, inputs=inputs, config=settings) as draft:
            checkpoint = draft.path / "checkpoints" / "last.ckpt"
            checkpoint.parent.mkdir(exist_ok=True)
            start = _steps_done(checkpoint)
            recorder = TextRecorder(draft.path, start=start, log_every=log_every, on_metrics=on_metrics, show=progress)
            trainer = _trainer(config, cuda, ranks, module.passes, recorder)
            batches = PackedBatches(
                stream,
                start=start,
                stop=config.steps,
                micro=config.micro_batch(ranks.world),
                rank=ranks.rank,
                world=ranks.world,
            )
            trainer.fit(module, batches, ckpt_path=str(checkpoint) if start else None, weights_only=True)
            if trainer.interrupted:  # Lightning swallows Ctrl-C: what is not trained to the end must not look finished
                raise KeyboardInterrupt
            recorder.save(trainer)
            if ranks.rank == 0:
                export_model(module.lm.model, _weights(checkpoint), tokenizer, draft.path)
            draft.meta |= _told(config, store, rows, stream, seed, recorder)
    return Path(out)


def _epoch(
    store: TokenStore, rows: np.ndarray, repeats: np.ndarray | None
) -> tuple[Int[np.ndarray, " n"], Int[np.ndarray, " m"]]:
    """The rows, and the rows of an epoch with repeats written out."""
    _check("rows", rows.ndim == 1 and len(rows) > 0, f"has shape {rows.shape}", "choose at least one document")
    _check("rows", rows.dtype.kind in "iu", f"holds {rows.dtype}", "give whole numbers")
    inside = rows.min() >= 0 and rows.max() < len(store)
    _check("rows", bool(inside), f"go from {rows.min()} to {rows.max()}", f"the pool has 0 to {len(store) - 1}")
    counts = np.ones(len(rows), np.int64) if repeats is None else np.asarray(repeats)
    fine = counts.shape == rows.shape and counts.dtype.kind in "iu" and counts.min() >= 0 and counts.sum() > 0
    _check("repeats", bool(fine), f"has shape {counts.shape}", f"give one count for each of the {len(rows)} documents")
    empty = rows[store.lengths[rows] == 0]
    if len(empty):
        raise DataError(f"document in row {empty[0]} has no tokens; leave it out (on_error=skip)")
    return rows.astype(np.int64), np.repeat(rows.astype(np.int64), counts)


def _check(field: str, fine: bool, problem: str, fix: str) -> None:
    if not fine:
        raise ConfigError(field, problem, fix)


def _digest(settings: dict[str, Any], store: TokenStore, order: Int[np.ndarray, " m"], seed: int) -> str:
    keyed = {name: value for name, value in settings.items() if name not in UNKEYED_TEXT}
    digest = hashlib.sha256(json.dumps({"settings": keyed, "seed": seed}, sort_keys=True).encode())
    for array in (np.asarray(store.offsets), order, np.asarray(store.tokens)):
        digest.update(array.tobytes())
    return digest.hexdigest()


@contextlib.contextmanager
def _isolated(num_threads: int | None) -> Iterator[None]:
    """Leave torch's number of threads, and the process's warnings and logging, as they were."""
    threads, log = torch.get_num_threads(), logging.getLogger("pytorch_lightning")
    level = log.level
    with torch.random.fork_rng(), warnings.catch_warnings():
        warnings.filterwarnings("ignore", module="pytorch_lightning")
        log.setLevel(logging.ERROR)
        try:
            torch.set_num_threads(num_threads or threads)
            yield
        finally:
            torch.set_num_threads(threads)
            log.setLevel(level)


def _steps_done(checkpoint: Path) -> int:
    if not checkpoint.is_file():
        return 0
    return int(torch.load(checkpoint, map_location="cpu", weights_only=True)["global_step"])


def _weights(checkpoint: Path) -> dict[str, Tensor]:
    """The network's weights in the checkpoint: whole on every strategy."""
    state = torch.load(checkpoint, map_location="cpu", weights_only=True)["state_dict"]
    prefix = "lm.model."
    return {name.removeprefix(prefix): value for name, value in state.items() if name.startswith(prefix)}


def _told(
    config: TextSSLConfig,
    store: TokenStore,
    rows: Int[np.ndarray, " n"],
    stream: PackedStream,
    seed: int,
    recorder: TextRecorder,
) -> dict[str, Any]:
    return {
        "seed": seed,
        "steps": config.steps,
        "tokens_seen": config.steps * config.step_tokens,
        "documents": len(rows),
        "subset_tokens": int(store.lengths[rows].sum()),
        "epochs": config.steps * config.step_tokens / stream.epoch_tokens,
        "flops_per_token": recorder.flops,
        "peak_flops": {"value": recorder.peak[0], "source": recorder.peak[1]},
        "last": recorder.last,
    }


def _trainer(config: TextSSLConfig, cuda: bool, ranks: Ranks, passes: int, recorder: TextRecorder) -> pl.Trainer:
    """Quiet; logging and saving are the recorder's."""
    strategy: Any = "auto"
    if ranks.world > 1 and config.strategy == "fsdp":
        strategy = ModelParallelStrategy(ranks.world, 1, save_distributed_checkpoint=False)
    elif ranks.world > 1:
        strategy = DDPStrategy()
    sharded = ranks.world > 1 and config.strategy == "fsdp"
    return pl.Trainer(
        accelerator="gpu" if cuda else "cpu",
        devices=ranks.local_world,
        num_nodes=ranks.world // ranks.local_world,
        strategy=strategy,
        plugins=[TorchElasticEnvironment() if ranks.world > 1 else LightningEnvironment()],
        max_steps=config.steps,
        max_epochs=-1,
        accumulate_grad_batches=passes,
        precision="32-true" if sharded else config.precision,  # type: ignore[arg-type]  # FSDP has its own policy
        callbacks=[recorder],
        logger=False,
        enable_checkpointing=False,
        enable_progress_bar=False,
        enable_model_summary=False,
        num_sanity_val_steps=0,
        use_distributed_sampler=False,
    )
