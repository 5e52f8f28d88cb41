"""One progress bar for all long work: count, rate and ETA; a live bar on a terminal, sparse lines in a log."""

import sys
from typing import Any

from tqdm import tqdm


def progress(total: int, description: str, unit: str, *, initial: int = 0, disable: bool = False) -> "tqdm[Any]":
    """A tqdm bar on stderr with ``total`` steps of ``unit``; ``initial`` counts work that a resumed run found done.

    In a log file (no terminal) it prints a line every 10 seconds instead of redrawing.
    """
    terminal = sys.stderr.isatty()
    return tqdm(
        total=total,
        desc=description,
        unit=f" {unit}",
        initial=initial,
        disable=disable,
        mininterval=0.2 if terminal else 10.0,
        file=sys.stderr,
        dynamic_ncols=terminal,
        leave=True,
    )
