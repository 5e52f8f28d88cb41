"""One consolidated checkpoint of a run: written whole or not at all, and read only by the run that it belongs to."""

import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Literal

import pytorch_lightning as pl
import torch

from strata.curation.errors import ConfigError

Resume = Literal["auto", False] | str | Path
FORMAT = 1
_KEY = "strata"  # of what we add to Lightning's dictionary


def checkpoint_of(folder: Path) -> Path:
    """Where a run's checkpoint lies."""
    return folder / "checkpoints" / "last.ckpt"


def save_checkpoint(trainer: pl.Trainer, path: Path) -> None:
    """Weights of student and teacher, optimizer, counters: one file, for any number of processes. All must call it.

    Written beside, flushed to the disk, then renamed: a kill leaves the one before.
    """
    path.parent.mkdir(exist_ok=True)
    temporary = path.with_suffix(".tmp")
    trainer.save_checkpoint(temporary)
    if not trainer.is_global_zero:
        return
    with open(temporary, "rb") as stream:
        os.fsync(stream.fileno())
    temporary.replace(path)


class Saver(pl.Callback):
    """Saves every ``config.checkpoint_every`` steps, with whose checkpoint it is.

    Args:
        path: of the file.
        settings: those that change the result.
        seed: of the run.
        data: digest of the images and their order.
    """

    def __init__(self, path: Path, settings: Mapping[str, Any], seed: int, data: str) -> None:
        self.path = path
        self.about = {"format": FORMAT, "settings": dict(settings), "seed": seed, "data": data}

    def on_save_checkpoint(self, trainer: pl.Trainer, module: Any, checkpoint: dict[str, Any]) -> None:
        """Add whose it is."""
        checkpoint[_KEY] = self.about

    def on_train_batch_end(self, trainer: pl.Trainer, module: Any, outputs: Any, batch: Any, batch_idx: int) -> None:
        """Between steps."""
        done, config = batch.step + 1, module.config
        if batch.part + 1 == config.accumulate and done % config.checkpoint_every == 0 and done < config.steps:
            self.save(trainer)

    def save(self, trainer: pl.Trainer) -> None:
        """Now; all processes must call it."""
        save_checkpoint(trainer, self.path)


def find_checkpoint(resume: Resume, partial: Path) -> Path | None:
    """The file to go on from; None = start anew.

    Args:
        resume: "auto": what a killed run left in ``partial``, if anything. False: nothing. Else a checkpoint, or the folder of
            a run, finished or not.
        partial: the folder that this run writes.

    Raises:
        ConfigError: ``resume`` names a file or folder without a checkpoint.
    """
    own = checkpoint_of(partial)
    if resume is False:
        return None
    if resume == "auto":
        return own if own.is_file() else None
    given = Path(resume)
    for file in (given, checkpoint_of(given), checkpoint_of(given.with_name(given.name + ".partial"))):
        if file.is_file():
            return file
    raise ConfigError("resume", f"{given} is no checkpoint and no folder of a run", "give one, or auto or false")


def steps_done(path: Path, mine: Mapping[str, Any]) -> int:
    """Optimizer steps in a checkpoint, after checking that it belongs to this run.

    Args:
        path: the file.
        mine: ``Saver.about`` of this run.

    Raises:
        ConfigError: it cannot be read, is not ours, or was written with other settings, another seed or other data.
    """
    try:
        checkpoint = torch.load(path, map_location="cpu", weights_only=True, mmap=True)
    except Exception as error:  # whatever pickle and zip make of a damaged file
        problem = f"{path} cannot be read ({' '.join(str(error).split())[:200]})"
        raise ConfigError("resume", problem, "give a whole checkpoint, or resume=false") from error
    about = checkpoint.get(_KEY) if isinstance(checkpoint, dict) else None
    if not isinstance(about, dict) or about.get("format") != FORMAT:
        problem = f"{path} was not written by this trainer (format {FORMAT})"
        raise ConfigError("resume", problem, "use ssl.init_from for the weights of others")
    differing = _differences(about, mine)
    if differing:
        more = f" and {len(differing) - 3} more" if len(differing) > 3 else ""
        problem = f"{path} is of another run: {'; '.join(differing[:3])}{more}"
        raise ConfigError(
            "resume", problem, "give the same settings, or resume=false and ssl.init_from for its weights"
        )
    return int(checkpoint["global_step"])


def _differences(theirs: Mapping[str, Any], mine: Mapping[str, Any]) -> list[str]:
    found = [
        f"ssl.{name} is {theirs['settings'].get(name)!r} there and {mine['settings'].get(name)!r} here"
        for name in sorted({*theirs["settings"], *mine["settings"]})
        if theirs["settings"].get(name) != mine["settings"].get(name)
    ]
    if theirs["seed"] != mine["seed"]:
        found.append(f"seed is {theirs['seed']} there and {mine['seed']} here")
    if theirs["data"] != mine["data"]:
        found.append("it has other images")
    return found
