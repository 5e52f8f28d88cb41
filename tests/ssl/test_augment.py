"""The batched augmentations: torchvision's pixels for equal parameters, torchvision's distributions of the parameters."""

import math

import numpy as np
import pytest
import torch
from scipy.stats import ks_2samp
from torchvision.transforms import v2
from torchvision.transforms.v2 import functional as F

from strata.curation.errors import ConfigError
from strata.ssl.image.augment import augment_view, gaussian_blur, multi_crop, quarter_turns, resized_crop
from strata.ssl.image.color import adjust_brightness, adjust_contrast, adjust_hue, to_gray
from strata.ssl.image.config import ImageSSLConfig
from strata.ssl.image.data import step_generator
from strata.ssl.image.draws import COLOR_OPERATIONS, Boxes, draw_view

PLAIN = {"flip": 0.0, "jitter": 0.0, "gray": 0.0, "blur": (0, 0, 0), "solarize": (0, 0, 0)}
N = 4000


def recipe(**changes):
    values = {"cache_size": 64, "global_size": 32, "local_size": 16, "n_local": 2, "steps": 10_000}
    return ImageSSLConfig(**{**values, **changes})


def pictures(n=6, side=32, bands=3):
    """Smooth, as photographs are."""
    coarse = torch.rand(n, bands, 7, 7, generator=torch.Generator().manual_seed(0)) * 255
    return torch.nn.functional.interpolate(coarse, side, mode="bicubic").clamp(0, 255).to(torch.uint8)


def draws(config, kind=0, n=N, extent=(64, 64), bands=3, seed=0, part=None):
    extents = torch.tensor([extent] * n, dtype=torch.float32)
    generator = torch.Generator().manual_seed(seed)
    return draw_view(config, kind, extents if part is None else extents[part], bands, generator, part or slice(0, n), n)


# ---- equal parameters, equal pixels


@pytest.mark.parametrize(("kind", "size"), [(0, 48), (1, 80), (2, 24)])
def test_pixels_are_those_of_torchvision(kind, size):
    """Every operation at once, in the drawn order, on images that fill their square and on one that does not."""
    config = recipe(blur=(0.5, 0.5, 0.5), solarize=(0.5, 0.5, 0.5), jitter=0.9, gray=0.3)
    images = pictures(12, 64)
    view = draws(config, kind, 12, extent=(64, 40), seed=kind)
    ours = augment_view(images.float(), view, size, config)
    assert view.blur.any() and view.gray.any() and view.solarize.any() and view.flip.any()  # each is really tried
    for i, image in enumerate(images[:, :, :, :40]):
        top, left, height, width = (int(side[i]) for side in vars(view.boxes).values())
        x = F.resized_crop(
            image / 255,
            top,
            left,
            height,
            width,
            [size, size],
            interpolation=v2.InterpolationMode.BICUBIC,
            antialias=True,
        ).clamp(0, 1)
        x = F.horizontal_flip(x) if view.flip[i] else x
        for index in view.order:
            name = COLOR_OPERATIONS[index]
            x = getattr(F, f"adjust_{name}")(x, float(getattr(view, name)[i]))
        x = F.rgb_to_grayscale(x, 3) if view.gray[i] else x
        x = F.gaussian_blur(x, [9, 9], [float(view.sigma[i])] * 2) if view.blur[i] else x
        x = F.solarize(x, 128 / 255) if view.solarize[i] else x
        torch.testing.assert_close(ours[i], x, rtol=0, atol=2e-5)


def test_hue_of_gray_and_of_pure_colors():
    gray = torch.full((1, 3, 2, 2), 0.3)
    torch.testing.assert_close(adjust_hue(gray, torch.tensor([0.37])), gray)
    red = torch.tensor([1.0, 0.0, 0.0]).view(1, 3, 1, 1)
    green, blue = red.roll(1, 1), red.roll(2, 1)
    torch.testing.assert_close(adjust_hue(red, torch.tensor([1 / 3])), green, rtol=0, atol=1e-5)
    torch.testing.assert_close(adjust_hue(red, torch.tensor([-1 / 3])), blue, rtol=0, atol=1e-5)
    torch.testing.assert_close(adjust_hue(red, torch.tensor([0.5])), 1 - red, rtol=0, atol=1e-5)


def test_full_crop_without_augmentation_is_the_normalized_image():
    config = recipe(cache_size=32, global_scale=(1.0, 1.0), mean=(0.1, 0.2, 0.3), std=(0.5, 0.6, 0.7), **PLAIN)
    crops, _ = multi_crop(pictures(), config, step_generator(0, 0))
    mean, std = torch.tensor(config.mean).view(3, 1, 1), torch.tensor(config.std).view(3, 1, 1)
    torch.testing.assert_close(crops[:6], (pictures() / 255 - mean) / std, rtol=1e-4, atol=1e-4)


def test_blur_leaves_flat_images_and_those_that_were_not_chosen():
    flat = torch.full((2, 3, 16, 16), 0.3)
    torch.testing.assert_close(gaussian_blur(flat, torch.tensor([0.5, 2.0])), flat)
    x = pictures() / 255
    torch.testing.assert_close(gaussian_blur(x, torch.zeros(6)), x, rtol=0, atol=1e-6)
    tiny = torch.rand(1, 3, 3, 3)  # smaller than the kernel: fewer taps
    assert gaussian_blur(tiny, torch.ones(1)).std() < tiny.std()


# ---- equal distributions


def reference_boxes(scale, extent, n=N):
    image = torch.empty(3, *extent)
    torch.manual_seed(0)
    crop = v2.RandomResizedCrop(8, scale)
    found = [crop.make_params([image]) for _ in range(n)]
    return {name: np.array([box[name] for box in found]) for name in ("top", "left", "height", "width")}


@pytest.mark.parametrize(
    ("scale", "extent"),
    [((0.32, 1.0), (64, 64)), ((0.05, 0.32), (64, 64)), ((0.32, 1.0), (64, 40)), ((0.9, 1.0), (20, 64))],
)
def test_boxes_are_distributed_as_torchvisions(scale, extent):
    """Area, aspect ratio, sides and position; the last extent makes every try fail, so that the center is taken."""
    boxes = {
        name: side.double().numpy()
        for name, side in vars(draws(recipe(global_scale=scale), extent=extent).boxes).items()
    }
    expected = reference_boxes(scale, extent)
    for found in (boxes, expected):
        found["area"], found["aspect"] = found["height"] * found["width"], found["width"] / found["height"]
    for name, values in expected.items():
        assert ks_2samp(boxes[name], values).pvalue > 1e-3, name
    if extent == (20, 64):
        assert set(boxes["width"]) == {27.0} and set(boxes["top"]) == {0.0}
    assert (boxes["top"] + boxes["height"]).max() <= extent[0] and (boxes["left"] + boxes["width"]).max() <= extent[1]


def test_rates_and_factors_are_distributed_as_torchvisions():
    config = recipe(
        brightness=0.4, contrast=1.5, saturation=0.2, hue=0.1, blur=(1.0, 0.1, 0.5), solarize=(0.0, 0.2, 0.0)
    )
    views = [draws(config, kind, seed=kind) for kind in (0, 1, 2)]
    error = 4 * math.sqrt(0.25 / N)  # four standard deviations at most
    for kind, view in enumerate(views):
        for name, expected in (
            ("flip", 0.5),
            ("gray", 0.2),
            ("blur", config.blur[kind]),
            ("solarize", config.solarize[kind]),
        ):
            assert getattr(view, name).float().mean().item() == pytest.approx(expected, abs=error), name
        active = view.hue != 0
        assert active.float().mean().item() == pytest.approx(0.8, abs=error)
        assert (view.brightness[~active] == 1).all() and (view.saturation[~active] == 1).all()
    torch.manual_seed(0)
    jitter = v2.ColorJitter(config.brightness, config.contrast, config.saturation, config.hue)
    drawn = [jitter.make_params([]) for _ in range(N)]
    for name in COLOR_OPERATIONS:
        ours = getattr(views[0], name).flatten()[active := views[0].hue != 0].numpy()
        assert ks_2samp(ours, [float(p[f"{name}_factor"]) for p in drawn]).pvalue > 1e-3, name
        assert len(ours) == active.sum()
    torch.manual_seed(0)
    sigma = [float(v2.GaussianBlur(9, config.blur_sigma).make_params([])["sigma"][0]) for _ in range(N)]
    assert ks_2samp(views[0].sigma.numpy(), sigma).pvalue > 1e-3


def test_order_of_the_color_operations_is_uniform():
    orders = [draws(recipe(), n=1, seed=seed).order for seed in range(2400)]
    counts = np.unique(orders, axis=0, return_counts=True)[1]
    assert len(counts) == 24 and ((counts - 100) ** 2 / 100).sum() < 50  # chi-square, 23 degrees: p = 1e-3


def test_batches_of_both_paths_have_the_same_statistics():
    """End to end: mean and spread of each channel, and of the differences of neighbors (blur, scale), over many crops."""
    images = pictures(150, 64)
    found = []
    for augment in ("batched", "torchvision"):
        crops = multi_crop(images, recipe(augment=augment), step_generator(0, 0))
        for x in crops:
            per_crop = torch.stack([x.mean((1, 2, 3)), x.std((1, 2, 3)), x.diff(dim=3).abs().mean((1, 2, 3))])
            found.append(per_crop.numpy())
    for ours, theirs in zip(found[:2], found[2:], strict=True):
        for a, b in zip(ours, theirs, strict=True):
            assert ks_2samp(a, b).pvalue > 1e-3


# ---- the batch


@pytest.mark.parametrize("augment", ["batched", "torchvision"])
def test_shapes_repeatability_and_processes(augment):
    config = recipe(augment=augment)
    crops = [multi_crop(pictures(side=64), config, step_generator(3, step)) for step in (5, 5, 6)]
    assert crops[0][0].shape == (12, 3, 32, 32) and crops[0][1].shape == (12, 3, 16, 16)
    assert torch.equal(crops[0][0], crops[1][0]) and torch.equal(crops[0][1], crops[1][1])
    assert not torch.equal(crops[0][0], crops[2][0])
    split = [
        multi_crop(pictures(side=64)[3 * rank : 3 * rank + 3], config, step_generator(3, 5), rank=rank, world_size=2)
        for rank in (0, 1)
    ]
    for whole, parts in zip(crops[0], zip(*split, strict=True), strict=True):
        together = torch.cat([part.unflatten(0, (2, 3)) for part in parts], dim=1).flatten(0, 1)
        torch.testing.assert_close(together, whole, rtol=0, atol=1e-6)
    assert multi_crop(pictures(side=64), recipe(n_local=0, augment=augment), step_generator(0, 0))[1].shape == (
        0,
        3,
        16,
        16,
    )


@pytest.mark.parametrize("augment", ["batched", "torchvision"])
def test_nothing_outside_the_extent_is_seen(augment):
    images = pictures(8, 64)
    extents = torch.tensor([[64, 30]] * 4 + [[50, 64]] * 4)
    other = images.clone()
    other[:4, :, :, 30:] = 7
    other[4:, :, 50:] = 7
    config = recipe(augment=augment)
    one, two = (multi_crop(x, config, step_generator(0, 0), extents=extents) for x in (images, other))
    assert torch.equal(one[0], two[0]) and torch.equal(one[1], two[1])
    assert not torch.equal(one[0], multi_crop(images, config, step_generator(0, 0))[0])


@pytest.mark.parametrize("augment", ["batched", "torchvision"])
def test_mixed_precision_of_the_network_leaves_the_crops_alone(augment):
    config = recipe(augment=augment)
    expected = multi_crop(pictures(side=64), config, step_generator(0, 0))
    with torch.autocast("cpu", torch.bfloat16):
        crops = multi_crop(pictures(side=64), config, step_generator(0, 0))
    assert torch.equal(crops[0], expected[0]) and torch.equal(crops[1], expected[1])


def test_solarize_is_on_the_second_global_view_only():
    base = dict(cache_size=32, global_scale=(1.0, 1.0), mean=(0, 0, 0), std=(1, 1, 1))
    config = recipe(**{**base, **PLAIN, "solarize": (0.0, 1.0, 0.0)})
    crops, _ = multi_crop(pictures(), config, step_generator(0, 0))
    assert crops[:6].max() > 0.9 and crops[6:].max() < 0.5001


def test_bands_other_than_rgb_get_brightness_and_contrast_of_their_own():
    x = pictures(400, 16, bands=5) / 255 * 0.2 + 0.4  # far from the clamp
    view = draws(recipe(jitter=1.0, brightness=0.3, contrast=0.3), n=400, extent=(16, 16), bands=5)
    assert view.brightness.shape == (400, 5) and not view.any_solarize
    correlation = np.corrcoef(view.brightness.T.numpy())
    assert np.abs(correlation - np.eye(5)).max() < 0.25
    torch.testing.assert_close(adjust_contrast(x, view.contrast).mean((2, 3)), x.mean((2, 3)), rtol=1e-4, atol=1e-4)
    ratio = adjust_brightness(x, view.brightness) / x
    torch.testing.assert_close(ratio, view.brightness[:, :, None, None].expand_as(ratio), rtol=1e-4, atol=1e-4)


def test_crop_of_many_bands_is_that_of_each():
    x = pictures(4, 32, bands=6).float()
    boxes = Boxes(*(torch.tensor([v] * 4, dtype=torch.float32) for v in (2, 5, 20, 15)))
    flip = torch.tensor([True, False, True, False])
    whole = resized_crop(x, boxes, flip, 24)
    torch.testing.assert_close(whole[:, 3:], resized_crop(x[:, 3:], boxes, flip, 24))


def test_gray_uses_the_chosen_ones_only():
    x = pictures(4) / 255
    gray = to_gray(x, torch.tensor([True, False, True, False]))
    assert torch.equal(gray[1::2], x[1::2]) and (gray[::2, :1] == gray[::2]).all()


@pytest.mark.parametrize(
    ("field", "value"),
    [("hue", 0.6), ("augment", "kornia"), ("fit", "stretch"), ("sampling", "x"), ("temperature", 1.5)],
)
def test_bad_settings(field, value):
    with pytest.raises(ConfigError) as caught:
        recipe(**{field: value})
    assert caught.value.field == f"ssl.{field}"


def dihedral(x):
    """The eight ways to turn and flip a square image."""
    return [turned for each in (x, x.flip(-1)) for turned in (each.rot90(k, (-2, -1)) for k in range(4))]


def test_quarter_turns_are_torchs():
    x = torch.rand(4, 5, 6, 6)
    turned = quarter_turns(x, torch.tensor([0, 1, 2, 3]))
    for count in range(4):
        assert torch.equal(turned[count], x[count].rot90(count, (-2, -1)))


@pytest.mark.parametrize("augment", ["batched", "torchvision"])
def test_from_above_every_one_of_the_eight_orientations_is_as_likely(augment):
    plain = {**PLAIN, "global_scale": (1.0, 1.0), "cache_size": 32, "n_local": 0, "mean": (0, 0, 0), "std": (1, 1, 1)}
    image = pictures(1)
    whole = image[0].float() / 255
    config = recipe(**{**plain, "flip": 0.5, "flip_vertical": 0.5, "quarter_turns": 1.0, "augment": augment})
    crops, _ = multi_crop(image.expand(800, -1, -1, -1), config, step_generator(0, 0))
    ways = torch.stack(dihedral(whole))
    square = [crop for crop in crops if (crop - ways).abs().amax(dim=(1, 2, 3)).min() < 0.02]
    assert len(square) > 100, "crops of the whole image are one of the eight"
    which = torch.stack([(crop - ways).abs().amax(dim=(1, 2, 3)).argmin() for crop in square])
    counts = torch.bincount(which, minlength=8).float()
    expected = len(square) / 8
    assert ((counts - expected) ** 2 / expected).sum() < 24.3  # chi-square, 7 degrees: p = 1e-3


def test_only_the_share_that_is_asked_for_is_turned():
    view = draws(recipe(quarter_turns=0.4, flip_vertical=0.25))
    error = 4 * math.sqrt(0.25 / N)
    assert (view.turns != 0).float().mean().item() == pytest.approx(0.4 * 3 / 4, abs=error)
    assert view.flip_vertical.float().mean().item() == pytest.approx(0.25, abs=error)
    assert sorted(view.turns.unique().tolist()) == [0, 1, 2, 3]


def test_recipes_without_them_draw_what_they_drew():
    plain, above = draws(recipe(), n=50), draws(recipe(flip_vertical=0.5), n=50)
    assert plain.turns is None and plain.flip_vertical is None and above.turns.sum() == 0
    for name in ("flip", "brightness", "hue", "sigma"):
        assert torch.equal(getattr(plain, name), getattr(above, name)), name


def test_three_bands_that_are_no_colors_are_each_by_itself():
    by_band = recipe(by_band=True, hue=0.0, saturation=0.0, gray=0.0, solarize=(0, 0, 0), jitter=1.0)
    view = draws(by_band, n=100)
    assert view.brightness.shape == (100, 3) and not torch.equal(view.brightness[:, 0], view.brightness[:, 1])
    x = pictures(100, 16) / 255 * 0.2 + 0.4
    torch.testing.assert_close(adjust_contrast(x, view.contrast).mean((2, 3)), x.mean((2, 3)), rtol=1e-4, atol=1e-4)
    one = pictures(10, 16, bands=1) / 255 * 0.2 + 0.4
    torch.testing.assert_close(
        adjust_contrast(one, torch.full((10, 1), 1.2)).mean((2, 3)), one.mean((2, 3)), rtol=1e-4, atol=1e-4
    )
    for changes, field in (
        ({"hue": 0.1}, "ssl.hue"),
        ({"augment": "torchvision"}, "ssl.augment"),
        ({"gray": 0.1}, "ssl.gray"),
    ):
        with pytest.raises(ConfigError, match=field):
            recipe(**{"by_band": True, "hue": 0, "saturation": 0, "gray": 0, "solarize": (0, 0, 0), **changes})
