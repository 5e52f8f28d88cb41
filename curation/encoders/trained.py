"""An encoder that does not exist yet: a backbone that a plan trains first, on the raw pool itself."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any, Literal

from strata.curation.encoders.backbone import BackboneEncoder
from strata.curation.encoders.network import Precision
from strata.curation.encoders.timm_features import check_pooling
from strata.curation.errors import ConfigError


class TrainedOnPool:
    """A recipe, and how the backbone that comes of it embeds: ``opened`` gives the encoder.

    The paper embeds satellite tiles by a backbone trained on the raw pool (Table 7), and its image ablation "4r-raw" does
    the same (Table 3f). The training is a stage of the plan, shared with the arm ``raw`` where recipe and seed are equal.

    Args:
        ssl: the recipe, as ``ssl`` of an experiment has it.
        seed: of the training.
        pooling, normalize, precision: see BackboneEncoder.

    Raises:
        ConfigError: no recipe, a bad seed, or an unknown pooling.
    """

    name = "trained_on_pool"

    def __init__(
        self,
        ssl: Mapping[str, Any] | None,
        seed: int = 0,
        pooling: Literal["cls", "avg", "cls_avg", "model"] = "cls",
        normalize: bool = False,
        precision: Precision = "float32",
    ) -> None:
        check_pooling(pooling)
        if not ssl:
            raise ConfigError("encoder.ssl", f"{ssl!r} is no recipe", "give one, e.g. encoder.ssl=${ssl}")
        if isinstance(seed, bool) or not isinstance(seed, int) or not 0 <= seed < 2**32:
            raise ConfigError("encoder.seed", f"is {seed!r}", "give a whole number from 0 to 2^32 - 1")
        if precision not in ("float32", "bfloat16", "float16"):
            raise ConfigError("encoder.precision", f"{precision!r} is unknown", "use float32, bfloat16 or float16")
        self.ssl, self.seed = dict(ssl), seed
        self.options: dict[str, Any] = {"pooling": pooling, "normalize": normalize, "precision": precision}

    def opened(self, backbone: str | Path) -> BackboneEncoder:
        """The encoder, once its backbone is trained. Raises a ConfigError as BackboneEncoder."""
        return BackboneEncoder(backbone, **self.options)
