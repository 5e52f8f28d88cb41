"""Turn a function of a plain config into a Hydra app whose refusals come out as they are."""

import sys
import tempfile
from collections.abc import Callable
from typing import Any

import hydra
from hydra.core.hydra_config import HydraConfig
from hydra.types import RunMode
from omegaconf import DictConfig
from omegaconf.errors import OmegaConfBaseException

from strata.curation.errors import StrataError
from strata.experiments.console.hydra_errors import explain
from strata.experiments.session import plain
from strata.experiments.settings.checks import check_common
from strata.experiments.settings.places import as_refusal


def app(config_name: str) -> Callable[[Callable[[dict[str, Any]], None]], Callable[[], None]]:
    """Decorate ``function(config)`` as the Hydra app of ``configs/<config_name>.yaml``.

    Hydra prints a line of its own over every exception of a job; a StrataError is carried around it. In a sweep each
    refused job says so when it is refused, and the others run.
    """

    def decorate(function: Callable[[dict[str, Any]], None]) -> Callable[[], None]:
        refusals: list[StrataError] = []

        def job(composed: DictConfig) -> None:
            error = _refusal(function, composed)
            if error is None:
                return
            refusals.append(error)
            if HydraConfig.get().mode == RunMode.MULTIRUN:
                given = " ".join(HydraConfig.get().overrides.task)
                print(f"{sys.argv[0]}: error: [{given}] {' '.join(str(error).split())}", file=sys.stderr)

        job.__doc__ = function.__doc__
        start = hydra.main(version_base="1.3", config_path="pkg://strata.configs", config_name=config_name)(job)

        def main() -> None:
            refusals.clear()
            if "--multirun" not in sys.argv:
                start()
                if refusals:
                    raise refusals[0]
                return
            given = list(sys.argv)
            with tempfile.TemporaryDirectory() as folder:  # for Hydra's multirun.yaml, which nobody needs
                sys.argv = [*given, f"hydra.sweep.dir='{folder}'"]
                start()
            sys.argv = given
            if refusals:
                sys.exit(2)

        return main

    return decorate


def _refusal(function: Callable[[dict[str, Any]], None], composed: DictConfig) -> StrataError | None:
    """Run a job; its refusal, if that is how it ended."""
    try:
        config = plain(composed)
        check_common(config)
    except StrataError as error:
        return error
    except OmegaConfBaseException as error:
        return StrataError(explain(error))
    try:
        function(config)
    except StrataError as error:
        return error
    except OSError as error:
        refusal = as_refusal(error, config)
        if refusal is None:
            raise
        return refusal
    return None
