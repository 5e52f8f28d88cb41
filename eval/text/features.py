"""Frozen features of texts by a language model, in the layout of every features folder: the probes read them alike."""

from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import torch
from jaxtyping import Float
from numpy.lib.format import open_memmap
from torch import Tensor

from strata.curation.artifact import create_artifact
from strata.curation.encoders.base import weights_sha256
from strata.curation.errors import ConfigError
from strata.curation.pools.base import Pool
from strata.curation.pools.content import kind_of
from strata.curation.shards import checked_cast
from strata.curation.text.tokenizer import one_thread_tokenizer
from strata.eval.labels import check_labels, check_same_classes
from strata.eval.text.model import LanguageModel

MAX_BLOCKS = 4  # the last ones, as for images


def extract_text_features(
    model: LanguageModel,
    pool_by_split: Mapping[str, Pool],
    out: str | Path,
    *,
    key: str = "",
    inputs: Mapping[str, str] | None = None,
    config: Any = None,
    batch_tokens: int = 8192,
    dtype: str = "float32",
) -> Path:
    """Read every text once and write an artifact "features".

    ``<split>/cls.npy`` [n, L, d] holds the state of the last token of a text in the last L blocks (what the network would
    predict the next token from: the place of an image's class token), ``<split>/avg.npy`` the mean over its tokens, the
    first special one left out. A text longer than the network takes is cut at its end.

    Args:
        model: see ``load_language_model``.
        pool_by_split: "train" and "test": labelled texts of the same classes.
        out: the folder to make.
        key, inputs, config: see ``create_artifact``.
        batch_tokens: places of a padded batch, at most.
        dtype: of the stored features, "float16" or "float32".

    Raises:
        ConfigError: no texts, or no labels. DataError: labels outside the classes, or features that are not finite.
    """
    for split, pool in pool_by_split.items():
        if kind_of(pool) != "text":
            raise ConfigError(f"benchmark.{split}", f"{pool.name!r} holds {kind_of(pool)}", "use a pool of texts")
        check_labels(split, pool)
    check_same_classes(pool_by_split)
    blocks = min(MAX_BLOCKS, model.module.config.num_hidden_layers)
    weights = weights_sha256(model.module)
    cut = {"tokenizer": type(model.tokenizer).__name__, "max_tokens": model.max_length}
    told = {
        "name": model.name,
        "key": model.key or f"sha256:{weights}",
        "n_blocks": blocks,
        "dim": model.module.config.hidden_size,
        "weights_sha256": weights,
        "transform": cut,
    }
    splits: dict[str, Any] = {}
    with create_artifact(out, "features", key=key, inputs=inputs, config=config) as draft:
        for split, pool in pool_by_split.items():
            folder = draft.path / split
            folder.mkdir(exist_ok=True)
            shape = (len(pool), blocks, told["dim"])
            arrays = [open_memmap(folder / f"{name}.npy", "w+", dtype, shape) for name in ("cls", "avg")]
            for rows, *states in _states(model, pool, blocks, batch_tokens):
                for array, block in zip(arrays, states, strict=True):
                    values = block.cpu().numpy()
                    array[rows] = checked_cast(values.reshape(len(rows), -1), dtype, pool.ids, 0).reshape(values.shape)
            for array in arrays:
                array.flush()
            items = {"row": np.arange(len(pool)), "id": pa.array(list(pool.ids), pa.string()), "label": pool.labels}
            pq.write_table(pa.table(items), folder / "items.parquet")
            splits[split] = {
                "n": len(pool),
                "fingerprint": pool.fingerprint,
                "backbone": told["key"],
                "dtype": dtype,
                "pool": {"name": pool.name, **pool.describe()},
            }
        names = next(iter(pool_by_split.values())).label_names
        draft.meta.update(splits=splits, label_names=names, backbone=told, dtype=dtype, batch_size=batch_tokens)
    return Path(out)


@torch.inference_mode()
def _states(
    model: LanguageModel, pool: Pool, blocks: int, batch_tokens: int
) -> Iterator[tuple[np.ndarray, Float[Tensor, "b L d"], Float[Tensor, "b L d"]]]:
    """(rows, last, mean) in batches of texts of like length."""
    with one_thread_tokenizer():
        encoded = [
            [model.first, *model.tokenizer.encode(pool[row], add_special_tokens=False)][: model.max_length]
            for row in range(len(pool))
        ]
    order = sorted(range(len(pool)), key=lambda row: -len(encoded[row]))
    start = 0
    while start < len(order):
        rows = order[start : start + max(1, batch_tokens // len(encoded[order[start]]))]
        start += len(rows)
        lengths = torch.tensor([len(encoded[row]) for row in rows], device=model.device)
        tokens = torch.zeros(len(rows), int(lengths[0]), dtype=torch.int64, device=model.device)
        for line, row in enumerate(rows):
            tokens[line, : len(encoded[row])] = torch.tensor(encoded[row])
        found = model.module.base_model(input_ids=tokens, output_hidden_states=True, use_cache=False)
        # The last of hidden_states has passed the final norm; the others get it too, as probes of images do
        norm = getattr(model.module.base_model, "norm", torch.nn.Identity())
        layers = [*(norm(state) for state in found.hidden_states[-blocks:-1]), found.hidden_states[-1]]
        states = torch.stack([layer.float() for layer in layers], dim=1)  # b L t d
        places = torch.arange(tokens.shape[1], device=model.device)
        kept = ((places[None] < lengths[:, None]) & (places[None] > 0))[:, None, :, None]
        mean = (states * kept).sum(dim=2) / kept.sum(dim=2).clamp(min=1)
        last = states[torch.arange(len(rows), device=model.device), :, lengths - 1]
        yield np.array(rows), last, mean
