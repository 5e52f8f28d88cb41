"""A ViT of timm as a model of transformers (``Dinov2Model``, or ``Dinov2WithRegistersModel``), and back.

The two libraries compute the same function; only names and layouts differ: transformers keeps query, key and value apart,
always has a LayerScale (of 1 where timm has none), and gives registers no position, so timm's is added to the register.
At another image size than that of training the position embedding is resampled by each library in its own way.

    python -m strata.ssl.image.huggingface BACKBONE_FOLDER NEW_FOLDER [--student]
"""

import argparse
import json
from pathlib import Path
from typing import Any

import timm
import torch
from safetensors.torch import load_file
from timm.layers import Attention, GluMlp, Mlp, PatchEmbed, SwiGLU
from timm.models.vision_transformer import Block, VisionTransformer
from torch import Tensor, nn

from strata.curation.errors import ConfigError, DataError


def to_huggingface(vit: VisionTransformer) -> nn.Module:
    """The same network as a model of transformers, in eval mode. ``last_hidden_state`` is ``vit.forward_features``.

    Raises:
        ConfigError: no Dinov2 model can be this network; says which part and why.
    """
    from transformers import Dinov2Config, Dinov2Model, Dinov2WithRegistersConfig, Dinov2WithRegistersModel

    check_expressible(vit)
    registers = 0 if vit.reg_token is None else vit.reg_token.shape[1]
    block: Any = vit.blocks[0]  # timm's layers are not typed
    settings: dict[str, Any] = {
        "hidden_size": vit.embed_dim,
        "num_hidden_layers": len(vit.blocks),
        "num_attention_heads": block.attn.num_heads,
        "mlp_ratio": _mlp_ratio(block.mlp, vit.embed_dim),
        "use_swiglu_ffn": not isinstance(block.mlp, Mlp),
        "layer_norm_eps": float(vit.norm.eps),  # type: ignore[arg-type]
        "image_size": vit.patch_embed.img_size[0],
        "patch_size": vit.patch_embed.patch_size[0],
        "num_channels": vit.patch_embed.proj.in_channels,
        "qkv_bias": block.attn.qkv.bias is not None,
    }
    with torch.random.fork_rng(devices=[]):
        if registers:
            model: nn.Module = Dinov2WithRegistersModel(
                Dinov2WithRegistersConfig(**settings, num_register_tokens=registers)
            )
        else:
            model = Dinov2Model(Dinov2Config(**settings))
    model.load_state_dict(_transformers_state(vit, set(model.state_dict())), strict=True)
    return model.eval()


def check_expressible(vit: VisionTransformer) -> None:
    """Raise a ConfigError if transformers' Dinov2 cannot be this network."""
    block: Any = vit.blocks[0]  # timm's layers are not typed
    size, patch = vit.patch_embed.img_size, vit.patch_embed.patch_size
    norms: list[Any] = [vit.norm, *(norm for b in vit.blocks for norm in (b.norm1, b.norm2))]
    fine = {
        "its blocks are not timm's plain ones": all(isinstance(b, Block) for b in vit.blocks),
        "its attention is not timm's plain one": type(block.attn) is Attention,
        "it normalizes queries and keys (qk_norm)": _absent(block.attn, "q_norm", "k_norm", "norm"),
        "it normalizes inside the MLP": _absent(block.mlp, "norm"),
        "it has a norm before its blocks (pre_norm)": _absent(vit, "norm_pre"),
        "it has a norm after pooling (fc_norm)": _absent(vit, "fc_norm"),
        "its norms are not all LayerNorm with one eps": all(
            isinstance(n, nn.LayerNorm) and n.eps == norms[0].eps for n in norms
        ),
        "it has no class token": vit.cls_token is not None,
        "its position embedding is not learned": vit.pos_embed is not None,
        "images or patches are not square": size[0] == size[1] and patch[0] == patch[1],
        "its patch embedding is not one convolution with a bias": type(vit.patch_embed) is PatchEmbed
        and _absent(vit.patch_embed, "norm")
        and vit.patch_embed.proj.bias is not None,
        "its MLP is neither GELU nor SwiGLU of a width that transformers knows": _mlp_ratio(block.mlp, vit.embed_dim)
        > 0,
        "its projections have no bias": block.attn.proj.bias is not None and block.mlp.fc2.bias is not None,
    }
    reasons = [reason for reason, good in fine.items() if not good]
    if reasons:
        raise ConfigError(
            "huggingface", f"no Dinov2 model can be this network: {'; '.join(reasons)}", "use timm's folder"
        )


def from_huggingface(model: nn.Module) -> dict[str, Tensor]:
    """Weights of a Dinov2 model by timm's names. ``pos_embed`` holds the class token's place first, and no registers'.

    Raises:
        DataError: it is no Dinov2 model, or transformers names its parts in a way that is not known here.
    """
    kind = getattr(getattr(model, "config", None), "model_type", type(model).__name__)
    if not str(kind).startswith("dinov2"):
        raise DataError(f"init_from: a {kind} of transformers is not read; give a Dinov2 model or timm weights")
    theirs = model.state_dict()
    state = {ours: theirs[name] for name, ours in _TOP.items() if name in theirs}
    for i in range(model.config.num_hidden_layers):  # type: ignore[union-attr, arg-type]
        before, after = f"encoder.layer.{i}.", f"blocks.{i}."
        for end in ("weight", "bias"):
            parts = [before + name + f".{end}" for name in _qkv(theirs, before)]
            if parts[0] in theirs:
                state[f"{after}attn.qkv.{end}"] = torch.cat([theirs[part] for part in parts])
            state[f"{after}attn.proj.{end}"] = theirs[f"{before}{_pick(theirs, before, *_OUT)}.{end}"]
            for name in ("norm1", "norm2", "mlp.fc1", "mlp.fc2"):
                if before + name + f".{end}" in theirs:
                    state[f"{after}{name}.{end}"] = theirs[f"{before}{name}.{end}"]
            if f"{before}mlp.gate_proj.{end}" in theirs:
                gate, up = (theirs[f"{before}mlp.{part}.{end}"] for part in ("gate_proj", "up_proj"))
                state[f"{after}mlp.fc1.{end}"] = torch.cat([gate, up])
                state[f"{after}mlp.fc2.{end}"] = theirs[f"{before}mlp.down_proj.{end}"]
        for n in (1, 2):
            state[f"{after}ls{n}.gamma"] = theirs[f"{before}layer_scale{n}.lambda1"]
    return {name: value.detach().clone() for name, value in state.items()}


def _transformers_state(vit: VisionTransformer, names: set[str]) -> dict[str, Tensor]:
    ours = {name: value.detach().cpu() for name, value in vit.state_dict().items()}
    state = {name: ours[mine] for name, mine in _TOP.items() if mine in ours}
    state["embeddings.mask_token"] = torch.zeros(1, vit.embed_dim)
    pos, registers = ours["pos_embed"], vit.num_prefix_tokens - 1
    if vit.no_embed_class:
        pos = torch.cat([torch.zeros_like(pos[:, :1]), pos], dim=1)
    elif registers:
        state["embeddings.register_tokens"] = ours["reg_token"] + pos[:, 1 : 1 + registers]
        pos = torch.cat([pos[:, :1], pos[:, 1 + registers :]], dim=1)
    state["embeddings.position_embeddings"] = pos
    for i in range(len(vit.blocks)):
        before, after = f"blocks.{i}.", f"encoder.layer.{i}."
        for end in ("weight", "bias"):
            if f"{before}attn.qkv.{end}" in ours:
                parts = zip(_qkv(names, after), ours[f"{before}attn.qkv.{end}"].chunk(3), strict=True)
                state |= {f"{after}{name}.{end}": value for name, value in parts}
            state[f"{after}{_pick(names, after, *_OUT)}.{end}"] = ours[f"{before}attn.proj.{end}"]
            state |= {f"{after}{name}.{end}": ours[f"{before}{name}.{end}"] for name in ("norm1", "norm2")}
            state |= _mlp_state(ours, before, after, end, isinstance(vit.blocks[i].mlp, Mlp))
        for n in (1, 2):
            ones = torch.ones(vit.embed_dim)
            state[f"{after}layer_scale{n}.lambda1"] = ours.get(f"{before}ls{n}.gamma", ones)
    return state


def _mlp_state(ours: dict[str, Tensor], before: str, after: str, end: str, plain: bool) -> dict[str, Tensor]:
    if plain:
        return {f"{after}mlp.{name}.{end}": ours[f"{before}mlp.{name}.{end}"] for name in ("fc1", "fc2")}
    if f"{before}mlp.fc1_g.{end}" in ours:  # SwiGLU: gate and value apart
        gate, up = ours[f"{before}mlp.fc1_g.{end}"], ours[f"{before}mlp.fc1_x.{end}"]
    else:  # SwiGLUPacked: gate first
        gate, up = ours[f"{before}mlp.fc1.{end}"].chunk(2)
    down = ours[f"{before}mlp.fc2.{end}"]
    return {f"{after}mlp.{name}.{end}": v for name, v in (("gate_proj", gate), ("up_proj", up), ("down_proj", down))}


def _mlp_ratio(mlp: nn.Module, dim: int) -> int:
    """The whole number from which transformers makes this width; 0 if there is none, or the MLP is another."""
    if type(mlp) is Mlp:
        gelu = isinstance(mlp.act, nn.GELU) and mlp.act.approximate == "none"
        width = int(mlp.fc1.out_features)  # type: ignore[arg-type]  # timm's layers are not typed
        return width // dim if gelu and width % dim == 0 else 0
    gated = isinstance(mlp, SwiGLU) or (isinstance(mlp, GluMlp) and not mlp.gate_last)
    if not gated or not isinstance(mlp.act, nn.SiLU):
        return 0
    width = int(mlp.fc2.in_features)  # type: ignore[arg-type, union-attr]
    ratios = [r for r in range(1, 17) if (int(dim * r * 2 / 3) + 7) // 8 * 8 == width]
    return ratios[0] if ratios else 0


def _absent(module: nn.Module, *names: str) -> bool:
    return all(isinstance(getattr(module, name, nn.Identity()), nn.Identity) for name in names)


_TOP = {  # transformers -> timm
    "embeddings.cls_token": "cls_token",
    "embeddings.register_tokens": "reg_token",
    "embeddings.position_embeddings": "pos_embed",
    "embeddings.patch_embeddings.projection.weight": "patch_embed.proj.weight",
    "embeddings.patch_embeddings.projection.bias": "patch_embed.proj.bias",
    "layernorm.weight": "norm.weight",
    "layernorm.bias": "norm.bias",
}
_OUT = ("attention.o_proj", "attention.output.dense")  # new and old name of one thing
_QUERY = ("attention.q_proj", "attention.attention.query")


def _pick(names: Any, prefix: str, *choices: str) -> str:
    for choice in choices:
        if f"{prefix}{choice}.weight" in names:
            return choice
    raise DataError(f"transformers has no {prefix}{choices[0]}.weight in its Dinov2; another version is needed")


def _qkv(names: Any, prefix: str) -> tuple[str, str, str]:
    if _pick(names, prefix, *_QUERY) == _QUERY[0]:
        return "attention.q_proj", "attention.k_proj", "attention.v_proj"
    return "attention.attention.query", "attention.attention.key", "attention.attention.value"


def export_huggingface(folder: str | Path, out: str | Path, *, student: bool = False) -> Path:
    """Write a backbone folder as one that ``AutoModel`` and ``AutoImageProcessor`` of transformers open.

    Args:
        folder: as ``pretrain`` wrote it: ``config.json`` and ``model.safetensors``.
        out: must not exist yet.
        student: its ``student.safetensors`` instead of the teacher.

    Raises:
        ConfigError: the folder is incomplete, ``out`` exists, or no Dinov2 model can be this network.
    """
    from transformers import BitImageProcessor

    folder, out = Path(folder), Path(out)
    weights = folder / ("student.safetensors" if student else "model.safetensors")
    if out.exists():
        raise ConfigError("out", f"{out} exists already", "remove it or give another folder")
    for file in (folder / "config.json", weights):
        if not file.is_file():
            raise ConfigError("folder", f"{file} is not there", "give a finished backbone folder")
    config = json.loads((folder / "config.json").read_text())
    vit = timm.create_model(config["architecture"], **{**config["model_args"], "num_classes": 0})
    vit.load_state_dict(load_file(weights), strict=True)
    to_huggingface(vit).save_pretrained(out)  # type: ignore[arg-type, operator]
    seen = config["pretrained_cfg"]
    size = seen["input_size"][1]
    if len(seen["mean"]) == 3:
        processor = BitImageProcessor(
            size={"shortest_edge": size},
            crop_size={"height": size, "width": size},
            image_mean=seen["mean"],
            image_std=seen["std"],
        )
        processor.save_pretrained(out)
    return out


def main() -> None:
    """Command line of ``export_huggingface``."""
    parser = argparse.ArgumentParser(description=export_huggingface.__doc__)
    parser.add_argument("folder", type=Path)
    parser.add_argument("out", type=Path)
    parser.add_argument("--student", action="store_true")
    given = parser.parse_args()
    print(export_huggingface(given.folder, given.out, student=given.student))


if __name__ == "__main__":
    main()
