"""An exported language model, opened by transformers alone."""

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch

from strata.curation.artifact import read_manifest
from strata.curation.device import resolve_device
from strata.curation.errors import ConfigError


@dataclass
class LanguageModel:
    """A causal language model in eval mode.

    Attributes:
        module: of transformers.
        tokenizer: of transformers.
        name: the folder or hub id it came from.
        key: content key of the folder, if strata made it.
        device: where the weights are.
    """

    module: Any
    tokenizer: Any
    name: str
    key: str
    device: torch.device

    @property
    def max_length(self) -> int:
        """Tokens that the network takes at once."""
        return int(getattr(self.module.config, "max_position_embeddings", None) or 2048)

    @property
    def first(self) -> int:
        """The token before a text: the first one, or where there is none the last one, as lm-evaluation-harness."""
        bos = self.tokenizer.bos_token_id
        return int(self.tokenizer.eos_token_id if bos is None else bos)


def load_language_model(path: str | Path, device: str = "auto", dtype: torch.dtype = torch.float32) -> LanguageModel:
    """Open a folder of strata or transformers, or a hub id.

    Raises:
        ConfigError: transformers cannot open it.
    """
    from transformers import AutoModelForCausalLM, AutoTokenizer
    from transformers.utils import logging

    local = Path(path).is_dir()
    bars = logging.is_progress_bar_enabled()
    logging.disable_progress_bar()
    try:
        module = AutoModelForCausalLM.from_pretrained(
            str(path), dtype=dtype, local_files_only=local, use_safetensors=True, attn_implementation="sdpa"
        )
        tokenizer = AutoTokenizer.from_pretrained(str(path), local_files_only=local)
    except (OSError, ValueError, KeyError) as error:
        reason = str(error).splitlines()[0][:200]
        raise ConfigError(
            "model", f"{path} cannot be opened ({reason})", "give an exported folder or a hub id"
        ) from error
    finally:
        if bars:
            logging.enable_progress_bar()
    key = read_manifest(path)["key"] if local and (Path(path) / "manifest.json").is_file() else ""
    where = resolve_device(device)
    return LanguageModel(module.eval().requires_grad_(False).to(where), tokenizer, str(path), key, where)
