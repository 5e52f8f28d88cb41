"""Times and sizes as people write them."""

import math
import re
from typing import Any

from strata.curation.errors import ConfigError

_TIMES = ((86_400 * 365.25, "y"), (86_400.0, "d"), (3600.0, "h"), (60.0, "min"))
_SIZES = {"": 1, "KB": 2**10, "MB": 2**20, "GB": 2**30, "TB": 2**40}


def duration(seconds: float) -> str:
    """A time in the unit that suits it."""
    for length, unit in _TIMES:
        if seconds >= 2 * length:
            return f"{seconds / length:,.1f} {unit}"
    return f"{seconds:.2f} s"


def size(amount: float) -> str:
    """Bytes in the unit that suits them."""
    for unit in ("TB", "GB"):
        if amount >= _SIZES[unit]:
            return f"{amount / _SIZES[unit]:,.1f} {unit}"
    return f"{amount / _SIZES['MB']:,.1f} MB"


def parse_size(value: Any, field: str) -> float:
    """Bytes of "16GB", "1.5TB" (powers of 1024) or a plain number of bytes.

    Raises:
        ConfigError: of ``field``: neither, or nothing.
    """
    found = re.fullmatch(r"([0-9.]+(?:e[0-9]+)?) ?([KMGT]B|)", str(value).strip(), re.IGNORECASE)
    try:
        amount = float(found[1]) * _SIZES[found[2].upper()] if found and not isinstance(value, bool) else math.nan
    except ValueError:
        amount = math.nan
    if not 0 < amount < math.inf:
        raise ConfigError(field, f"{value!r} is no size", "give e.g. 16GB")
    return amount
