"""Checks that all samplers share."""

from strata.curation.errors import ConfigError


def checked_size(n: int | None, available: int, what: str = "rows") -> int:
    """``n`` if so many can be drawn.

    Raises:
        ConfigError: n is not set, negative or more than there are.
    """
    if n is None:
        raise ConfigError("sample.size", "not set", "say how many rows to draw")
    if not 0 <= n <= available:
        raise ConfigError("sample.size", f"{n} of {available} {what}", f"ask for at most {available}")
    return n
