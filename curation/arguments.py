"""Checks of plain arguments that several calls share; a wrong one is a ConfigError that names it."""

import numbers
from typing import Any

import numpy as np
from jaxtyping import Int
from numpy.typing import ArrayLike

from strata.curation.errors import ConfigError


def whole_number(field: str, value: Any, least: int, most: int | None = None) -> int:
    """``value`` as a plain int from ``least`` to ``most``; booleans and floats are none, not even 2.0.

    Raises:
        ConfigError: it is not.
    """
    if isinstance(value, bool | np.bool_) or not isinstance(value, int | np.integer):
        raise ConfigError(field, f"{value!r} is {type(value).__name__}", "give a whole number")
    if value < least or (most is not None and value > most):
        span = f"of at least {least}" if most is None else f"from {least} to {most}"
        raise ConfigError(field, f"{value} is out of range", f"give a whole number {span}")
    return int(value)


def real_number(field: str, value: Any, least: float, most: float) -> float:
    """``value`` as a plain float from ``least`` to ``most``.

    Raises:
        ConfigError: it is not, or is NaN.
    """
    if isinstance(value, bool | np.bool_) or not isinstance(value, numbers.Real):
        raise ConfigError(field, f"{value!r} is {type(value).__name__}", f"give a number from {least} to {most}")
    if not least <= float(value) <= most:
        raise ConfigError(field, f"{value} is out of range", f"give a number from {least} to {most}")
    return float(value)


def seed_sequence(random_state: Any, *spawn_key: int, field: str = "random_state") -> np.random.SeedSequence:
    """A stream of the seed ``random_state``; None takes fresh entropy.

    Raises:
        ConfigError: neither None nor a whole number of 0 or more.
    """
    seed = None if random_state is None else whole_number(field, random_state, 0)
    return np.random.SeedSequence(seed, spawn_key=spawn_key)


def whole_array(field: str, values: ArrayLike, least: int, most: int) -> Int[np.ndarray, "..."]:
    """``values`` as an int64 array of the same shape, all from ``least`` to ``most``; an empty one of any type is fine.

    Raises:
        ConfigError: not integers, or out of range.
    """
    try:
        array = np.asarray(values)
    except ValueError as error:  # rows of different lengths
        raise ConfigError(field, "has rows of different lengths", "give whole numbers") from error
    if array.size and array.dtype.kind not in "iu":
        raise ConfigError(field, f"holds {array.dtype}", "give whole numbers")
    if array.size and (array.min() < least or array.max() > most):
        raise ConfigError(field, f"{array.min()} to {array.max()} is out of range", f"use {least} to {most}")
    return array.astype(np.int64)
