"""What a killed fit goes on from: centroids and a few numbers; labels follow from them, exactly.

A checkpoint is one file, written under another name and renamed when whole. It lies in a folder named by what determines
the result: the settings and a fingerprint of the data. Another fit in the same ``checkpoint_dir`` has another folder.
Process 0 writes; what it reads is sent to the others, so that all go on from the same step. Centroids that are shared
out stand in a file of their own, into which each process writes its part, and which the state names.
"""

import hashlib
import io
import json
import os
import time
import uuid
import zipfile
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from jaxtyping import Float

from strata.curation.errors import DataError
from strata.curation.kmeans.group import ALONE, Group
from strata.curation.kmeans.part_files import write_parts
from strata.curation.kmeans.share import Share

VERSION = 1  # raised when the same settings and data would give other centroids


@dataclass
class Checkpoints:
    """Named states of one fit."""

    folder: Path
    group: Group = ALONE
    every: float = 60.0  # seconds between states inside a run of k-means
    _written: float = field(default_factory=time.monotonic)

    @classmethod
    def of_fit(
        cls, checkpoint_dir: str | Path, settings: Mapping[str, Any], fingerprint: str, group: Group, every: float
    ) -> "Checkpoints":
        """Those of a fit with these settings (JSON-able) on the data with this fingerprint."""
        described = json.dumps([VERSION, dict(settings), fingerprint], sort_keys=True, default=str)
        folder = Path(checkpoint_dir) / hashlib.sha256(described.encode()).hexdigest()[:16]
        if group.rank == 0:
            folder.mkdir(parents=True, exist_ok=True)
        return cls(folder, group, every)

    def save(self, name: str, centroids: Float[np.ndarray, "s d"], values: Mapping[str, Any], share: Share) -> None:
        """Write a state in place of the one of the same name; of shared centroids each process gives its part."""
        parts = None
        if not share.is_whole:
            parts = f"{name}-{uuid.UUID(bytes=self.group.bytes_from_first(uuid.uuid4().bytes)).hex}.npy"
            write_parts(self.folder / parts, centroids, share)
        if self.group.rank == 0:
            file = self.folder / f"{name}.npz"
            temporary = file.with_suffix(".tmp")
            held: dict[str, Any] = {"centroids": centroids} if parts is None else {"parts": np.array(parts)}
            with open(temporary, "wb") as stream:
                np.savez(stream, values=np.array(json.dumps(values)), **held)
                stream.flush()
                os.fsync(stream.fileno())
            temporary.replace(file)
            self._remove_parts(name, but=parts)
        self._written = time.monotonic()

    def load(self, name: str, share: Share) -> tuple[Float[np.ndarray, "s d"], dict[str, Any]] | None:
        """The state of this name, with this process's part of the centroids; None if there is none.

        Raises:
            DataError: the file is damaged.
        """
        file = self.folder / f"{name}.npz"
        content = self.group.bytes_from_first(file.read_bytes() if self.group.rank == 0 and file.is_file() else None)
        if content is None:
            return None
        try:
            with np.load(io.BytesIO(content), allow_pickle=False) as state:
                values = json.loads(str(state["values"]))
                if "centroids" in state:
                    return state["centroids"][share.own], values
                return np.array(np.load(self.folder / str(state["parts"]), mmap_mode="r")[share.own]), values
        except (OSError, ValueError, KeyError, zipfile.BadZipFile) as error:
            raise DataError(f"{file} cannot be read ({error}); remove it, and fit again") from error

    def is_due(self) -> bool:
        """Whether the time between two states is over, by the clock of process 0."""
        return bool(self.group.from_rank(np.array([int(time.monotonic() - self._written >= self.every)]))[0])

    def remove(self, name: str) -> None:
        """Forget a state."""
        if self.group.rank == 0:
            (self.folder / f"{name}.npz").unlink(missing_ok=True)
            self._remove_parts(name)

    def _remove_parts(self, name: str, but: str | None = None) -> None:
        for file in self.folder.glob(f"{name}-{'?' * 32}.npy"):
            if file.name != but:
                file.unlink(missing_ok=True)


@dataclass
class RunState:
    """How far one run of Lloyd's iterations has come: its centroids, and the inertia of each iteration before them."""

    checkpoints: Checkpoints
    name: str
    share: Share

    def load(self, rng: np.random.Generator | None = None) -> tuple[Float[np.ndarray, "k d"], list[float]] | None:
        """Centroids and history, if the run was begun; ``rng`` is put where it was."""
        found = self.checkpoints.load(self.name, self.share)
        if found is None:
            return None
        if rng is not None:
            rng.bit_generator.state = found[1]["rng"]
        return found[0], found[1]["history"]

    def save(
        self, centroids: Float[np.ndarray, "k d"], history: list[float], rng: np.random.Generator | None = None
    ) -> None:
        """Keep the start, and then the newest state every so many seconds; with ``rng`` where its draws stand."""
        if not history or self.checkpoints.is_due():
            state = None if rng is None else rng.bit_generator.state
            self.checkpoints.save(self.name, centroids, {"history": history, "rng": state}, self.share)
