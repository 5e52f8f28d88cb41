"""Weights & Biases: one run per stage, artifacts from pool to scores. Nothing waits on it, and nothing depends on it.

What W&B shows is on disk in the stage's folder first. Online, metrics are sent as they come; offline, a stage is
written as one whole run when it is finished, so that a killed and resumed stage does not become two runs.
"""

import contextlib
import json
import netrc
import os
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml

Log = Callable[[dict[str, float], int], None]
_SHOWN = ("manifest.json", "scores.json", "balance.json")  # small files that travel with the artifact


class Tracker:
    """Mirrors stages to W&B.

    Args:
        mode: "auto" (online if there is a key, else offline), "online", "offline" or "disabled".
        project: W&B project.
        entity: W&B user or team; empty for the default one.
        group: the experiment's name.
        directory: where W&B keeps its files.
        tags: tags of every run.
    """

    def __init__(
        self, mode: str, project: str, group: str, directory: str, entity: str = "", tags: tuple[str, ...] = ()
    ) -> None:
        self.mode = resolve_mode(mode)
        self.project, self.entity, self.group, self.tags = project, entity or None, group, list(tags)
        self.directory = Path(directory)
        self.error = ""  # what went wrong first; then this tracker stays silent

    @contextlib.contextmanager
    def stage(self, spec: dict[str, Any]) -> Iterator[Log]:
        """Track one stage; yields the function that takes its metrics while it runs."""
        run = self._start(spec) if self.mode == "online" else None
        try:
            yield lambda values, step: self._log(run, values, step)
        except BaseException:
            self._try(lambda: run.finish(exit_code=1) if run else None)
            raise
        live = run is not None
        run = run or (self._start(spec) if self.mode == "offline" else None)
        if run is not None:
            self._try(lambda: self._finish(run, spec, replay=not live))

    def table(
        self,
        key: str,
        columns: list[str],
        rows: list[list[Any]],
        figure: Path,
        inputs: list[Path],
        tags: list[str],
        means: dict[str, float],
        trial: "Trial | None" = None,
    ) -> None:
        """The experiment's table, figure and ``means`` ("ARM/COLUMN") as one run of job type "table"; a trial's own run."""
        if self.mode == "disabled":
            return
        told = trial.parameters if trial else {}
        spec = {"key": trial.run if trial else key, "kind": "table", "label": "table", "config": told, "inputs": {}}
        run = self._start({**spec, "tags": tags}, {"sweep_id": trial.sweep} if trial else {})

        def finish() -> None:
            import wandb

            for folder in inputs:
                _use(run, _artifact(folder))
            shown = {"table": wandb.Table(columns=list(columns), data=rows), "figure": wandb.Image(str(figure))}
            run.log({**shown, **means})
            run.finish()

        if run is not None:
            self._try(finish)

    def _start(self, spec: dict[str, Any], settings: dict[str, Any] | None = None) -> Any:
        def start() -> Any:
            import wandb

            self.directory.mkdir(parents=True, exist_ok=True)
            return wandb.init(
                project=self.project,
                entity=self.entity,
                group=self.group,
                job_type=spec["kind"],
                id=spec["key"],
                name=f"{spec['kind']} {spec['label']}",
                tags=list(dict.fromkeys([*self.tags, *spec.get("tags", [])])),
                config={**spec["config"], "inputs": {role: Path(path).name for role, path in spec["inputs"].items()}},
                dir=str(self.directory),
                mode=self.mode,  # type: ignore[arg-type]
                resume="allow" if self.mode == "online" else None,
                reinit="create_new",
                settings=wandb.Settings(console="off", silent=True, x_disable_stats=True, **(settings or {})),
            )

        return None if self.error else self._try(start)

    def _finish(self, run: Any, spec: dict[str, Any], replay: bool) -> None:
        out = Path(spec["out"])
        for folder in spec["inputs"].values():
            _use(run, _artifact(Path(folder)))
        history = out / "metrics.jsonl"
        if replay and history.is_file():
            for line in history.read_text().splitlines():
                values = json.loads(line)
                run.log(values, step=int(values.pop("step")))
        for name, value in _summary(out).items():
            run.summary[name] = value
        run.log_artifact(_artifact(out))
        run.finish()

    def _log(self, run: Any, values: dict[str, float], step: int) -> None:
        if run is not None:
            self._try(lambda: run.log(values, step=step))

    def _try(self, action: Callable[[], Any]) -> Any:
        """W&B never stops training: the first failure is kept for the report, then tracking is off."""
        if self.error:
            return None
        try:
            return action()
        except Exception as error:
            self.error = f"tracking is off after {type(error).__name__}: {' '.join(str(error).split())[:200]}"
            return None


@dataclass(frozen=True)
class Trial:
    """One trial of a W&B sweep: the sweep's id, the id of the trial's run, and the settings that the sweep chose."""

    sweep: str
    run: str
    parameters: dict[str, Any]


def take_trial() -> Trial | None:
    """The trial that `wandb agent` has started this command for, taken out of the environment; None if it has not.

    Left there, W&B gives the trial's id to every run begun under it; but a stage has a run of its own, whichever
    trial was the first to need it, and the trial's run is that of the table.
    """
    if not os.environ.get("WANDB_SWEEP_ID"):
        return None
    sweep, run, path = (
        os.environ.pop(name, "") for name in ("WANDB_SWEEP_ID", "WANDB_RUN_ID", "WANDB_SWEEP_PARAM_PATH")
    )
    told = (yaml.safe_load(Path(path).read_text()) or {}) if path else {}
    return Trial(sweep, run, {name: one["value"] for name, one in told.items() if isinstance(one, dict)})


def resolve_mode(mode: str) -> str:
    """ "auto" -> what WANDB_MODE says, else "online" if an API key is set, else "offline"."""
    if mode != "auto":
        return mode
    if os.environ.get("WANDB_MODE"):
        return os.environ["WANDB_MODE"]
    if os.environ.get("WANDB_API_KEY"):
        return "online"
    with contextlib.suppress(OSError, netrc.NetrcParseError):
        if any("wandb" in host for host in netrc.netrc().hosts):
            return "online"
    return "offline"


def _artifact(folder: Path) -> Any:
    """The W&B artifact of a stage's folder: equal folders give equal digests, so lineage joins up across runs."""
    import wandb

    manifest = json.loads((folder / "manifest.json").read_text())
    artifact = wandb.Artifact(f"{manifest['kind']}-{folder.name}", type=manifest["kind"], metadata={"key": folder.name})
    for name in _SHOWN:
        if (folder / name).is_file():
            artifact.add_file(str(folder / name), name=name)
    artifact.add_reference(f"file://{folder}", name="folder", checksum=False)
    return artifact


def _use(run: Any, artifact: Any) -> None:
    """Declare an input. Offline, ``use_artifact`` refuses, so we write the record that it writes for a new artifact.

    `wandb sync` turns that record into the edge of the lineage graph.
    """
    if run.settings._offline:
        run._log_artifact(artifact, is_user_created=True, use_after_commit=True)
    else:
        run.use_artifact(artifact)


def _summary(out: Path) -> dict[str, Any]:
    """Numbers of a finished stage that are worth a column in W&B."""
    values: dict[str, Any] = {}
    if (out / "scores.json").is_file():
        for score in json.loads((out / "scores.json").read_text()):
            values[f"eval/{score['protocol']}/{score['benchmark']}/{score['metric']}"] = score["value"]
    if (out / "balance.json").is_file():
        labels = json.loads((out / "balance.json").read_text()).get("labels") or {}  # null: a pool without labels
        numbers = labels.get("subset", {})
        values |= {f"balance/{name}": value for name, value in numbers.items()}
    return values
