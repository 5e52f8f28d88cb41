"""What our ways of doing less save: the last MLP, stochastic depth and Sinkhorn-Knopp against the plain ways.

    python -m strata.experiments.benchmarks.ssl_step

Both sides of a row are timed in turn in one process, so that a busy machine slows both; the ratio is of the medians. The
results are the same up to rounding (tests/ssl/test_backbone.py, test_losses.py).
"""

import argparse
import platform
import statistics
import time
from collections.abc import Callable
from pathlib import Path

import torch
from timm.layers import DropPath
from timm.models.vision_transformer import Block
from torch import Tensor

from strata.experiments.execute import git_commit
from strata.ssl.image.backbone import MaskedViT, create_backbone
from strata.ssl.image.config import ImageSSLConfig
from strata.ssl.image.share import Share
from strata.ssl.image.stochastic_depth import draw_kept
from strata.ssl.losses.sinkhorn import sinkhorn_knopp

OUT = Path("results/benchmarks/ssl_step.md")


def main() -> None:
    """Time all rows and write the table."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--rounds", type=int, default=7)
    arguments = parser.parse_args()
    torch.set_num_threads(arguments.threads)
    rows = {
        "last MLP for the tokens read, depth 4": last_mlp(depth=4),
        "last MLP for the tokens read, depth 12": last_mlp(depth=12),
        "stochastic depth 0.4, depth 12": stochastic_depth(0.4),
        "Sinkhorn-Knopp, 512 x 4096": sinkhorn(512, 4096),
        "Sinkhorn-Knopp, 1500 x 16384": sinkhorn(1500, 16384),
    }
    lines = [
        f"{platform.machine()}, {arguments.threads} threads, torch {torch.__version__}, commit {git_commit()}; medians of "
        f"{arguments.rounds} rounds, in turn. `python -m strata.experiments.benchmarks.ssl_step`",
        "",
        "| what | plain, ms | ours, ms | plain / ours |",
        "|---|---|---|---|",
    ]
    for name, (plain, ours) in rows.items():
        a, b = alternate(plain, ours, arguments.rounds)
        lines.append(f"| {name} | {1e3 * a:.1f} | {1e3 * b:.1f} | {a / b:.2f} |")
        print(lines[-1], flush=True)
    OUT.write_text("\n".join(lines) + "\n")


def alternate(plain: Callable[[], object], ours: Callable[[], object], rounds: int) -> tuple[float, float]:
    """Median seconds of each; one call of each before counts for nothing."""
    times: tuple[list[float], list[float]] = ([], [])
    for round_ in range(rounds + 1):
        for call, found in zip((plain, ours), times, strict=True):
            began = time.perf_counter()
            call()
            if round_:
                found.append(time.perf_counter() - began)
    return statistics.median(times[0]), statistics.median(times[1])


def _student(depth: int, drop_path: float = 0.0) -> tuple[MaskedViT, Tensor, Tensor]:
    """A ViT of width 192, 32 crops of 6 x 6 patches, and 8 places that iBOT reads."""
    model = {"patch_size": 8, "embed_dim": 192, "depth": depth, "num_heads": 3, "init_values": 1e-5}
    config = ImageSSLConfig(
        backbone="vit_tiny_patch16_224", model_kwargs=model, cache_size=48, global_size=48, local_size=24
    )
    return MaskedViT(create_backbone(config), drop_path=drop_path), torch.randn(32, 3, 48, 48), torch.arange(0, 160, 20)


def last_mlp(depth: int) -> tuple[Callable[[], None], Callable[[], None]]:
    """Forward and backward pass, all tokens or those that a loss reads."""
    vit, images, places = _student(depth)

    def plain() -> None:
        cls, patches = vit(images)
        (cls.sum() + patches.flatten(0, 1)[places].sum()).backward()

    def ours() -> None:
        cls, patches = vit(images, None, places)
        (cls.sum() + patches.sum()).backward()

    return plain, ours


def stochastic_depth(rate: float) -> tuple[Callable[[], None], Callable[[], None]]:
    """Forward and backward pass, dropped residuals computed and multiplied by 0, or not computed."""
    vit, images, _ = _student(12, rate)
    kept = draw_kept(vit.rates, 1, Share(len(images)), torch.Generator().manual_seed(0))
    for block in vit.vit.blocks:
        assert isinstance(block, Block)
        block.drop_path1, block.drop_path2 = DropPath(rate), DropPath(rate)  # which our forward does not use

    def plain() -> None:
        x = vit.vit._pos_embed(vit.vit.patch_embed(images))
        for block in vit.vit.blocks:
            assert isinstance(block, Block)
            x = Block.forward(block, x)
        vit.vit.norm(x).sum().backward()

    def ours() -> None:
        cls, patches = vit(images, None, None, kept)
        (cls.sum() + patches.sum()).backward()

    return plain, ours


def sinkhorn(n: int, k: int) -> tuple[Callable[[], Tensor], Callable[[], Tensor]]:
    """Three rounds on the matrix in the log domain, or on scales of its rows and columns."""
    logits = torch.rand(n, k) * 2 - 1

    def plain() -> Tensor:
        log_q = logits / 0.05
        for _ in range(3):
            log_q = log_q - torch.logsumexp(log_q, dim=0, keepdim=True)
            log_q = log_q - torch.logsumexp(log_q, dim=1, keepdim=True)
        return log_q.exp()

    return plain, lambda: sinkhorn_knopp(logits, 0.05)


if __name__ == "__main__":
    main()
