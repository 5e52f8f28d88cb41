"""Which methods there are, the settings that only one of them reads, and which of DINOv2's the others do not read."""

from dataclasses import dataclass
from typing import Any

from strata.curation.errors import ConfigError

METHODS = ("dinov2", "simclr", "mae")


@dataclass
class MAEConfig:
    """Settings of ``ssl.method=mae``. Comments give the paper's value (He et al., arXiv:2111.06377, Sec. 4.1).

    Raises:
        ConfigError: a value is out of range; its field is ``ssl.mae.<name>``.
    """

    mask_ratio: float = 0.75  # 0.75; share of the patches that the encoder does not see
    decoder_dim: int = 512  # 512
    decoder_depth: int = 8  # 8
    decoder_heads: int = 16  # 16
    normalize_pixels: bool = True  # True; predict each patch less its mean, over its deviation

    def __post_init__(self) -> None:
        if not 0.0 < self.mask_ratio < 1.0:
            raise ConfigError("ssl.mae.mask_ratio", f"is {self.mask_ratio}", "give a share between 0 and 1")
        for name in ("decoder_dim", "decoder_depth", "decoder_heads"):
            if getattr(self, name) < 1:
                raise ConfigError(f"ssl.mae.{name}", f"is {getattr(self, name)}", "give at least 1")
        if self.decoder_dim % self.decoder_heads:
            problem = f"{self.decoder_dim} cannot be split over {self.decoder_heads} heads"
            raise ConfigError("ssl.mae.decoder_dim", problem, "give a multiple of ssl.mae.decoder_heads")


def check_method(config: Any) -> None:
    """Raise a ConfigError for an unknown method, or for a setting that would make DINOv2 do what this one does not do."""
    if config.method not in METHODS:
        raise ConfigError("ssl.method", f"is {config.method!r}", f"give one of {', '.join(METHODS)}")
    if config.strategy == "fsdp":
        for name, asked in (("method", config.method == "mae"), ("log_gradients", config.log_gradients)):
            if asked:
                raise ConfigError(f"ssl.{name}", "needs the whole network on each device", "use ssl.strategy=ddp")
    if config.method == "dinov2":
        return
    for name in ("n_local", "drop_path"):
        if getattr(config, name) > 0:
            raise ConfigError(f"ssl.{name}", f"is {getattr(config, name)}, and {config.method} has none", "set it to 0")
