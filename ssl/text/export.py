"""A trained language model as a folder that AutoModelForCausalLM and AutoTokenizer open without us."""

import shutil
from pathlib import Path
from typing import Any

from torch import Tensor

from strata.ssl.text.model import quiet_transformers

_TOKENIZER_FILES = ("tokenizer.json", "tokenizer_config.json", "special_tokens_map.json")


def export_model(model: Any, weights: dict[str, Tensor], tokenizer: str | Path, folder: Path) -> None:
    """Write ``config.json``, ``generation_config.json``, ``model.safetensors`` and the tokenizer's files.

    Args:
        model: the network (its config and class are used).
        weights: its state dict, whole and on the CPU.
        tokenizer: an artifact "tokenizer"; its files are copied as they are.
        folder: where to.
    """
    model.config.use_cache = True  # training has no use for it, generation does
    with quiet_transformers():
        model.save_pretrained(folder, state_dict=weights)
    for name in _TOKENIZER_FILES:
        if (Path(tokenizer) / name).is_file():
            shutil.copyfile(Path(tokenizer) / name, folder / name)
