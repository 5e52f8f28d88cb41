"""Embed a pool: stream its items through an encoder into an embedding store that a killed run can go on writing."""

import hashlib
import json
import shutil
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, Literal

import numpy as np
import torch

from strata.curation.artifact import create_artifact, read_manifest, write_json
from strata.curation.batches import iter_batches
from strata.curation.device import resolve_device
from strata.curation.encoders.base import Encoder
from strata.curation.errors import ConfigError
from strata.curation.pools.base import Pool
from strata.curation.progress import progress as progress_bar
from strata.curation.shards import checked_cast, holds_shard, shard_ranges, write_items, write_shard
from strata.curation.store import check_layout, store_meta

_SIGNATURE_FILE = "signature.json"
_STATE_FOLDER = "encoder"  # what the encoder learned; stays in the store, so that new items can be embedded alike


def embed(
    pool: Pool,
    encoder: Encoder,
    out: str | Path,
    *,
    key: str = "",
    inputs: Mapping[str, str] | None = None,
    config: Any = None,
    batch_size: int = 256,
    num_workers: int = 0,
    dtype: Literal["float16", "float32"] = "float16",
    shard_rows: int = 65536,
    device: str = "auto",
    progress: bool = True,
    like: str | Path | None = None,
) -> Path:
    """Write the embeddings of all items of a pool, row by row, to the store ``out``.

    A run that was killed goes on at the first shard that is not finished, and ends with the same bytes as one that was
    not. A partial folder of another pool, encoder, dtype or shard size is discarded. Row i of the store is row i of the
    pool: unreadable items have to be excluded when the pool is opened (``pool.on_error=skip``).

    Args:
        pool: the items.
        encoder: fitted first if it has something to learn; its state is kept in ``out/encoder``.
        out: the folder to make. Must not exist yet.
        key: content key of the stage; ``inputs`` and ``config``: see ``create_artifact``.
        batch_size: items per call of the encoder. A batch never crosses a shard.
        num_workers: processes that read and transform items; 0 does that in this process.
        dtype: of the store. float16 keeps three digits, which is enough for k-means.
        shard_rows: rows per file, and between two points at which a killed run can go on.
        device: "auto" takes a GPU if there is one.
        progress: show a bar with rate and time left.
        like: a finished store; what its encoder learned is used, so that both can be compared.

    Returns:
        ``out`` as a path: open it with ``EmbeddingStore.open``.

    Raises:
        ConfigError: a setting is out of range, or the encoder does not fit the pool.
        UnreadableItem: an item cannot be decoded. DataError: an embedding is not finite. Nothing is left on disk.
    """
    _check(pool, batch_size, num_workers, dtype, shard_rows)
    target = resolve_device(device)
    encoder.to(target)
    described = encoder.describe()
    source = {"name": pool.name, "fingerprint": pool.fingerprint, **pool.describe()}
    signature = {"encoder": described, "pool": pool.fingerprint, "n": len(pool), "dtype": dtype, "rows": shard_rows}
    if like is not None:
        signature["like"] = _state_of(Path(like), described)
    with create_artifact(out, "embeddings", key=key, inputs=inputs, config=config) as draft:
        _discard_other_work(draft.path, signature)
        if like is not None:
            _copy_state(Path(like), draft.path / _STATE_FOLDER)
        encoder.fit(pool, draft.path / _STATE_FOLDER)
        _write_shards(pool, encoder, draft.path, batch_size, num_workers, dtype, shard_rows, target, progress)
        write_items(draft.path, pool.ids, pool.labels)
        draft.meta.update(store_meta(len(pool), encoder.dim, dtype, shard_rows, described, source, pool.label_names))
        draft.meta["encoder_state"] = _digests(draft.path / _STATE_FOLDER)
        (draft.path / _SIGNATURE_FILE).unlink()
    return Path(out)


def _write_shards(
    pool: Pool,
    encoder: Encoder,
    folder: Path,
    batch_size: int,
    num_workers: int,
    dtype: str,
    shard_rows: int,
    device: torch.device,
    show: bool,
) -> None:
    shards = dict(enumerate(shard_ranges(len(pool), shard_rows)))
    missing = {i: rows for i, rows in shards.items() if not holds_shard(folder, i, (len(rows), encoder.dim), dtype)}
    rows = (batch for shard in missing.values() for batch in _cut(shard, batch_size))
    on_gpu = device.type == "cuda"
    batches = iter_batches(pool, encoder.transform, rows, num_workers=num_workers, pin_memory=on_gpu)
    done, ids = len(pool) - sum(map(len, missing.values())), pool.ids
    with progress_bar(len(pool), f"embed {encoder.name}", "items", initial=done, disable=not show) as bar:
        for index, shard in missing.items():
            block = np.empty((len(shard), encoder.dim), dtype)
            for batch in _cut(shard, batch_size):
                features = encoder.encode(next(batches)).float().cpu().numpy()
                if features.shape != (len(batch), encoder.dim):
                    problem = (
                        f"{encoder.name} gave {features.shape} for {len(batch)} items, but its dim is {encoder.dim}"
                    )
                    raise ConfigError("encoder", problem, "encode has to return [items, dim]")
                here = slice(batch.start - shard.start, batch.stop - shard.start)
                block[here] = checked_cast(features, dtype, ids, batch.start)
                bar.update(len(batch))
            write_shard(folder, index, block)


def _cut(rows: range, size: int) -> Iterator[range]:
    for start in range(0, len(rows), size):
        yield rows[start : start + size]


def _discard_other_work(folder: Path, signature: dict[str, Any]) -> None:
    """Empty a partial folder whose shards were made from anything else, and drop files cut off while being written."""
    file = folder / _SIGNATURE_FILE
    wanted = json.loads(json.dumps(signature, default=str))
    same = file.exists() and json.loads(file.read_text()) == wanted
    for entry in folder.iterdir():
        if entry.name == "key.txt" or (same and not entry.name.endswith(".tmp")):
            continue
        shutil.rmtree(entry) if entry.is_dir() else entry.unlink()
    write_json(file, signature)


def _state_of(store: Path, described: dict[str, Any]) -> dict[str, str]:
    """Digests of what the encoder of a store learned. Raises ConfigError if it is another encoder than the described."""
    manifest = read_manifest(store, "embeddings")
    if manifest["encoder"] != json.loads(json.dumps(described, default=str)):
        raise ConfigError("like", f"{store} was made by another encoder", "embed both with the same settings")
    state: dict[str, str] = manifest["encoder_state"]
    return state


def _copy_state(store: Path, state: Path) -> None:
    """Put what the encoder of a store learned where ``fit`` finds it, and nothing else."""
    shutil.rmtree(state, ignore_errors=True)
    if (store / _STATE_FOLDER).is_dir():
        shutil.copytree(store / _STATE_FOLDER, state)


def _digests(folder: Path) -> dict[str, str]:
    files = sorted(folder.rglob("*")) if folder.is_dir() else []
    return {
        file.relative_to(folder).as_posix(): hashlib.sha256(file.read_bytes()).hexdigest()
        for file in files
        if file.is_file()
    }


def _check(pool: Pool, batch_size: int, num_workers: int, dtype: str, shard_rows: int) -> None:
    check_layout(dtype, shard_rows)
    if batch_size < 1:
        raise ConfigError("batch_size", f"{batch_size} items", "use 1 or more")
    if num_workers < 0:
        raise ConfigError("num_workers", f"{num_workers} processes", "use 0 or more")
    if len(pool) == 0:
        raise ConfigError("pool", f"{pool.name} has no items", "check its path and split")
