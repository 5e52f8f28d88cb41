"""Images per second of DINOv2 pre-training on the CPU: ours and lightly-train's, the same ViT, crops, batch and images.

    python -m strata.experiments.benchmarks.ssl --peer PYTHON --setting vit_tiny

PYTHON is an interpreter of an environment of its own in which ``lightly-train`` is installed; it is no dependency. Every
measurement is a fresh process on the same threads; ours and theirs alternate within a round. The first steps of a
process (compilation, filling of caches) are not counted.
"""

import argparse
import json
import os
import platform
import statistics
import subprocess
import sys
import tempfile
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from strata.experiments.execute import git_commit

if TYPE_CHECKING:
    from strata.ssl.image.config import ImageSSLConfig

PRECISIONS = ("32-true", "bf16-mixed")


@dataclass(frozen=True)
class Setting:
    """What both sides train."""

    dim: int = 192
    depth: int = 12
    heads: int = 3
    patch: int = 8
    global_size: int = 48
    local_size: int = 24
    n_local: int = 8
    hidden: int = 1024
    bottleneck: int = 256
    prototypes: int = 4096
    batch: int = 64
    threads: int = 2
    workers: int = 2  # theirs: processes that decode and augment
    steps: int = 3  # counted; as many before them are not
    images: int = 2048
    side: int = 64  # pixels of an image


# The recipe that the experiments train on a CPU (configs/ssl/dinov2_micro64.yaml), and a ViT-Ti with all of DINOv2's crops
SETTINGS = {
    "dinov2_micro64": Setting(
        dim=96, depth=4, heads=3, patch=12, n_local=2, hidden=256, bottleneck=64, prototypes=1024, steps=20
    ),
    "vit_tiny": Setting(),
}


PEER = """
import json, os, sys, time
s = json.loads(sys.argv[1])
os.environ["LIGHTLY_TRAIN_EVENTS_DISABLED"] = "1"
import torch
torch.set_num_threads(s["threads"])
import lightly_train
from lightly_train._methods.dinov2.dinov2 import DINOv2
from lightly_train._models.dinov2_vit.dinov2_vit_src.models.vision_transformer import DinoVisionTransformer

began, ended = [], []
start, end = DINOv2.on_train_batch_start, DINOv2.on_train_batch_end

def on_start(self, *args, **kwargs):
    began.append(time.perf_counter())
    return start(self, *args, **kwargs)

def on_end(self, *args, **kwargs):
    result = end(self, *args, **kwargs)
    ended.append(time.perf_counter())
    return result

DINOv2.on_train_batch_start, DINOv2.on_train_batch_end = on_start, on_end
model = DinoVisionTransformer(
    img_size=s["global_size"], patch_size=s["patch"], embed_dim=s["dim"], depth=s["depth"], num_heads=s["heads"],
    init_values=1e-5, block_chunks=0,
)
lightly_train.pretrain(
    out=s["out"], data=s["data"], model=model, method="dinov2", epochs=1000, batch_size=s["batch"],
    num_workers=s["workers"], devices=1, accelerator="cpu", precision=s["precision"],
    method_args={
        "hidden_dim": s["hidden"], "dino_bottleneck_dim": s["bottleneck"], "ibot_bottleneck_dim": s["bottleneck"],
        "output_dim": s["prototypes"], "center_method": "sinkhorn_knopp",
    },
    transform_args={
        "image_size": (s["global_size"],) * 2,
        "local_view": {"num_views": s["n_local"], "view_size": (s["local_size"],) * 2},
    },
    loggers={"jsonl": None, "tensorboard": None},
    callbacks={"model_checkpoint": {"save_last": False}, "learning_rate_monitor": None, "early_stopping": None,
               "model_export": None},
    trainer_args={"max_steps": 2 * s["steps"]},
)
assert len(ended) == 2 * s["steps"] and torch.get_num_threads() == s["threads"]
elapsed = ended[-1] - ended[s["steps"] - 1]
waited = sum(a - b for a, b in zip(began[s["steps"]:], ended[s["steps"] - 1:]))
import importlib.metadata
print("RESULT", json.dumps({
    "images_per_s": s["steps"] * s["batch"] / elapsed, "data_wait": waited / elapsed,
    "version": importlib.metadata.version("lightly-train"), "torch": torch.__version__,
}))
"""


def recipe(setting: Setting, precision: str) -> "ImageSSLConfig":
    """The same for this trainer."""
    from strata.ssl.image.config import ImageSSLConfig

    s = setting
    return ImageSSLConfig(
        backbone="vit_tiny_patch16_224",
        model_kwargs={"patch_size": s.patch, "embed_dim": s.dim, "depth": s.depth, "num_heads": s.heads, "init_values": 1e-5},
        cache_size=s.side, global_size=s.global_size, local_size=s.local_size, n_local=s.n_local, batch_size=s.batch,
        head_hidden=s.hidden, head_bottleneck=s.bottleneck, n_prototypes=s.prototypes, ibot_n_prototypes=s.prototypes,
        ibot_bottleneck=s.bottleneck, ibot_separate_head=False, precision=precision, steps=2 * s.steps,
        warmup_steps=1, teacher_temperature_steps=1, freeze_last_layer_steps=1, checkpoint_every=1000,
    )  # fmt: skip


def ours(setting: Setting, precision: str, data: str, out: str) -> dict[str, Any]:
    """One run of this trainer, in this process."""
    import numpy as np
    import torch

    from strata.curation.pools.folder import ImageFolderPool
    from strata.ssl.image.pretrain import pretrain

    pool = ImageFolderPool(data)
    last: dict[str, float] = {}
    # A line after the steps that do not count, and one at the end: the rates of a line are those since the one before
    pretrain(recipe(setting, precision), pool, np.arange(len(pool)), out, seed=0, device="cpu",
             num_threads=setting.threads, log_every=setting.steps, on_metrics=lambda values, step: last.update(values),
             progress=False)  # fmt: skip
    return {name: last[name] for name in ("images_per_s", "data_wait", "mfu")} | {"torch": torch.__version__}


def export_images(n: int, folder: Path) -> None:
    """Images of tinyimagenet_lt, as JPEG files that both sides read."""
    from strata.curation.pools.parquet import ParquetPool

    pool = ParquetPool("images/tinyimagenet_lt", "pool")
    folder.mkdir()
    for row in range(n):
        image: Any = pool[row * len(pool) // n]
        image.save(folder / f"{row:05d}.jpg", quality=95)


def measure(side: str, peer: str, setting: Setting, precision: str, folder: Path) -> dict[str, Any]:
    """A fresh process of one side."""
    given = asdict(setting) | {"precision": precision, "data": str(folder / "images")}
    environment = os.environ | {"OMP_NUM_THREADS": str(setting.threads)}
    with tempfile.TemporaryDirectory(dir=folder) as out:
        given["out"] = f"{out}/run"
        script = (
            [peer, str(folder / "peer.py")] if side == "theirs" else [sys.executable, "-m", __spec__.name, "--ours"]
        )
        done = subprocess.run([*script, json.dumps(given)], capture_output=True, text=True, env=environment)
    found = [line for line in done.stdout.splitlines() if line.startswith("RESULT ")]
    if done.returncode or not found:
        raise SystemExit(f"{side}, {precision}: exit code {done.returncode}\n{done.stderr[-2000:]}{done.stdout[-500:]}")
    result: dict[str, Any] = json.loads(found[0].removeprefix("RESULT "))
    print(side, precision, result, flush=True)
    return result


def compare(peer: str, setting: Setting, rounds: int, folder: Path) -> str:
    """Rounds of both sides at both precisions, and a Markdown report of them."""
    export_images(setting.images, folder / "images")
    (folder / "peer.py").write_text(PEER)
    runs: dict[tuple[str, str], list[dict[str, Any]]] = {}
    for _ in range(rounds):
        for precision in PRECISIONS:
            for side in ("ours", "theirs"):
                runs.setdefault((side, precision), []).append(measure(side, peer, setting, precision, folder))
    return report(setting, runs)


def report(setting: Setting, runs: dict[tuple[str, str], list[dict[str, Any]]]) -> str:
    """Medians and ratios of the runs, by (side, precision)."""
    from strata.ssl.image.flops import step_flops

    rate = {key: statistics.median(run["images_per_s"] for run in found) for key, found in runs.items()}
    wait = {key: statistics.median(run["data_wait"] for run in found) for key, found in runs.items()}
    mfu = {precision: statistics.median(run["mfu"] for run in runs["ours", precision]) for precision in PRECISIONS}
    theirs, n = runs["theirs", PRECISIONS[0]][0], len(runs["ours", PRECISIONS[0]])
    per_image = step_flops(recipe(setting, PRECISIONS[0])).total / setting.batch / 1e9
    lines = [
        f"{platform.machine()}, {os.cpu_count()} cores, {setting.threads} threads, wall time; load {os.getloadavg()[0]:.1f}; "
        f"commit {git_commit()}; lightly-train {theirs['version']} with torch {theirs['torch']}, ours with torch "
        f"{runs['ours', PRECISIONS[0]][0]['torch']}. Medians of {n} rounds of {setting.steps} steps each.",
        "",
        f"ViT {setting.dim} x {setting.depth}, patch {setting.patch}; 2 crops of {setting.global_size} px and {setting.n_local} "
        f"of {setting.local_size} px of {setting.images:,} images of tinyimagenet_lt ({setting.side} px); batch "
        f"{setting.batch}; heads {setting.hidden}-{setting.bottleneck}-{setting.prototypes}; DINO, iBOT and KoLeo with "
        f"Sinkhorn-Knopp: {per_image:.1f} GFLOP an image. Theirs decodes and augments each image in {setting.workers} "
        "processes, ours keeps the decoded images and augments batches in the training process.",
        "",
        "| precision | ours, images/s | lightly-train | ratio | rounds | waiting for data: ours | theirs | MFU: ours | theirs |",
        "|:--|--:|--:|--:|:--|--:|--:|--:|--:|",
    ]
    for precision in PRECISIONS:
        a, b = rate["ours", precision], rate["theirs", precision]
        pairs = zip(runs["ours", precision], runs["theirs", precision], strict=True)
        each = ", ".join(f"{x['images_per_s'] / y['images_per_s']:.2f}" for x, y in pairs)
        lines.append(
            f"| {precision} | {a:.1f} | {b:.1f} | {a / b:.2f} | {each} | {wait['ours', precision]:.1%} "
            f"| {wait['theirs', precision]:.1%} | {mfu[precision]:.1%} | {mfu[precision] * b / a:.1%} |"
        )
    best = {side: max(rate[side, precision] for precision in PRECISIONS) for side in ("ours", "theirs")}
    lines += [
        "",
        f"Best of each: {best['ours']:.1f} against {best['theirs']:.1f} images/s, a ratio of "
        f"{best['ours'] / best['theirs']:.2f}. MFU: against the best measured product of 1024 x 1024 matrices in that "
        "precision on these threads. Waiting: from the end of a step to the start of the next.",
    ]
    return "\n".join(lines) + "\n"


def main() -> None:
    """Command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--peer", help="an interpreter that has lightly-train")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--setting", choices=SETTINGS, default="vit_tiny")
    parser.add_argument("--change", nargs="*", default=[], metavar="NAME=NUMBER", help="e.g. dim=384 heads=6")
    parser.add_argument("--write", type=Path, help="also write the report there, e.g. results/benchmarks/ssl.md")
    parser.add_argument("--ours", help=argparse.SUPPRESS)  # JSON: what a process of our side runs
    given = parser.parse_args()
    if given.ours:
        s = json.loads(given.ours)
        precision, data, out = (s.pop(name) for name in ("precision", "data", "out"))
        print("RESULT", json.dumps(ours(Setting(**s), precision, data, out)))
        return
    if not given.peer:
        parser.error("--peer is needed: an interpreter that has lightly-train")
    changes = {name: int(value) for name, value in (pair.split("=") for pair in given.change)}
    with tempfile.TemporaryDirectory() as folder:
        text = compare(given.peer, replace(SETTINGS[given.setting], **changes), given.rounds, Path(folder))
    print(text)
    if given.write:
        write_section(given.write, given.setting, text)


def write_section(file: Path, name: str, text: str) -> None:
    """Put a setting's report into the file, in place of the one that is there."""
    file.parent.mkdir(parents=True, exist_ok=True)
    title = "# Pre-training speed: `python -m strata.experiments.benchmarks.ssl`\n"
    parts = file.read_text().split("\n## ")[1:] if file.exists() else []
    sections = dict(part.split("\n", 1) for part in parts) | {name: "\n" + text}
    file.write_text(title + "".join(f"\n## {key}\n{sections[key].rstrip()}\n" for key in sorted(sections)))


if __name__ == "__main__":
    main()
