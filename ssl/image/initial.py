"""Starting from given weights: find them, fit them to the backbone, say what matched and what did not."""

import json
from dataclasses import dataclass
from pathlib import Path

import timm
import torch
from safetensors import SafetensorError
from safetensors.torch import load_file
from timm.models.vision_transformer import VisionTransformer, checkpoint_filter_fn
from torch import Tensor

from strata.curation.errors import ConfigError
from strata.ssl.image.huggingface import from_huggingface


@dataclass(frozen=True)
class Match:
    """Names of tensors: in both; in the source only. All of the backbone's are in ``matched``."""

    source: str
    matched: list[str]
    unused: list[str]

    def summary(self) -> str:
        """For people: counts, and the names that were not used."""
        left = f"; not used, of the source: {len(self.unused)} ({', '.join(self.unused)})" if self.unused else ""
        return f"init_from {self.source}: all {len(self.matched)} tensors of the backbone matched{left}"


def load_initial(source: str, vit: VisionTransformer) -> tuple[dict[str, Tensor], Match]:
    """A state dict for ``vit`` from given weights; position and patch embeddings are resampled to its grid by timm.

    Args:
        source: ``timm:NAME`` (pretrained), a folder of a backbone (ours, timm's, or a Dinov2 of transformers), or a
            ``.safetensors`` file with timm's names.
        vit: the backbone to fill; not changed.

    Raises:
        ConfigError: (``ssl.init_from``) there are no weights, they cannot be read, or a tensor of the backbone has none.
    """
    state = _place_tokens(_read(source), vit)
    try:
        state = checkpoint_filter_fn(state, vit)
    except Exception as error:  # timm takes what comes: shapes that make no sense fail anywhere inside
        raise _refused(source, f"does not fit ({' '.join(str(error).split())[:200]})") from error
    wanted = vit.state_dict()
    lacking = [name for name in wanted if name not in state]
    bent = [
        f"{name} (is {tuple(state[name].shape)}, needed {tuple(value.shape)})"
        for name, value in wanted.items()
        if name in state and state[name].shape != value.shape
    ]
    unused = sorted(name for name in state if name not in wanted)
    if lacking or bent:
        first = "; ".join(
            f"{len(names)} {what}: {', '.join(names[:3])}{', ...' if len(names) > 3 else ''}"
            for what, names in (("missing", lacking), ("of another shape", bent), ("not used", unused))
            if names
        )
        raise _refused(source, f"matches {len(wanted) - len(lacking) - len(bent)} of {len(wanted)} tensors; {first}")
    return {name: state[name] for name in wanted}, Match(source, list(wanted), unused)


def _read(source: str) -> dict[str, Tensor]:
    if source.startswith("timm:"):
        try:
            with torch.random.fork_rng(devices=[]):
                model = timm.create_model(source.removeprefix("timm:"), pretrained=True, num_classes=0)
        except Exception as error:  # no such name, no such weights, no network
            raise _refused(source, f"timm cannot load it ({' '.join(str(error).split())[:200]})") from error
        return dict(model.state_dict())
    path = Path(source).expanduser()
    if path.is_file():
        return _load(source, path)
    if not (path / "config.json").is_file():
        raise _refused(source, "is no file, and no folder with a config.json")
    if "model_type" in json.loads((path / "config.json").read_text()):
        from transformers import AutoModel

        try:
            return from_huggingface(AutoModel.from_pretrained(path, local_files_only=True))
        except (OSError, ValueError, RuntimeError) as error:
            raise _refused(source, f"transformers cannot load it ({' '.join(str(error).split())[:200]})") from error
    return _load(source, path / "model.safetensors")


def _load(source: str, file: Path) -> dict[str, Tensor]:
    try:
        return load_file(file)
    except (OSError, SafetensorError) as error:
        raise _refused(source, f"{file.name} cannot be read ({' '.join(str(error).split())[:200]})") from error


def _place_tokens(state: dict[str, Tensor], vit: VisionTransformer) -> dict[str, Tensor]:
    """Give or take the places of class token and registers in ``pos_embed``, as this backbone wants them.

    A source counts them if its number of places is no square; a token without a place of its own has its place added.
    """
    pos, cls = state.get("pos_embed"), state.get("cls_token")
    if pos is None or cls is None or vit.pos_embed is None:
        return state
    registers = state["reg_token"].shape[1] if "reg_token" in state else 0
    placed = next((n for n in (0, 1, 1 + registers) if round((pos.shape[1] - n) ** 0.5) ** 2 == pos.shape[1] - n), None)
    if placed is None:
        return state
    prefix, grid = pos[:, :placed], pos[:, placed:]
    mine = vit.num_prefix_tokens
    if vit.no_embed_class:
        if placed:
            state = state | {"cls_token": cls + prefix[:, :1]}
        if placed > 1:
            state = state | {"reg_token": state["reg_token"] + prefix[:, 1:]}
        return state | {"pos_embed": grid}
    zeros = prefix.new_zeros(1, max(0, mine - placed), pos.shape[2])
    return state | {"pos_embed": torch.cat([prefix[:, :mine], zeros, grid], dim=1)}


def _refused(source: str, problem: str) -> ConfigError:
    return ConfigError("ssl.init_from", f"{source}: {problem}", "give weights of the backbone that is trained")
