"""Self-supervised training on a subset of a pool: one function, one folder."""

import contextlib
import hashlib
import json
import logging
import shutil
import sys
import warnings
from collections.abc import Callable, Iterator, Mapping
from dataclasses import asdict
from pathlib import Path

import numpy as np
import pytorch_lightning as pl
import torch
from jaxtyping import Int

from strata.curation.artifact import Draft
from strata.curation.errors import ConfigError
from strata.curation.hierarchy import Hierarchy
from strata.curation.pools.band_scale import BandScale
from strata.curation.pools.band_statistics import BandStatistics
from strata.curation.pools.base import Pool
from strata.ssl.image.alarm import CollapseAlarm, CollapsedRun
from strata.ssl.image.bands import fit_to_bands
from strata.ssl.image.checkpoint import Resume, Saver, checkpoint_of, find_checkpoint, steps_done
from strata.ssl.image.config import HOW_IT_RUNS, ImageSSLConfig
from strata.ssl.image.data import ImageSource, StepBatches
from strata.ssl.image.export import export_backbone
from strata.ssl.image.initial import Match, load_initial
from strata.ssl.image.learner import Learner
from strata.ssl.image.mae import MAE
from strata.ssl.image.module import DINOv2
from strata.ssl.image.not_finite import NotFinite
from strata.ssl.image.order import training_order
from strata.ssl.image.preemption import StopOnSignal
from strata.ssl.image.probe import Probe, ProbeCallback
from strata.ssl.image.processes import full_state, join_processes, shared_artifact, trainer_arguments
from strata.ssl.image.recorder import Recorder, StepEnd
from strata.ssl.image.simclr import SimCLR

_LEARNERS: dict[str, type[Learner]] = {"dinov2": DINOv2, "simclr": SimCLR, "mae": MAE}


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
    bands: BandStatistics | None = None,
    log_every: int = 20,
    resume: Resume = "auto",
    probe: Probe | None = None,
    probe_every: int = 1_000,
    on_metrics: Callable[[dict[str, float], int], None] | None = None,
    progress: bool = True,
) -> Path:
    """Train a backbone by ``config.method``, and export it: of DINOv2 the teacher and the student.

    Under several processes (torchrun, Slurm; see ``processes``) each calls this with the same arguments.

    A run that was killed goes on from its last checkpoint (``config.checkpoint_every`` steps apart) and on the CPU ends
    with the weights of an uninterrupted one: data order, crops and masks are functions of (seed, step).

    Args:
        config: everything that changes the result.
        pool: where the images are, or tiles of ``ssl.in_chans`` bands.
        rows: which rows of it to train on, [n].
        out: the folder to make, an artifact of kind "backbone": ``model.safetensors`` and ``config.json`` (the teacher,
            for timm), ``student.safetensors`` (DINOv2), ``metrics.jsonl``, ``checkpoints/last.ckpt``. A run that is stopped
            because it is ill leaves ``<out>.failed`` instead: its log and last checkpoint, and the batch if a number in it is
            not finite.
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
        bands: statistics of the pool: of tiles, or where ``ssl.mean`` is left to them.
        log_every: steps between lines of ``metrics.jsonl``.
        resume: "auto": go on from what a killed run of the same settings left, else start anew; False: start anew; or a
            checkpoint, or the folder of a run, of the same settings, seed and images.
        probe: measures the backbone every ``probe_every`` steps (a multiple of ``log_every``) and at the end; see ``probe``.
        on_metrics: called with each line's values and its step.
        progress: bars on stderr.

    Raises:
        ConfigError: rows, repeats, seed, device, a setting, the checkpoint or the initial weights cannot be.
        CollapsedRun: see ``alarm``. NotFinite: a loss or gradient; names the first bad tensor.
        Preempted: a signal ended the run, which is saved; see ``preemption``.
        StrataError: ``out`` exists. UnreadableItem: an image cannot be decoded.
    """
    rows, items = _epoch(config, pool, np.asarray(rows), repeats)
    _check("seed", 0 <= seed < 2**32, f"is {seed}", "give a number from 0 to 2^32 - 1")
    _check("log_every", log_every >= 1, f"is {log_every}", "give at least 1")
    config, scale = fit_to_bands(config, pool, bands)
    _check_probe(config, probe, probe_every, log_every)
    order = training_order(config, rows, repeats, hierarchy, seed)
    accelerator = _accelerator(device)
    group = join_processes(config, accelerator)
    settings = asdict(config)
    own = {name: value for name, value in settings.items() if name not in HOW_IT_RUNS}
    data = _digest(pool, rows[items], hierarchy, scale)
    key = key or hashlib.sha256(json.dumps([own, data, seed], sort_keys=True).encode()).hexdigest()
    partial = Path(out).with_name(Path(out).name + ".partial")
    if resume is False and group.rank == 0:
        shutil.rmtree(partial, ignore_errors=True)
    with _isolated(num_threads):
        module = _LEARNERS[config.method](config, seed)
        with (
            shared_artifact(group, out, "backbone", key=key, inputs=inputs, config=settings) as draft,
            _kept_if_ill(draft, Path(out), group.rank == 0),
        ):
            saver = Saver(checkpoint_of(draft.path), own, seed, data)
            checkpoint = find_checkpoint(resume, draft.path)
            start = steps_done(checkpoint, saver.about) if checkpoint else 0
            initial = _fill(module, config.init_from, progress and group.rank == 0) if config.init_from else None
            module.bad_batch = draft.path / f"bad_batch{f'_{group.rank}' if group.size > 1 else ''}.safetensors"
            recorder = Recorder(draft.path, start=start, log_every=log_every, on_metrics=on_metrics, show=progress)
            stopper = StopOnSignal(saver.save)
            probes = [ProbeCallback(probe, probe_every)] if probe else []
            alarm = CollapseAlarm(config.alarm, config.warmup_steps)
            trainer = _trainer(config, accelerator, [*probes, recorder, alarm, saver, stopper, StepEnd(recorder)])
            source = ImageSource(
                pool,
                rows,
                config.cache_size,
                fit=config.fit,
                cache_bytes=cache_bytes,
                cache_dir=cache_dir,
                scale=scale,
                num_workers=num_workers,
                processes=processes,
                show_progress=progress,
            )
            with contextlib.closing(source):
                pin = accelerator == "gpu"
                batches = StepBatches(
                    source, order, start=start, stop=config.steps, accumulate=config.accumulate, pin=pin
                )
                trainer.fit(module, batches, ckpt_path=str(checkpoint) if checkpoint else None, weights_only=True)
            stopper.raise_if_stopped(group.rank == 0)
            if trainer.interrupted:  # Lightning swallows Ctrl-C: what is not trained to the end must not look finished
                raise KeyboardInterrupt
            saver.save(trainer)
            states = {name: full_state(vit) for name, vit in module.exports().items()}
            if group.rank == 0:
                export_backbone(module.backbone.vit, states, config, draft.path, scale)
            draft.meta |= {
                "seed": seed,
                "steps": config.steps,
                "images": len(rows),
                "epochs": config.steps * config.batch_size / len(items),
                "pool": pool.describe(),
                "last": module.report,
            }
            if initial:
                draft.meta["init_from"] = {
                    "source": initial.source,
                    "matched": len(initial.matched),
                    "unused": initial.unused,
                }
    return Path(out)


@contextlib.contextmanager
def _kept_if_ill(draft: Draft, out: Path, first: bool) -> Iterator[None]:
    """A run that stops itself is moved to ``<out>.failed``, so that one can see why; the error says where."""
    try:
        yield
    except (CollapsedRun, NotFinite) as error:
        failed = out.with_name(out.name + ".failed")
        if first:
            shutil.rmtree(failed, ignore_errors=True)
            draft.path.replace(failed)
        error.args = (f"{error} [log and batch: {failed}]",)
        raise


def _fill(module: Learner, source: str, show: bool) -> Match:
    """Give the initial weights to every backbone, and say what matched."""
    state, match = load_initial(source, module.backbone.vit)
    for vit in module.exports().values():
        vit.load_state_dict(state, strict=True)
    if show:
        print(match.summary(), file=sys.stderr)
    return match


def _check_probe(config: ImageSSLConfig, probe: Probe | None, every: int, log_every: int) -> None:
    if probe is None:
        return
    fine = every >= 1 and every % log_every == 0
    _check("probe_every", fine, f"is {every}", f"give a multiple of log_every={log_every}")
    _check("probe", config.strategy != "fsdp", "cannot call a backbone that is spread by fsdp", "use ssl.strategy=ddp")


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


def _digest(pool: Pool, items: Int[np.ndarray, " m"], hierarchy: Hierarchy | None, scale: BandScale | None) -> str:
    """Of the images and of how often, or by what, they are drawn."""
    digest = hashlib.sha256(pool.fingerprint.encode() + items.tobytes())
    digest.update(repr(scale).encode() if scale else b"")
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


def _trainer(config: ImageSSLConfig, accelerator: str, callbacks: list[pl.Callback]) -> pl.Trainer:
    """Quiet; logging and saving are the callbacks'."""
    return pl.Trainer(
        accelerator=accelerator,
        max_steps=config.steps,
        max_epochs=-1,
        precision=config.precision,  # type: ignore[arg-type]
        callbacks=callbacks,
        logger=False,
        enable_checkpointing=False,
        enable_progress_bar=False,
        enable_model_summary=False,
        num_sanity_val_steps=0,
        **trainer_arguments(config),
    )
