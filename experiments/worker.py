"""A subprocess that runs stages one after another: JSON lines in on stdin, JSON lines out on stdout.

It imports the heavy libraries once for all its stages, and ends at once, with what it started, when the process that
started it is gone, so a killed command leaves no orphan at work.
"""

import json
import os
import queue
import signal
import sys
import threading
import traceback
from typing import Any


def main() -> None:
    """Read a settings line, then one stage per line, until stdin closes."""
    replies = os.fdopen(os.dup(1), "w", buffering=1)
    os.dup2(2, 1)  # whatever a library prints goes to the log, not between the replies
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    lines: queue.Queue[str] = queue.Queue()
    threading.Thread(target=_read, args=(lines,), daemon=True).start()
    settings = json.loads(lines.get())

    from strata.curation.errors import StrataError
    from strata.experiments.execute import execute
    from strata.experiments.tracking import Tracker

    tracker = Tracker(**settings["tracking"])

    def send(**reply: Any) -> None:
        replies.write(json.dumps(reply) + "\n")

    while True:
        spec = json.loads(lines.get())
        try:
            seconds = execute(
                spec, tracker, settings["threads"], lambda values, step: send(event="metrics", values=values, step=step)
            )
            send(event="done", seconds=seconds, tracking_error=tracker.error)
        except StrataError as error:
            send(event="refused", message=str(error))
        except Exception:
            send(event="failed", message=traceback.format_exc())


def _read(lines: "queue.Queue[str]") -> None:
    for line in sys.stdin:
        lines.put(line)
    if os.getpgrp() == os.getpid():
        os.killpg(0, signal.SIGKILL)  # the loaders of its data too
    os._exit(1)


if __name__ == "__main__":
    main()
