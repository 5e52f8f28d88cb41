"""Where finished stages lie: ``<root>/<kind>/<key>/``, one folder each, shared by all experiments."""

import json
import threading
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager
from pathlib import Path
from typing import Any

from strata.curation.artifact import read_manifest
from strata.curation.errors import DataError
from strata.experiments.lock import hold
from strata.experiments.stage import Stage


class Store:
    """Content-keyed folders under ``root``. Nothing is created before something is written."""

    def __init__(self, root: str | Path) -> None:
        self.root = Path(root).absolute()

    def path(self, stage: Stage) -> Path:
        """The folder that the stage makes."""
        return self.root / stage.kind / stage.key

    def done(self, stage: Stage) -> bool:
        """Whether its folder is whole (it is renamed into place only when it is)."""
        return (self.path(stage) / "manifest.json").is_file()

    def started(self, stage: Stage) -> bool:
        """Whether an interrupted run left something to resume from."""
        return self.path(stage).with_name(stage.key + ".partial").is_dir()

    def finished(self, stage: Stage) -> bool:
        """Whether its folder is whole, tracked, and says how it was run: there is nothing left to do for it."""
        return self.done(stage) and bool(self.provenance(stage))

    def lock(self, stage: Stage, stop: threading.Event, on_wait: Callable[[], None]) -> AbstractContextManager[None]:
        """Hold a stage, so that two commands never run it at once; see ``lock.hold``."""
        return hold(self.root / "locks" / f"{stage.kind}-{stage.key}", stop, on_wait)

    def provenance(self, stage: Stage) -> dict[str, Any]:
        """How the stage was run; empty if its run was killed just before that was written."""
        file = self.path(stage) / "run.json"
        return json.loads(file.read_text()) if file.is_file() else {}

    def seconds(self, kind: str) -> list[tuple[float, float]]:
        """(work, seconds) of every stage of a kind that was timed whole: the measured rates behind ``strata plan``."""
        runs = [json.loads(file.read_text()) for file in (self.root / kind).glob("*/run.json")]
        timed = [run for run in runs if run.get("work") and run.get("seconds") and not run.get("resumed")]
        return [(run["work"], run["seconds"]) for run in timed]

    def find(self, key: str) -> Path:
        """The one finished folder whose key starts with ``key``.

        Raises:
            DataError: none, or more than one.
        """
        found = [path for path in self.root.glob(f"*/{key}*") if (path / "manifest.json").is_file()]
        if len(found) != 1:
            what = "no stage" if not found else f"{len(found)} stages"
            raise DataError(
                f"key {key!r} names {what} in {self.root}; give the key as `strata plan` or a table prints it"
            )
        return found[0]

    def kept(self, folder: Path) -> Stage:
        """A finished folder as a stage that others can build on: it is never run again, whatever made it."""
        stage = Stage(folder.parent.name, read_manifest(folder)["config"] or {}, label="kept")
        stage.__dict__["key"] = folder.name  # not computed: the code that made it may have been another version
        return stage

    def has(self, key: str) -> bool:
        """Whether exactly the stage of this key is here (an input made elsewhere need not be)."""
        return any((path / "manifest.json").is_file() for path in self.root.glob(f"*/{key}"))

    def lineage(self, path: Path) -> Iterator[tuple[int, Path, dict[str, Any]]]:
        """The chain behind a folder: (depth, folder, manifest), the folder itself first; it ends where a stage is not here."""
        stack = [(0, path)]
        while stack:
            depth, folder = stack.pop()
            manifest = read_manifest(folder)
            yield depth, folder, manifest
            stack += [(depth + 1, self.find(key)) for key in manifest["inputs"].values() if self.has(key)]
