"""Opening a model of transformers: its weights from safetensors, whole, in float32, and what prepares its input."""

from typing import Any

import torch
from safetensors import SafetensorError
from torch import nn

from strata.curation.errors import ConfigError


def open_pretrained(
    model: str, revision: str | None, local: bool, processor: str, *, fix: str, needs_pooler: bool = False
) -> tuple[nn.Module, Any]:
    """The network, frozen and in eval mode, and its processor.

    Args:
        model: hub id or local folder. revision: branch, tag or commit. local: never connect.
        processor: the class of transformers that opens it, e.g. "AutoTokenizer".
        fix: what to say to a user whose model cannot be opened.
        needs_pooler: weights of a pooler may not be missing either.

    Raises:
        ConfigError: it cannot be found or downloaded, or lacks weights or the processor.
    """
    import transformers

    where = {"revision": revision, "local_files_only": local}
    try:
        with torch.random.fork_rng(devices=[]):
            network, report = transformers.AutoModel.from_pretrained(
                model, use_safetensors=True, dtype=torch.float32, output_loading_info=True, **where
            )  # fmt: skip
        prepare = getattr(transformers, processor).from_pretrained(model, **where)
    except (OSError, ValueError, RuntimeError, KeyError, SafetensorError) as error:
        problem = f"{model!r} cannot be opened ({' '.join(str(error).split())[:300]})"
        raise ConfigError("encoder.model", problem, fix) from error
    lacking = sorted(key for key in report["missing_keys"] if needs_pooler or "pooler" not in key)
    if lacking:
        problem = f"the weights of {model!r} lack {len(lacking)} tensors, first {lacking[0]!r}"
        raise ConfigError("encoder.model", problem, "give a checkpoint of the whole model")
    return network.eval().requires_grad_(False), prepare
