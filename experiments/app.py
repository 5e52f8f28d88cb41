"""Turn a function of a plain config into a Hydra app whose refusals come out as they are."""

from collections.abc import Callable
from typing import Any

import hydra
from omegaconf import DictConfig

from strata.curation.errors import StrataError
from strata.experiments.checks import check_common
from strata.experiments.session import plain


def app(config_name: str) -> Callable[[Callable[[dict[str, Any]], None]], Callable[[], None]]:
    """Decorate ``function(config)`` as the Hydra app of ``configs/<config_name>.yaml``.

    Hydra prints a line of its own over every exception of a job; a StrataError is carried around it.
    """

    def decorate(function: Callable[[dict[str, Any]], None]) -> Callable[[], None]:
        refusals: list[StrataError] = []

        def job(composed: DictConfig) -> None:
            try:
                config = plain(composed)
                check_common(config)
                function(config)
            except StrataError as error:
                refusals.append(error)

        job.__doc__ = function.__doc__
        start = hydra.main(version_base="1.3", config_path="pkg://strata.configs", config_name=config_name)(job)

        def main() -> None:
            refusals.clear()
            start()
            if refusals:
                raise refusals[0]

        return main

    return decorate
