"""Color operations on batches, with torchvision's meaning of each factor (`torchvision#transforms/v2/functional/_color.py`).

All of them take and give images in [0, 1], one factor for each image, and write into a tensor of their own.
"""

import torch
from jaxtyping import Bool, Float
from torch import Tensor

_LUMA = (0.2989, 0.587, 0.114)  # torchvision's
_HALF = 128 / 255  # PIL's threshold of 128, which DINOv2 uses


def luma(x: Float[Tensor, "b 3 h w"]) -> Float[Tensor, "b 1 h w"]:
    """Gray value of each pixel."""
    r, g, b = x.unbind(1)
    return (r * _LUMA[0]).add_(g, alpha=_LUMA[1]).add_(b, alpha=_LUMA[2]).unsqueeze(1)


def adjust_brightness(x: Float[Tensor, "b c h w"], factor: Float[Tensor, "b bands"]) -> Float[Tensor, "b c h w"]:
    """Times the factor: of the image, or of each band."""
    return (x * factor[:, :, None, None]).clamp_(0.0, 1.0)


def adjust_contrast(x: Float[Tensor, "b c h w"], factor: Float[Tensor, "b bands"]) -> Float[Tensor, "b c h w"]:
    """Away from (factor above 1) or towards the mean gray; without RGB, the mean of each band."""
    means = x.mean(dim=(2, 3))
    gray = factor.shape[1] != x.shape[1]  # one factor for red, green and blue
    center = means @ means.new_tensor(_LUMA)[:, None] if gray else means  # b bands
    offset = (1.0 - factor) * center
    return torch.addcmul(offset[:, :, None, None], x, factor[:, :, None, None]).clamp_(0.0, 1.0)


def adjust_saturation(x: Float[Tensor, "b 3 h w"], factor: Float[Tensor, " b"]) -> Float[Tensor, "b 3 h w"]:
    """Away from or towards the gray of each pixel."""
    return torch.lerp(luma(x), x, factor[:, None, None, None]).clamp_(0.0, 1.0)


def adjust_hue(x: Float[Tensor, "b 3 h w"], turns: Float[Tensor, " b"]) -> Float[Tensor, "b 3 h w"]:
    """Turn the hue of HSV; value and saturation stay.

    A channel of an HSV color is value - chroma x f(distance of the hue from the channel's opposite), in sixths of a turn,
    with f(d) = clamp(2 - d, 0, 1); so it takes no cases for the six sectors.
    """
    r, g, b = x.unbind(1)
    value = x.amax(dim=1)
    chroma = value - x.amin(dim=1)
    scale = chroma.clamp(min=1e-12).reciprocal_()  # of gray pixels the hue does not matter: their chroma is 0
    red, green = value == r, value == g
    sector = (r - g).mul_(scale).add_(4.0)
    sector = torch.where(green, (b - r).mul_(scale).add_(2.0), sector)
    sector = torch.where(red, (g - b).mul_(scale), sector).add_(6.0 * turns[:, None, None])
    opposite = x.new_tensor([3.0, 5.0, 1.0]).view(3, 1, 1)  # cyan, magenta, yellow
    away = sector.unsqueeze(1) - opposite  # b 3 h w
    away.sub_((away * (1.0 / 6.0)).round_(), alpha=6.0).abs_()  # the shorter way round
    return away.sub_(2.0).neg_().clamp_(0.0, 1.0).mul_(chroma.unsqueeze(1)).sub_(value.unsqueeze(1)).neg_()


def to_gray(x: Float[Tensor, "b 3 h w"], chosen: Bool[Tensor, " b"]) -> Float[Tensor, "b 3 h w"]:
    """The chosen images without color."""
    return torch.where(chosen[:, None, None, None], luma(x), x)


def solarize(x: Float[Tensor, "b 3 h w"], chosen: Bool[Tensor, " b"]) -> Float[Tensor, "b 3 h w"]:
    """The bright half of the chosen images' values inverted."""
    return torch.where(chosen[:, None, None, None] & (x >= _HALF), 1.0 - x, x)
