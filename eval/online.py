"""Scores of a network while it trains, by the same benchmarks and protocols as afterwards."""

import tempfile
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import torch
from torch import nn

from strata.curation.encoders.timm_features import evaluation_transform
from strata.curation.errors import ConfigError
from strata.eval.backbone import FrozenBackbone
from strata.eval.backbones.timm_network import TimmNetwork
from strata.eval.extract import extract_features
from strata.eval.protocols.base import Protocol


class OnlineProbe:
    """A function from a live vision transformer to scores, for a trainer to call every so many steps.

    It extracts features into a folder that is gone afterwards, and fits the protocols' probes. The network's weights,
    modes, and torch's generators are left as they were.

    Args:
        benchmarks: by name.
        protocols: by name; each scores the benchmarks of its task.
        size: side in pixels of the network's input.
        mean: of the normalization, three numbers.
        std: likewise.
        batch_size: images of a forward pass.

    Raises:
        ConfigError: a protocol or benchmark has nothing to go with.
    """

    def __init__(
        self,
        benchmarks: Mapping[str, Any],
        protocols: Mapping[str, Protocol],
        *,
        size: int,
        mean: Sequence[float],
        std: Sequence[float],
        batch_size: int = 256,
    ) -> None:
        self.benchmarks, self.protocols, self.batch_size = dict(benchmarks), dict(protocols), batch_size
        self._size = size
        self._transform, self._described = evaluation_transform(
            {
                "input_size": (3, size, size),
                "interpolation": "bicubic",
                "crop_pct": 1.0,
                "crop_mode": "center",
                "mean": tuple(mean),
                "std": tuple(std),
            }
        )
        for name, benchmark in self.benchmarks.items():
            if not self._of(benchmark):
                problem = f"no protocol of {', '.join(self.protocols) or 'none'} is for {benchmark.task}"
                raise ConfigError("online.protocols", f"{problem} (benchmark {name})", "add one, or leave it out")

    def __call__(self, network: nn.Module) -> dict[str, float]:
        """``{"eval/PROTOCOL/BENCHMARK/METRIC": value}`` of the benchmark's own metric, else the protocol's first."""
        modes = {module: module.training for module in network.modules()}
        found: dict[str, float] = {}
        try:
            with torch.random.fork_rng(), tempfile.TemporaryDirectory() as folder:
                described = {"weights_sha256": "of a run that goes on", "transform": self._described}
                opened = TimmNetwork(network.eval(), self._transform, described, (self._size, self._size))
                for name, benchmark in self.benchmarks.items():
                    found |= self._score(FrozenBackbone(opened, "online", "online"), name, benchmark, Path(folder))
        finally:
            for module, mode in modes.items():
                module.training = mode
        return found

    def _score(self, backbone: FrozenBackbone, name: str, benchmark: Any, folder: Path) -> dict[str, float]:
        protocols = self._of(benchmark)
        features = extract_features(
            backbone,
            benchmark.splits,
            folder / name,
            batch_size=self.batch_size,
            device=str(backbone.device),
            dtype="float32",
            patches=max(protocol.patches for protocol in protocols.values()),
            labelled=benchmark.labelled,
            show_progress=False,
        )
        found = {}
        for label, protocol in protocols.items():
            scores = protocol.evaluate(features, name, backbone.device).scores
            shown = next((score for score in scores if score.metric == benchmark.metric), scores[0])
            found[f"eval/{label}/{name}/{shown.metric}"] = shown.value
        return found

    def _of(self, benchmark: Any) -> dict[str, Protocol]:
        return {name: protocol for name, protocol in self.protocols.items() if benchmark.task in protocol.tasks}
