"""Linear heads on frozen patch tokens, several learning rates in one pass: what segmentation and depth share."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from jaxtyping import Float, Int
from torch import Tensor, nn
from torch.nn import functional as F

from strata.curation.errors import ConfigError, DataError
from strata.curation.progress import progress
from strata.eval.features import Features, Targets
from strata.eval.protocols.linear import batches

UPSAMPLE = 4  # logits are trained at four times the patch grid, as DINOv2's depth heads
STATISTICS_IMAGES = 512  # images that mean and scale of the tokens are taken from

Loss = Callable[[Float[Tensor, "b k h w"], Tensor], Tensor]


@dataclass(frozen=True)
class DenseData:
    """Patch tokens and maps of one split."""

    features: Features
    blocks: int
    cls: bool
    reader: str

    def __post_init__(self) -> None:
        self.features.need_patches(self.blocks, self.reader)
        if self.features.targets is None:
            raise DataError(f"{self.reader} needs a map for every image; use a benchmark of {self.reader}")

    @property
    def targets(self) -> Targets:
        """The maps, each of its image's size."""
        assert self.features.targets is not None
        return self.features.targets

    @property
    def grid(self) -> tuple[int, int]:
        """Rows and columns of the patches."""
        assert self.features.grid is not None
        return self.features.grid

    @property
    def dim(self) -> int:
        """Width of ``tokens``."""
        width: int = self.features.cls.shape[2]
        return self.blocks * width * (2 if self.cls else 1)

    def tokens(self, rows: Int[np.ndarray, " b"], device: torch.device | str) -> Float[Tensor, "b p d"]:
        """The patch tokens of the last blocks side by side; with ``cls`` each has its block's class token beside it."""
        patches = self.features.need_patches(self.blocks, self.reader)[rows]  # b B p d
        parts = [patches.transpose(0, 2, 1, 3).reshape(len(rows), patches.shape[2], -1)]
        if self.cls:
            cls = self.features.cls[rows, -self.blocks :].reshape(len(rows), 1, -1)
            parts.append(np.repeat(cls, patches.shape[2], axis=1))
        return torch.from_numpy(np.concatenate(parts, axis=2)).to(device, non_blocking=True).float()

    def maps(self, rows: Int[np.ndarray, " b"], size: tuple[int, int], device: torch.device | str) -> Tensor:
        """The maps at one size, by nearest pixel, [b, *size]."""
        resized = [nearest(self.targets[row], size) for row in rows.tolist()]
        return torch.from_numpy(np.stack(resized)).to(device, non_blocking=True)


class DenseHeads(nn.Module):
    """H linear maps from a standardized token to K outputs. All start from the same draw.

    Args:
        mean: of the tokens, [d].
        scale: likewise.
        n_outputs: K.
        n_heads: H.
        grid: rows and columns of the patches.
        seed: of the first weights.
        bias: K values that the outputs start from.
    """

    def __init__(
        self,
        mean: Float[Tensor, " d"],
        scale: Float[Tensor, " d"],
        n_outputs: int,
        n_heads: int,
        grid: tuple[int, int],
        seed: int,
        bias: float = 0.0,
    ) -> None:
        super().__init__()
        self.mean, self.scale, self.grid = mean, scale, grid
        start = torch.randn(len(mean), n_outputs, generator=torch.Generator().manual_seed(seed)) * 0.01
        start = start.to(mean.device)
        self.weights = nn.ParameterList([start.clone() for _ in range(n_heads)])
        self.biases = nn.ParameterList([torch.full((n_outputs,), bias, device=mean.device) for _ in range(n_heads)])

    def forward(self, tokens: Float[Tensor, "b p d"], head: int, size: tuple[int, int]) -> Float[Tensor, "b k h w"]:
        """Outputs of a head, brought to a size bilinearly."""
        x = (tokens - self.mean) / self.scale
        out = (x @ self.weights[head] + self.biases[head]).transpose(1, 2).unflatten(2, self.grid)
        return out if size == self.grid else F.interpolate(out, size=size, mode="bilinear", align_corners=False)


@dataclass(frozen=True)
class Recipe:
    """How heads are trained: AdamW, linear warm-up over a tenth of the steps, cosine to 0."""

    learning_rates: Sequence[float]
    steps: int
    batch_size: int
    weight_decay: float
    seed: int


def train_heads(
    data: DenseData,
    rows: Int[np.ndarray, " n"],
    recipe: Recipe,
    n_outputs: int,
    loss: Loss,
    device: torch.device | str,
    what: str,
    bias: float = 0.0,
) -> DenseHeads:
    """Train one head for each learning rate on these images, all in one pass; a head does not depend on the others.

    Args:
        data: of the training split.
        rows: images to train on.
        recipe: sizes.
        n_outputs: K.
        loss: of outputs [b, K, h, w] and maps [b, h, w]; a mean over what counts.
        device: where heads and batches are.
        what: for the progress bar.
        bias: where outputs start.
    """
    mean, scale = token_statistics(data, rows, recipe.seed, device)
    heads = DenseHeads(mean, scale, n_outputs, len(recipe.learning_rates), data.grid, recipe.seed, bias)
    groups = [
        {"params": [heads.weights[h], heads.biases[h]], "lr": rate} for h, rate in enumerate(recipe.learning_rates)
    ]
    optimizer = torch.optim.AdamW(groups, weight_decay=recipe.weight_decay)
    schedule = torch.optim.lr_scheduler.LambdaLR(optimizer, lambda step: cosine_with_warmup(step, recipe.steps))
    size = (data.grid[0] * UPSAMPLE, data.grid[1] * UPSAMPLE)
    with progress(recipe.steps, what, "steps") as bar:
        for batch in batches(rows, recipe.batch_size, recipe.steps, recipe.seed):
            picked = np.sort(batch)  # in the order of the file
            tokens, maps = data.tokens(picked, device), data.maps(picked, size, device)
            optimizer.zero_grad(set_to_none=True)
            for head in range(len(groups)):
                loss(heads(tokens, head, size), maps).backward()
            optimizer.step()
            schedule.step()
            bar.update()
    return heads.requires_grad_(False)


def nearest(array: np.ndarray, size: tuple[int, int]) -> np.ndarray:
    """A map at another size: the pixel below the middle of each new one."""
    rows, columns = (
        np.minimum(((np.arange(new) + 0.5) * old / new).astype(np.int64), old - 1)
        for old, new in zip(array.shape, size, strict=True)
    )
    return array[rows[:, None], columns]


def held_out_rows(n: int, share: float, seed: int) -> tuple[Int[np.ndarray, " a"], Int[np.ndarray, " b"]]:
    """Images to choose on, and images to fit on, both sorted.

    Raises:
        ConfigError: there are not two images.
    """
    if n < 2:
        raise ConfigError("protocol.holdout", f"train has {n} image", "give a larger training set")
    size = min(n - 1, max(1, round(share * n)))
    order = np.random.default_rng(seed).permutation(n)
    return np.sort(order[:size]), np.sort(order[size:])


def check_options(options: dict[str, tuple[Any, str]]) -> None:
    """Raise a ConfigError for the first option that is not allowed: name -> (whether it is, what is)."""
    for name, (good, wanted) in options.items():
        if not good:
            raise ConfigError(f"protocol.{name}", "this value is not allowed", f"use {wanted}")


def cosine_with_warmup(step: int, steps: int) -> float:
    """Share of the learning rate at a step."""
    warmup = max(1, steps // 10)
    if step < warmup:
        return (step + 1) / warmup
    return 0.5 * (1 + float(np.cos(np.pi * (step - warmup) / max(1, steps - warmup))))


def token_statistics(
    data: DenseData, rows: np.ndarray, seed: int, device: torch.device | str
) -> tuple[Float[Tensor, " d"], Float[Tensor, " d"]]:
    """Mean and standard deviation of the tokens of some training images: what DINOv2's BatchNorm would learn."""
    order = np.random.default_rng(seed).permutation(rows)[:STATISTICS_IMAGES]
    total = torch.zeros(data.dim, dtype=torch.float64, device=device)
    square, n = total.clone(), 0
    for part in np.array_split(np.sort(order), max(1, len(order) // 16)):
        tokens = data.tokens(part, device).double().flatten(0, 1)
        total += tokens.sum(dim=0)
        square += tokens.square().sum(dim=0)
        n += len(tokens)
    mean = total / n
    variance = (square / n - mean.square()).clamp(min=0)
    return mean.float(), (variance + 1e-6).sqrt().float()
