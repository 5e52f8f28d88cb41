"""Run a graph of stages: what is finished is kept, what is ready goes to a free worker, progress is said."""

import concurrent.futures as futures
import contextlib
import os
import sys
import threading
import time
from collections.abc import Iterator
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any

from strata.experiments.execute import describe, execute
from strata.experiments.jobs.client import ClusterClient
from strata.experiments.lock import Stopped
from strata.experiments.planning.cost import predictor
from strata.experiments.stage import KINDS, Stage
from strata.experiments.store import Store
from strata.experiments.tracking import Tracker
from strata.experiments.worker_client import StageFailed, WorkerClient, WorkerGone

HEARTBEAT = 30.0  # seconds between lines that say what is running


class Progress:
    """Counts the stages of one command and says a line for each.

    Attributes:
        count: stages that are finished.
        ran: those of them that this command ran; another command may have been quicker with the rest.
    """

    def __init__(self, todo: list[Stage], store: Store, workers: int) -> None:
        self.total, self.store, self.workers = len(todo), store, workers
        self.count = self.ran = 0
        self._predict(todo)

    def finished(self, stage: Stage, seconds: float | None, left: list[Stage]) -> None:
        """Say that a stage is finished; ``seconds`` is None if it was not run here, ``left`` what is still to do."""
        self.count += 1
        self.ran += seconds is not None
        took = "there already" if seconds is None else f"{seconds:7.1f} s"
        eta = clock(sum(self._predicted[s.key] for s in left) / self.workers)
        say(f"[{self.count:>3}/{self.total}] {name(stage):<50} {took}   ETA {eta}")
        if self.count % 10 == 0:  # the first measured rates replace the built-in ones
            self._predict(left)

    def _predict(self, stages: list[Stage]) -> None:
        seconds = predictor(self.store)
        self._predicted = {stage.key: seconds(stage)[0] for stage in stages}


@dataclass
class Runner:
    """How stages are run on this machine.

    Attributes:
        store: where they are kept.
        tracking: settings of the W&B tracker.
        workers: subprocesses at work at once; 0 runs every stage in this process, in its main thread.
        threads: threads of one stage. It is fixed, not derived from the machine: results repeat to the bit.
        log_dir: where the workers' own output goes.
        cluster: where stages are sent instead, ``workers`` of them at once; see ``check_cluster``. Empty: nowhere.
        tags: of the W&B run of each stage, by key; see ``tags.stage_tags``.
    """

    store: Store
    tracking: dict[str, Any]
    workers: int
    threads: int
    log_dir: Path
    cluster: dict[str, Any] = field(default_factory=dict)
    tags: dict[str, list[str]] = field(default_factory=dict)
    _local: threading.local = field(default_factory=threading.local)
    _stop: threading.Event = field(default_factory=threading.Event)  # set: nothing new is begun
    _starting: threading.Lock = field(default_factory=threading.Lock)
    _workers: list[WorkerClient | ClusterClient] = field(default_factory=list)
    _status: dict[str, str] = field(default_factory=dict)
    _tracking_error: str = ""

    def run(self, stages: list[Stage]) -> tuple[int, int]:
        """Run what is not finished, inputs before their users.

        Returns:
            (stages that ran, stages that were there).

        Raises:
            StrataError: a stage refused its input.
            StageFailed: a stage broke. In both cases the others that were running are finished first.
            KeyboardInterrupt: Ctrl-C; what was running is ended at once.
        """
        todo, started = [stage for stage in stages if not self.store.finished(stage)], time.time()
        progress = Progress(todo, self.store, max(1, self.workers))
        with self._no_empty_folders():
            if self.workers:
                self._run_in_workers(todo, {s.key for s in stages} - {s.key for s in todo}, progress)
            else:
                self._run_here(todo, progress)
        if self._tracking_error:
            say(f"W&B: {self._tracking_error}; nothing is lost, the results are on disk")
        reused = len(stages) - progress.ran
        say(f"{progress.ran} stages ran in {clock(time.time() - started)}, {reused} were there already")
        return progress.ran, reused

    def _run_here(self, todo: list[Stage], progress: Progress) -> None:
        """In this thread, the main one: Python gives Ctrl-C to no other."""
        tracker = Tracker(**self.tracking)
        for position, stage in enumerate(todo):
            with self._heartbeat(stage), self._held(stage):
                spec = describe(stage, self.store, self.tags.get(stage.key, []))
                seconds = execute(spec, tracker, self.threads, partial(self._note, spec))
            self._tracking_error = tracker.error
            progress.finished(stage, seconds, todo[position + 1 :])

    def _run_in_workers(self, todo: list[Stage], finished: set[str], progress: Progress) -> None:
        self._stop.clear()
        running: dict[futures.Future[float | None], Stage] = {}
        failure: BaseException | None = None
        with futures.ThreadPoolExecutor(max_workers=self.workers) as pool:
            try:
                while running or (todo and failure is None):
                    if failure is None:
                        ready = [s for s in todo if all(i.key in finished for i in s.inputs.values())]
                        for stage in ready[: self.workers - len(running)]:
                            todo.remove(stage)
                            running[pool.submit(self._send, stage)] = stage
                    done, _ = futures.wait(running, timeout=HEARTBEAT, return_when=futures.FIRST_COMPLETED)
                    if not done:
                        self._say_running(*running.values())
                    for future in done:
                        stage = running.pop(future)
                        if (error := future.exception()) is not None:
                            failure = failure or error
                            self._stop.set()
                            continue
                        finished.add(stage.key)
                        progress.finished(stage, future.result(), [*todo, *running.values()])
            finally:
                self._end_workers()
        if failure is not None:
            raise failure

    def _send(self, stage: Stage) -> float | None:
        """Run a stage in this thread's worker. One that died since its last stage is replaced, once."""
        with self._held(stage):
            if self.store.finished(stage):  # by another command, while we waited: not worth starting a worker
                return None
            spec = describe(stage, self.store, self.tags.get(stage.key, []))
            try:
                reply = self._ask(spec)
            except WorkerGone as error:
                if self._stop.is_set():
                    raise
                say(f"  {error}; another one is started")
                reply = self._ask(spec)
        self._tracking_error = self._tracking_error or reply["tracking_error"]
        return None if reply["seconds"] is None else float(reply["seconds"])

    def _ask(self, spec: dict[str, Any]) -> dict[str, Any]:
        worker = self._worker()
        try:
            return worker.run(spec, partial(self._note, spec))
        except StageFailed:
            if worker.dead:
                del self._local.worker
            raise

    def _worker(self) -> WorkerClient | ClusterClient:
        """This thread's worker, started at its first stage."""
        if not hasattr(self._local, "worker"):
            with self._starting:  # so that none is started behind the back of _end_workers
                if self._stop.is_set():
                    raise Stopped("the command is ending")
                self._local.worker = self._new_worker()
                self._workers.append(self._local.worker)
        found: WorkerClient | ClusterClient = self._local.worker
        return found

    def _new_worker(self) -> WorkerClient | ClusterClient:
        if self.cluster:
            jobs, locks = self.log_dir.parent / "jobs", self.store.root / "locks"
            return ClusterClient(self.tracking, self.threads, jobs, locks, self.cluster, say)
        log = self.log_dir / f"worker-{os.getpid()}-{len(self._workers)}.log"
        return WorkerClient(self.tracking, self.threads, log)

    def _end_workers(self) -> None:
        self._stop.set()
        with self._starting:
            for worker in self._workers:
                worker.stop()
            self._workers.clear()

    def _held(self, stage: Stage) -> contextlib.AbstractContextManager[None]:
        return self.store.lock(stage, self._stop, lambda: say(f"waiting for another run: {name(stage)}"))

    def _note(self, spec: dict[str, Any], values: dict[str, float], step: int) -> None:
        rate = f", {values['images_per_s']:,.0f} images/s" if "images_per_s" in values else ""
        self._status[spec["key"]] = f"{spec['kind']} {spec['label']} at step {step}{rate}"

    def _say_running(self, *stages: Stage) -> None:
        say(f"  running: {'; '.join(self._status.get(stage.key, name(stage)) for stage in stages)}")

    @contextlib.contextmanager
    def _heartbeat(self, stage: Stage) -> Iterator[None]:
        ended = threading.Event()

        def beat() -> None:
            while not ended.wait(HEARTBEAT):
                self._say_running(stage)

        threading.Thread(target=beat, daemon=True).start()
        try:
            yield
        finally:
            ended.set()

    @contextlib.contextmanager
    def _no_empty_folders(self) -> Iterator[None]:
        """Remove the folders that were made on the way and stayed empty, as after a refusal."""
        root = self.store.root
        inner = [*(root / kind for kind in KINDS), root / "locks", self.log_dir]
        made = {place for folder in inner for place in (folder, *folder.parents) if not place.exists()}
        try:
            yield
        finally:
            for folder in sorted(made, key=lambda place: -len(place.parts)):
                with contextlib.suppress(OSError):  # not there, or not empty
                    folder.rmdir()


def name(stage: Stage) -> str:
    """How a stage is called in progress lines."""
    return f"{stage.kind:<9} {stage.label}"


def clock(seconds: float) -> str:
    """Minutes and seconds, as people read them; hours alone from 100 on."""
    whole = round(seconds)
    hours, rest = divmod(whole, 3600)
    if hours >= 100:
        return f"{hours:,} h"
    return f"{hours}:{rest // 60:02d}:{rest % 60:02d}" if hours else f"{rest // 60}:{rest % 60:02d}"


def say(line: str) -> None:
    """Progress goes to stderr; results go to stdout."""
    print(line, file=sys.stderr, flush=True)
