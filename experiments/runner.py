"""Run a graph of stages: what is finished is kept, what is ready goes to a free worker, progress is said."""

import concurrent.futures as futures
import json
import os
import subprocess
import sys
import threading
import time
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from strata.curation.errors import StrataError
from strata.experiments.cost import predict
from strata.experiments.execute import describe, execute
from strata.experiments.stage import Stage
from strata.experiments.store import Store
from strata.experiments.tracking import Tracker

HEARTBEAT = 30.0  # seconds between lines that say what is running


class StageFailed(RuntimeError):
    """A stage ended with an error that is not the user's; the message is its traceback."""


@dataclass
class Runner:
    """How stages are run on this machine.

    Attributes:
        store: where they are kept.
        tracking: settings of the W&B tracker.
        workers: subprocesses at work at once; 0 runs every stage in this process.
        threads: threads of one stage. It is fixed, not derived from the machine: results repeat to the bit.
        log_dir: where the workers' own output goes.
    """

    store: Store
    tracking: dict[str, Any]
    workers: int
    threads: int
    log_dir: Path
    _local: threading.local = field(default_factory=threading.local)
    _processes: list["subprocess.Popen[str]"] = field(default_factory=list)
    _status: dict[str, str] = field(default_factory=dict)
    _tracking_error: str = ""

    def run(self, stages: list[Stage]) -> tuple[int, int]:
        """Run what is not finished, inputs before their users.

        Returns:
            (stages that ran, stages that were there).

        Raises:
            StrataError: a stage refused its input.
            StageFailed: a stage broke. In both cases the others that were running are finished first.
        """
        todo = [stage for stage in stages if not (self.store.done(stage) and self.store.provenance(stage))]
        finished = {stage.key for stage in stages} - {stage.key for stage in todo}
        reused, total, started = len(finished), len(todo), time.time()
        predicted = {stage.key: predict(stage, self.store)[0] for stage in todo}
        running: dict[futures.Future[float], Stage] = {}
        failure: BaseException | None = None
        with futures.ThreadPoolExecutor(max_workers=max(1, self.workers)) as pool:
            try:
                while running or (todo and failure is None):
                    if failure is None:
                        ready = [s for s in todo if all(i.key in finished for i in s.inputs.values())]
                        for stage in ready[: max(1, self.workers) - len(running)]:
                            todo.remove(stage)
                            running[pool.submit(self._run_one, stage)] = stage
                    done, _ = futures.wait(running, timeout=HEARTBEAT, return_when=futures.FIRST_COMPLETED)
                    if not done:
                        say(f"  running: {'; '.join(self._status.get(s.key, name(s)) for s in running.values())}")
                    for future in done:
                        stage = running.pop(future)
                        if (error := future.exception()) is not None:
                            failure = failure or error
                            continue
                        finished.add(stage.key)
                        count = len(finished) - reused
                        left = sum(predicted[s.key] for s in [*todo, *running.values()]) / max(1, self.workers)
                        say(f"[{count:>3}/{total}] {name(stage):<50} {future.result():7.1f} s   ETA {clock(left)}")
                        if count % 10 == 0:  # the first measured rates replace the built-in ones
                            predicted = {s.key: predict(s, self.store)[0] for s in [*todo, *running.values()]}
            finally:
                self._stop()
        if self._tracking_error:
            say(f"W&B: {self._tracking_error}; nothing is lost, the results are on disk")
        if failure is not None:
            raise failure
        say(f"{total} stages ran in {clock(time.time() - started)}, {reused} were there already")
        return total, reused

    def _run_one(self, stage: Stage) -> float:
        with self.store.lock(stage):
            spec = describe(stage, self.store)
            if self.workers == 0:
                return execute(spec, self._own_tracker(), self.threads)
            return self._send(spec)

    def _own_tracker(self) -> Tracker:
        if not hasattr(self._local, "tracker"):
            self._local.tracker = Tracker(**self.tracking)
        tracker: Tracker = self._local.tracker
        return tracker

    def _send(self, spec: dict[str, Any]) -> float:
        process = self._process()
        assert process.stdin is not None and process.stdout is not None
        process.stdin.write(json.dumps(spec) + "\n")
        process.stdin.flush()
        for line in process.stdout:
            reply = json.loads(line)
            if reply["event"] == "metrics":
                values = reply["values"]
                rate = f", {values['images_per_s']:,.0f} images/s" if "images_per_s" in values else ""
                self._status[spec["key"]] = f"{spec['kind']} {spec['label']} at step {reply['step']}{rate}"
            elif reply["event"] == "done":
                self._tracking_error = self._tracking_error or reply["tracking_error"]
                return float(reply["seconds"])
            elif reply["event"] == "refused":
                raise StrataError(reply["message"])
            else:
                raise StageFailed(f"stage {spec['kind']} ({spec['label']}) broke:\n{reply['message']}")
        del self._local.process
        raise StageFailed(
            f"the worker of stage {spec['kind']} ({spec['label']}) died (killed, or out of memory); "
            f"its output is in {self.log_dir}; run the same command again to resume"
        )

    def _process(self) -> "subprocess.Popen[str]":
        """This thread's worker, started at its first stage."""
        if not hasattr(self._local, "process"):
            self.log_dir.mkdir(parents=True, exist_ok=True)
            threads = str(self.threads)
            environment = os.environ | {
                n: threads for n in ("OMP_NUM_THREADS", "MKL_NUM_THREADS", "OPENBLAS_NUM_THREADS")
            }
            environment.setdefault("STRATA_COMMAND", " ".join(sys.argv))
            with open(self.log_dir / f"worker-{len(self._processes)}.log", "a") as log:
                process = subprocess.Popen(
                    [sys.executable, "-m", "strata.experiments.worker"],
                    stdin=subprocess.PIPE,
                    stdout=subprocess.PIPE,
                    stderr=log,
                    text=True,
                    env=environment,
                )
            assert process.stdin is not None
            process.stdin.write(json.dumps({"tracking": self.tracking, "threads": self.threads}) + "\n")
            self._processes.append(process)
            self._local.process = process
        found: subprocess.Popen[str] = self._local.process
        return found

    def _stop(self) -> None:
        for process in self._processes:
            process.kill()
            process.wait()


def name(stage: Stage) -> str:
    """How a stage is called in progress lines."""
    return f"{stage.kind:<9} {stage.label}"


def clock(seconds: float) -> str:
    """Minutes and seconds, as people read them."""
    whole = round(seconds)
    hours, rest = divmod(whole, 3600)
    return f"{hours}:{rest // 60:02d}:{rest % 60:02d}" if hours else f"{rest // 60}:{rest % 60:02d}"


def say(line: str) -> None:
    """Progress goes to stderr; results go to stdout."""
    print(line, file=sys.stderr, flush=True)
