"""Labels as users write them (numbers or names) as class ids."""

from abc import ABC, abstractmethod
from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from strata.curation.errors import ConfigError


def class_ids(values: Sequence[Any], field: str) -> tuple[NDArray[np.int64] | None, list[str] | None]:
    """Labels [n] and class names of raw values; (None, None) if no item has one.

    None is no label (-1). If all others are whole numbers they are the ids, without names; otherwise every value is a
    name, and ids follow the sorted names.

    Args:
        values: per item an int, a str, or None.
        field: config field to name in the error.

    Raises:
        ConfigError: a value is neither, or a number is below -1.
    """
    given = [value for value in values if value is not None]
    if not given:
        return None, None
    wrong = next((value for value in given if isinstance(value, bool) or not isinstance(value, int | str)), None)
    if wrong is not None:
        raise ConfigError(field, f"holds {wrong!r}", "labels are whole numbers or names; use null to leave them out")
    if all(isinstance(value, int) for value in given):
        if not min(given) >= -1 or max(given) >= 1 << 31:
            raise ConfigError(field, f"holds labels from {min(given)} to {max(given)}", "use 0, 1, ..., or -1 for none")
        return np.array([-1 if value is None else value for value in values], np.int64), None
    names = sorted({str(value) for value in given})
    number = {name: i for i, name in enumerate(names)}
    return np.array([-1 if value is None else number[str(value)] for value in values], np.int64), names


class LateLabels(ABC):
    """``labels`` and ``label_names`` of a reader that has to read every item for them, and does so at the first use."""

    _found: tuple[NDArray[np.int64] | None, list[str] | None] | None = None

    @abstractmethod
    def _label_values(self) -> Sequence[Any]:
        """What each item says of its label, None for nothing; an empty list for a pool without labels."""

    @property
    def labels(self) -> NDArray[np.int64] | None:
        """Label of each item, [n], -1 for none; None where there are none. The first use reads every item."""
        return self._classes()[0]

    @property
    def label_names(self) -> list[str] | None:
        """Class names, where labels are names."""
        return self._classes()[1]

    def _classes(self) -> tuple[NDArray[np.int64] | None, list[str] | None]:
        if self._found is None:
            self._found = class_ids(self._label_values(), "pool.label_field")
        return self._found
