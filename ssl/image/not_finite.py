"""What to say of a value that is not finite: which tensor was the first, and the batch that made it."""

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import save_file
from torch import Tensor, nn

from strata.curation.errors import StrataError


class NotFinite(StrataError):
    """A loss or a gradient is NaN or infinite. ``step`` and ``tensor`` (its name) say where it began."""

    def __init__(self, step: int, tensor: str) -> None:
        self.step, self.tensor = step, tensor
        super().__init__(
            f"not finite at step {step}: first {tensor}; lower ssl.base_lr or ssl.clip_grad, or train in ssl.precision=32-true"
        )


def first_bad_forward(module: nn.Module, forward: Callable[[], Mapping[str, Tensor]]) -> str | None:
    """Name of the first tensor that is not finite when ``forward`` runs again; None if all are.

    Looks at weights and buffers first, then at the output of each submodule in the order in which they are computed, then
    at the losses that ``forward`` returns.

    Args:
        module: owns all submodules that ``forward`` calls.
        forward: repeats the pass that went wrong.
    """
    for kind, named in (("weight", module.named_parameters()), ("buffer", module.named_buffers())):
        for name, tensor in named:
            if not _is_finite(tensor):
                return f"{kind} {name}"
    found: list[str] = []

    def watch(name: str) -> Callable[[nn.Module, Any, Any], None]:
        def hook(_: nn.Module, __: Any, output: Any) -> None:
            if not found and not all(_is_finite(tensor) for tensor in _tensors(output)):
                found.append(f"activation {name}")

        return hook

    hooks = [part.register_forward_hook(watch(name)) for name, part in module.named_modules() if name]
    try:
        with torch.no_grad():
            losses = forward()
    finally:
        for handle in hooks:
            handle.remove()
    if found:
        return found[0]
    return next((f"loss {name}" for name, loss in losses.items() if not _is_finite(loss)), None)


def first_bad_gradient(module: nn.Module) -> str | None:
    """Name of the gradient that is not finite and was computed first: backward goes from the last parameter up."""
    named = [(name, p.grad) for name, p in module.named_parameters() if p.grad is not None]
    return next((f"gradient {name}" for name, gradient in reversed(named) if not _is_finite(gradient)), None)


def save_batch(path: Path, images: Tensor, step: int, tensor: str) -> None:
    """Write the images of a bad step to a safetensors file; ``step`` and the tensor's name are in its metadata."""
    path.parent.mkdir(parents=True, exist_ok=True)
    save_file({"images": images.detach().cpu().contiguous()}, path, metadata={"step": str(step), "tensor": tensor})


def _is_finite(tensor: Tensor) -> bool:
    return bool(torch.isfinite(tensor).all())


def _tensors(output: Any) -> list[Tensor]:
    if isinstance(output, Tensor):
        return [output]
    if isinstance(output, Mapping):
        output = list(output.values())
    return [tensor for part in output for tensor in _tensors(part)] if isinstance(output, list | tuple) else []
