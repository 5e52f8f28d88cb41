"""The other end of a worker: start one, hand it stages, read its replies, end it."""

import contextlib
import json
import os
import signal
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

from strata.curation.errors import StrataError

_THREAD_VARIABLES = ("OMP_NUM_THREADS", "MKL_NUM_THREADS", "OPENBLAS_NUM_THREADS")


class StageFailed(RuntimeError):
    """A stage ended with an error that is not the user's; the message is its traceback."""


class WorkerGone(StageFailed):
    """The worker had died before it was given the stage: another one can run it."""


class WorkerClient:
    """One worker subprocess.

    Args:
        tracking: settings of its W&B tracker.
        threads: threads of one stage.
        log: where its own output goes; removed at the end if it is empty, or if no stage got past its input.
    """

    def __init__(self, tracking: dict[str, Any], threads: int, log: Path) -> None:
        log.parent.mkdir(parents=True, exist_ok=True)
        self.log, self._used = log, False
        environment = os.environ | dict.fromkeys(_THREAD_VARIABLES, str(threads))
        environment.setdefault("STRATA_COMMAND", " ".join(sys.argv))
        with open(log, "a") as stream:
            self.process = subprocess.Popen(
                [sys.executable, "-m", "strata.experiments.worker"],
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=stream,
                text=True,
                env=environment,
                start_new_session=True,  # Ctrl-C reaches us only, and we end it together with its own children
            )
        self._settings = json.dumps({"tracking": tracking, "threads": threads}) + "\n"

    def run(self, spec: dict[str, Any], on_metrics: Callable[[dict[str, float], int], None]) -> dict[str, Any]:
        """Run one stage there.

        Returns:
            Its last reply: ``seconds`` (None if the stage was finished before) and ``tracking_error``.

        Raises:
            WorkerGone: it was dead before the stage was sent.
            StrataError: the stage refused its input.
            StageFailed: the stage broke, or the worker died in it.
        """
        stdin, stdout = self.process.stdin, self.process.stdout
        assert stdin is not None and stdout is not None
        try:
            stdin.write(self._settings + json.dumps(spec) + "\n")
            stdin.flush()
        except OSError as error:
            with contextlib.suppress(OSError):
                stdin.close()
            raise WorkerGone(self._death(f"the worker for stage {spec['kind']} ({spec['label']})")) from error
        self._settings = ""
        for line in stdout:
            if not line.endswith("\n"):
                break  # it died while it wrote
            reply: dict[str, Any] = json.loads(line)
            if reply["event"] == "metrics":
                on_metrics(reply["values"], reply["step"])
            elif reply["event"] == "done":
                self._used = True
                return reply
            elif reply["event"] == "refused":
                raise StrataError(reply["message"])
            else:
                self._used = True
                raise StageFailed(f"stage {spec['kind']} ({spec['label']}) broke:\n{reply['message']}")
        died = self._death(f"the worker of stage {spec['kind']} ({spec['label']})")
        raise StageFailed(f"{died}; run the same command again to resume")

    @property
    def dead(self) -> bool:
        """Whether it ended without being told to."""
        return self.process.poll() is not None

    def stop(self) -> None:
        """End it and whatever it started, at once."""
        needless = not self.dead and (not self._used or self.log.stat().st_size == 0)
        with contextlib.suppress(ProcessLookupError):
            os.killpg(self.process.pid, signal.SIGKILL)
        self.process.wait()
        if needless:
            self.log.unlink(missing_ok=True)

    def _death(self, who: str) -> str:
        code: int | None = None
        with contextlib.suppress(subprocess.TimeoutExpired):  # its pipes are closed, so it is about to end
            code = self.process.wait(timeout=5)
        why = "killed, or out of memory" if code is None or code < 0 else f"exit code {code}"
        output = "its output is in" if self.log.stat().st_size else "it said nothing in"
        return f"{who} died ({why}); {output} {self.log}"
