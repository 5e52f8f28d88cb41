"""Self-supervised training on a subset of a pool: one function, one folder."""

import logging
import warnings
from collections.abc import Callable, Mapping
from dataclasses import asdict
from pathlib import Path

import numpy as np
import pytorch_lightning as pl
import torch
from jaxtyping import Int
from pytorch_lightning.plugins.environments import LightningEnvironment

from strata.curation.artifact import create_artifact
from strata.curation.errors import ConfigError
from strata.curation.pools.base import Pool
from strata.ssl.image.config import ImageSSLConfig
from strata.ssl.image.data import ImageSource, StepBatches
from strata.ssl.image.export import export_backbone
from strata.ssl.image.module import DINOv2
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
    num_workers: int = 1,
    cache_bytes: int = 4 << 30,
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
        key, inputs: see ``create_artifact``.
        device: "auto", "cpu" or "cuda".
        num_workers: threads that decode images.
        cache_bytes: images are decoded once into RAM if they fit.
        log_every: steps between lines of ``metrics.jsonl``.
        on_metrics: called with each line's values and its step.
        progress: bars on stderr.

    Raises:
        ConfigError: no rows, or a setting that cannot be. CollapsedRun: see ``health``. StrataError: a loss is not finite.
        UnreadableItem: an image cannot be decoded.
    """
    if len(rows) == 0:
        raise ConfigError("size", "there are no images to train on", "choose at least one row")
    rows = np.asarray(rows, dtype=np.int64)
    module = DINOv2(config, seed)
    with create_artifact(out, "backbone", key=key, inputs=inputs, config=asdict(config)) as draft:
        checkpoint = draft.path / "checkpoints" / "last.ckpt"
        start = _steps_done(checkpoint)
        source = ImageSource(
            pool, rows, config.cache_size, cache_bytes=cache_bytes, num_workers=num_workers, show_progress=progress
        )
        order = np.repeat(np.arange(len(rows)), 1 if repeats is None else repeats)
        batches = StepBatches(source, order, config.batch_size, start=start, stop=config.steps, seed=seed)
        recorder = Recorder(draft.path, start=start, log_every=log_every, on_metrics=on_metrics, show=progress)
        trainer = _trainer(config, device, recorder)
        try:
            trainer.fit(module, batches, ckpt_path=str(checkpoint) if start else None, weights_only=True)
        finally:
            source.close()
        if trainer.interrupted:  # Lightning swallows Ctrl-C: what is not trained to the end must not look finished
            raise KeyboardInterrupt
        recorder.checkpoint.parent.mkdir(exist_ok=True)
        trainer.save_checkpoint(recorder.checkpoint)
        export_backbone(module.teacher.backbone.vit, module.student.backbone.vit, config, draft.path)
        draft.meta |= {
            "seed": seed,
            "steps": config.steps,
            "images": len(rows),
            "epochs": config.steps * config.batch_size / len(order),
            "pool": pool.describe(),
            "last": module.report,
        }
    return Path(out)


def _steps_done(checkpoint: Path) -> int:
    """Optimizer steps in a checkpoint, 0 if there is none. A damaged one cannot be: it is renamed when whole."""
    if not checkpoint.is_file():
        return 0
    return int(torch.load(checkpoint, map_location="cpu", weights_only=True)["global_step"])


def _trainer(config: ImageSSLConfig, device: str, recorder: Recorder) -> pl.Trainer:
    """One process on one device, quiet; logging and saving are the recorder's."""
    logging.getLogger("pytorch_lightning").setLevel(logging.ERROR)
    warnings.filterwarnings("ignore", module="pytorch_lightning")
    accelerator = {"auto": "auto", "cpu": "cpu"}.get(device, "gpu")
    return pl.Trainer(
        accelerator=accelerator,
        devices=1,
        plugins=[LightningEnvironment()],
        max_steps=config.steps,
        max_epochs=-1,
        precision=config.precision,  # type: ignore[arg-type]
        callbacks=[recorder],
        logger=False,
        enable_checkpointing=False,
        enable_progress_bar=False,
        enable_model_summary=False,
        num_sanity_val_steps=0,
        use_distributed_sampler=False,
    )
