"""Self-supervised training on a subset of a pool: one function, one folder."""

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

from strata.curation.errors import ConfigError
from strata.curation.hierarchy import Hierarchy
from strata.curation.pools.base import Pool
from strata.ssl.image.config import ImageSSLConfig
from strata.ssl.image.data import ImageSource, StepBatches
from strata.ssl.image.export import export_backbone
from strata.ssl.image.module import DINOv2
from strata.ssl.image.order import training_order
from strata.ssl.image.processes import full_state, join_processes, shared_artifact, trainer_arguments
from strata.ssl.image.recorder import Recorder


def pretrain(
    config: ImageSSLConfig,
    pool: Pool,
    rows: Int[np.ndarray, " n"],
    out: str | Path,
    *,
    seed: int,
    repeats: Int[np.ndarray, " n"] | None = None,
    key: str = "",
    inputs: Mapping[str, str] | None = None,
    device: str = "auto",
    num_threads: int | None = None,
    num_workers: int = 1,
    processes: bool = False,
    cache_bytes: int = 4 << 30,
    cache_dir: str | Path | None = None,
    hierarchy: Hierarchy | None = None,
    log_every: int = 20,
    on_metrics: Callable[[dict[str, float], int], None] | None = None,
    progress: bool = True,
) -> Path:
    """Train a DINOv2 student and teacher, and export them.

    A run that was killed goes on from its last checkpoint (``config.checkpoint_every`` steps apart) and on the CPU ends
    with the weights of an uninterrupted one: data order, crops and masks are functions of (seed, step).

    Args:
        config: everything that changes the result.
        pool: where the images are.
        rows: which rows of it to train on, [n].
        out: the folder to make, an artifact of kind "backbone": ``model.safetensors`` and ``config.json`` (the teacher,
            for timm), ``student.safetensors``, ``metrics.jsonl``, ``checkpoints/last.ckpt``.
        seed: of weights, order, crops and masks.
        repeats: how often each row occurs in an epoch, [n]; once by default.
        key, inputs: see ``create_artifact``. Without a key, a digest of settings, data and seed takes its place, so that a
            run never goes on from another's checkpoint.
        device: "auto" (the first GPU, if there is one), "cpu" or "cuda".
        num_threads: of torch on the CPU, for this run only; as it is by default. The last bits of the weights depend on it.
        num_workers: threads that decode images; ``processes`` makes them processes.
        cache_bytes: images are decoded once into RAM if they fit.
        cache_dir: instead keep decoded images there, for all runs and processes; see ``ImageSource``.
        hierarchy: of the whole pool, for ``ssl.sampling`` "weighted" and "stratified".
        log_every: steps between lines of ``metrics.jsonl``.
        on_metrics: called with each line's values and its step.
        progress: bars on stderr.

    Raises:
        ConfigError: rows, repeats, seed, device or a setting cannot be. CollapsedRun: see ``health``.
        StrataError: a loss is not finite, or ``out`` exists. UnreadableItem: an image cannot be decoded.
    """
    rows, items = _epoch(config, pool, np.asarray(rows), repeats)
    _check("seed", 0 <= seed < 2**32, f"is {seed}", "give a number from 0 to 2^32 - 1")
    _check("log_every", log_every >= 1, f"is {log_every}", "give at least 1")
    _check("ssl.in_chans", config.in_chans == 3, f"is {config.in_chans}", "pools give RGB images: 3")
    order = training_order(config, rows, repeats, hierarchy, seed)
    accelerator = _accelerator(device)
    group = join_processes(config, accelerator)
    settings = asdict(config)
    key = key or _digest(settings, pool, rows[items], hierarchy, seed)
    with _isolated(num_threads):
        module = DINOv2(config, seed)
        with shared_artifact(group, out, "backbone", key=key, inputs=inputs, config=settings) as draft:
            checkpoint = draft.path / "checkpoints" / "last.ckpt"
            start = _steps_done(checkpoint)
            recorder = Recorder(draft.path, start=start, log_every=log_every, on_metrics=on_metrics, show=progress)
            trainer = _trainer(config, accelerator, recorder)
            source = ImageSource(
                pool,
                rows,
                config.cache_size,
                fit=config.fit,
                cache_bytes=cache_bytes,
                cache_dir=cache_dir,
                num_workers=num_workers,
                processes=processes,
                show_progress=progress,
            )
            with contextlib.closing(source):
                pin = accelerator == "gpu"
                batches = StepBatches(
                    source, order, start=start, stop=config.steps, accumulate=config.accumulate, pin=pin
                )
                trainer.fit(module, batches, ckpt_path=str(checkpoint) if start else None, weights_only=True)
            if trainer.interrupted:  # Lightning swallows Ctrl-C: what is not trained to the end must not look finished
                raise KeyboardInterrupt
            recorder.save(trainer)
            states = {
                "model": full_state(module.teacher.backbone.vit),
                "student": full_state(module.student.backbone.vit),
            }
            if group.rank == 0:
                export_backbone(module.teacher.backbone.vit, states, config, draft.path)
            draft.meta |= {
                "seed": seed,
                "steps": config.steps,
                "images": len(rows),
                "epochs": config.steps * config.batch_size / len(items),
                "pool": pool.describe(),
                "last": module.report,
            }
    return Path(out)


def _epoch(
    config: ImageSSLConfig, pool: Pool, rows: np.ndarray, repeats: np.ndarray | None
) -> tuple[Int[np.ndarray, " n"], Int[np.ndarray, " m"]]:
    """The rows, and the positions in them that make up an epoch."""
    _check("rows", rows.ndim == 1 and len(rows) > 0, f"has shape {rows.shape}", "choose at least one row")
    _check("rows", rows.dtype.kind in "iu", f"holds {rows.dtype}", "give whole numbers")
    inside = rows.min() >= 0 and rows.max() < len(pool)
    _check("rows", bool(inside), f"go from {rows.min()} to {rows.max()}", f"the pool has 0 to {len(pool) - 1}")
    counts = np.ones(len(rows), np.int64) if repeats is None else np.asarray(repeats)
    fine = counts.shape == rows.shape and counts.dtype.kind in "iu" and counts.min() >= 0
    _check("repeats", bool(fine), f"has shape {counts.shape}", f"give one count for each of the {len(rows)} rows")
    order = np.repeat(np.arange(len(rows)), counts)
    _check(
        "ssl.batch_size",
        config.batch_size <= len(order),
        f"{config.batch_size} is more than the {len(order)} images of an epoch",
        "lower it or choose more rows",
    )
    return rows.astype(np.int64), order


def _check(field: str, fine: bool, problem: str, fix: str) -> None:
    if not fine:
        raise ConfigError(field, problem, fix)


def _accelerator(device: str) -> str:
    _check("device", device in ("auto", "cpu", "cuda"), f"is {device!r}", "give auto, cpu or cuda")
    there = torch.cuda.is_available()
    _check("device", device != "cuda" or there, "torch sees no CUDA device", "give cpu or auto")
    return "gpu" if there and device != "cpu" else "cpu"


def _digest(
    settings: dict[str, Any], pool: Pool, items: Int[np.ndarray, " m"], hierarchy: Hierarchy | None, seed: int
) -> str:
    text = json.dumps({"settings": settings, "pool": pool.fingerprint, "seed": seed}, sort_keys=True)
    digest = hashlib.sha256(text.encode() + items.tobytes())
    for level in hierarchy.levels if hierarchy else []:
        digest.update(np.ascontiguousarray(level.assignment).tobytes())
    return digest.hexdigest()


@contextlib.contextmanager
def _isolated(num_threads: int | None) -> Iterator[None]:
    """Leave torch's generators and number of threads, and the process's warnings and logging, as they were."""
    threads, log = torch.get_num_threads(), logging.getLogger("pytorch_lightning")
    level = log.level
    with torch.random.fork_rng(), warnings.catch_warnings():
        warnings.filterwarnings("ignore", module="pytorch_lightning")
        warnings.filterwarnings("ignore", "FSDP2-wrapped module")  # on in-place changes of its result: we make none
        log.setLevel(logging.ERROR)  # no banner, and no advice on DataLoaders: the batches come from RAM
        try:
            torch.set_num_threads(num_threads or threads)
            yield
        finally:
            torch.set_num_threads(threads)
            log.setLevel(level)


def _steps_done(checkpoint: Path) -> int:
    """Optimizer steps in a checkpoint, 0 if there is none. A damaged one cannot be: it is renamed when whole."""
    if not checkpoint.is_file():
        return 0
    return int(torch.load(checkpoint, map_location="cpu", weights_only=True)["global_step"])


def _trainer(config: ImageSSLConfig, accelerator: str, recorder: Recorder) -> pl.Trainer:
    """Quiet; logging and saving are the recorder's."""
    return pl.Trainer(
        accelerator=accelerator,
        max_steps=config.steps,
        max_epochs=-1,
        precision=config.precision,  # type: ignore[arg-type]
        callbacks=[recorder],
        logger=False,
        enable_checkpointing=False,
        enable_progress_bar=False,
        enable_model_summary=False,
        num_sanity_val_steps=0,
        **trainer_arguments(config),
    )
