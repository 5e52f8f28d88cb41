"""DINOv2's augmentations on whole batches of tensors: no per-image Python, the same draws on every device.

A crop with its resize and flip is a pair of matrices (rows, columns) for each image, as is a blur, so a batch is a few
batched matrix products. Given the parameters, the pixels are torchvision's (see the tests); ``augment_torchvision.py`` is
the path through its own transforms.
"""

import torch
from jaxtyping import Float, Int, UInt8
from torch import Generator, Tensor

from strata.ssl.image.color import adjust_brightness, adjust_contrast, adjust_hue, adjust_saturation, solarize, to_gray
from strata.ssl.image.config import ImageSSLConfig
from strata.ssl.image.draws import Boxes, ViewDraws, draw_view

BLUR_TAPS = 9  # dinov2#data/transforms.py: GaussianBlur(kernel_size=9)


@torch.no_grad()
def multi_crop(
    images: UInt8[Tensor, "b c s s"],
    config: ImageSSLConfig,
    generator: Generator,
    extents: Int[Tensor, "b 2"] | None = None,
    rank: int = 0,
    world_size: int = 1,
) -> tuple[Float[Tensor, "2*b c g g"], Float[Tensor, "v*b c l l"]]:
    """Two global crops and ``n_local`` local crops of each image, augmented and normalized; view-major order.

    Args:
        images: this process's images, uint8, on any device. What is not RGB gets crops, flips, turns, brightness and
            contrast of each band, and blur; no hue, saturation, gray or solarization.
        config: sizes, scales and strengths; ``config.augment`` says by which code.
        generator: on the CPU; all parameters are drawn from it.
        extents: height and width of what each image covers of its square, from the top left; all of it by default.
        rank, world_size: this process has images [rank * b, (rank + 1) * b) of the global batch. The crops of an image are
            the same for any number of processes.
    """
    with torch.autocast(images.device.type, enabled=False):  # 8 bits of a bfloat16 are too few for pixels
        if config.augment == "torchvision":
            from strata.ssl.image.augment_torchvision import torchvision_crops

            return torchvision_crops(images, config, generator, extents, rank, world_size)
        return _batched_crops(images, config, generator, extents, rank, world_size)


def _batched_crops(
    images: UInt8[Tensor, "b c s s"],
    config: ImageSSLConfig,
    generator: Generator,
    extents: Int[Tensor, "b 2"] | None,
    rank: int,
    world_size: int,
) -> tuple[Float[Tensor, "2*b c g g"], Float[Tensor, "v*b c l l"]]:
    b, bands, side = images.shape[0], images.shape[1], images.shape[2]
    if extents is None:
        extents = torch.full((b, 2), side, device=images.device)
    part, total, reach = slice(rank * b, (rank + 1) * b), b * world_size, extents.float()
    pixels = images.float()
    stacks = []
    for kinds, size in (((0, 1), config.global_size), ((2,) * config.n_local, config.local_size)):
        stack = pixels.new_empty(len(kinds), b, bands, size, size)
        for out, kind in zip(stack, kinds, strict=True):
            view = draw_view(config, kind, reach, bands, generator, part, total)
            normalize(augment_view(pixels, view, size, config), config, out)
        stacks.append(stack.flatten(0, 1))
    return stacks[0], stacks[1]


def augment_view(
    pixels: Float[Tensor, "b c s s"], view: ViewDraws, size: int, config: ImageSSLConfig
) -> Float[Tensor, "b c o o"]:
    """One view by given parameters, in DINOv2's order. ``pixels`` go from 0 to 255, the result from 0 to 1."""
    x = resized_crop(pixels, view.boxes, view.flip, size)
    if view.flip_vertical is not None:
        x = torch.where(view.flip_vertical.view(-1, 1, 1, 1), x.flip(2), x)
    if view.turns is not None:
        x = quarter_turns(x, view.turns)
    x = jitter_color(x, view, config)
    if x.shape[1] == 3 and config.gray > 0:
        x = to_gray(x, view.gray)
    if view.any_blur:
        x = gaussian_blur(x, torch.where(view.blur, view.sigma, 0.0))
    return solarize(x, view.solarize) if view.any_solarize else x


def normalize(x: Float[Tensor, "b c h w"], config: ImageSSLConfig, out: Float[Tensor, "b c h w"]) -> None:
    """(x - mean) / std of each band, into ``out``."""
    mean, std = (x.new_tensor(values).view(-1, 1, 1) for values in (config.mean, config.std))
    torch.sub(x, mean, out=out).div_(std)


def resized_crop(
    pixels: Float[Tensor, "b c s s"], boxes: Boxes, flip: Tensor, size: int
) -> Float[Tensor, "b c size size"]:
    """Cut each image's box, resize it (bicubic, anti-aliased, as Pillow and torch do) and mirror the chosen ones."""
    side = pixels.shape[-1]
    rows = _resize_matrix(boxes.top, boxes.height, size, side)
    columns = _resize_matrix(boxes.left, boxes.width, size, side)
    columns = torch.where(flip.view(-1, 1, 1), columns.flip(1), columns)
    return _separable(pixels, rows / 255.0, columns).clamp_(0.0, 1.0)  # bicubic weights overshoot


def quarter_turns(x: Float[Tensor, "b c s s"], turns: Int[Tensor, " b"]) -> Float[Tensor, "b c s s"]:
    """Each square image turned counterclockwise by its number of quarter turns."""
    for count in (1, 2, 3):
        x = torch.where((turns == count).view(-1, 1, 1, 1), x.rot90(count, (2, 3)), x)
    return x


def jitter_color(x: Float[Tensor, "b c h w"], view: ViewDraws, config: ImageSSLConfig) -> Float[Tensor, "b c h w"]:
    """Brightness, contrast, saturation and hue in the view's order; what has no strength is skipped."""
    if config.jitter == 0:
        return x
    strengths = (config.brightness, config.contrast, config.saturation, config.hue)
    operations = (
        lambda x: adjust_brightness(x, view.brightness),
        lambda x: adjust_contrast(x, view.contrast),
        lambda x: adjust_saturation(x, view.saturation),
        lambda x: adjust_hue(x, view.hue),
    )
    for index in view.order:
        if strengths[index] > 0 and (index < 2 or x.shape[1] == 3):
            x = operations[index](x)
    return x


def gaussian_blur(x: Float[Tensor, "b c h w"], sigma: Float[Tensor, " b"]) -> Float[Tensor, "b c h w"]:
    """Blur with 9 taps and mirrored borders; a sigma of 0 leaves the image as it is."""
    rows, columns = (_blur_matrix(sigma, side) for side in x.shape[2:])
    return _separable(x, rows, columns)


def _separable(
    x: Float[Tensor, "b c h w"], rows: Float[Tensor, "b o h"], columns: Float[Tensor, "b p w"]
) -> Float[Tensor, "b c o p"]:
    """rows @ x @ columns^T, one pair of matrices for each image."""
    b, c, h, w = x.shape
    narrow = torch.bmm(x.reshape(b, c * h, w), columns.transpose(1, 2)).view(b, c, h, -1)
    return torch.matmul(rows.unsqueeze(1), narrow)


def _resize_matrix(
    start: Float[Tensor, " b"], length: Float[Tensor, " b"], size: int, side: int
) -> Float[Tensor, "b size side"]:
    """Weights that read ``size`` samples from the pixels [start, start + length) of a row of ``side``.

    Keys' cubic with a = -0.5, stretched when the row shrinks, cut at the box and normalized
    (`torch#UpSampleKernel.cpp`, antialias).
    """
    start, length = start.view(-1, 1, 1), length.view(-1, 1, 1)
    step = length / size
    place = torch.arange(side, device=start.device) + 0.5 - start  # b 1 side, from the box's edge
    center = (torch.arange(size, device=start.device).view(1, -1, 1) + 0.5) * step
    x = ((place - center) / step.clamp(min=1.0)).abs_()
    # Two cubics, on [0, 1] and on [1, 2]; each is 0 at its end, so that their sum needs no cases
    near, far = x.clamp(max=1.0), x.clamp_(1.0, 2.0)
    weight = (1.5 * near - 2.5).mul_(near.square()).add_(1.0)
    weight += (2.5 - 0.5 * far).mul_(far).sub_(4.0).mul_(far).add_(2.0)
    weight *= (place > 0) & (place < length)
    return weight.div_(weight.sum(dim=-1, keepdim=True))


def _blur_matrix(sigma: Float[Tensor, " b"], side: int) -> Float[Tensor, "b side side"]:
    """Row i holds the taps around i; what lies outside is mirrored at the border pixel (torch's "reflect")."""
    half = min(BLUR_TAPS // 2, side - 1)
    offset = torch.arange(-half, half + 1, device=sigma.device)
    taps = torch.softmax(-0.5 * (offset / sigma.clamp(min=1e-3).unsqueeze(1)).square(), dim=1)  # b taps
    at = (torch.arange(side, device=sigma.device).unsqueeze(1) + offset).abs()  # side taps
    at = torch.where(at >= side, 2 * (side - 1) - at, at)
    matrix = sigma.new_zeros(len(sigma), side, side)
    return matrix.scatter_add_(2, at.expand(len(sigma), -1, -1), taps.unsqueeze(1).expand(-1, side, -1))
