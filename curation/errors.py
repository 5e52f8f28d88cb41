"""Errors that a user can act on: each names the field and the fix, and the command line prints it in one line."""


class StrataError(Exception):
    """Base of every error we raise on purpose. The command line prints it as one line and exits with code 2."""


class ConfigError(StrataError):
    """A setting or an input is wrong.

    Args:
        field: the config field or argument at fault, dotted as a user would override it, e.g. ``hierarchy.n_clusters``.
        problem: what is wrong, with the value seen.
        fix: what to do about it.
    """

    def __init__(self, field: str, problem: str, fix: str) -> None:
        self.field, self.problem, self.fix = field, problem, fix
        super().__init__(f"{field}: {problem}; {fix}")


class DataError(StrataError):
    """Data that was read cannot be used (corrupt image, NaN in embeddings): says which rows and what to do."""


class MissingExtraError(StrataError):
    """An optional dependency is needed. ``extra`` is the name to install: ``pip install 'strata[extra]'``."""

    def __init__(self, package: str, extra: str) -> None:
        super().__init__(f"{package} is not installed; run: pip install 'strata[{extra}]'")
