"""Choose the size that images are resized to, from the sizes of the images and of the objects in them."""

import math
from collections.abc import Sequence
from functools import partial
from pathlib import Path
from typing import NamedTuple

import numpy as np
from numpy.typing import ArrayLike

from kit.data.decode import read_upright_size
from kit.data.samples import evenly_spaced_part
from kit.ground.threads import map_files


class SizeRule(NamedTuple):
    """The limits of a chosen size.

    max_area: the largest area in pixels; rounding the sides may exceed it a little. Training time is proportional to
        the area.
    multiple: each side is a multiple of this many pixels, since nets halve their input several times.
    min_side: the smallest side, at which some cells are left in the coarsest feature map.
    """

    max_area: int
    multiple: int
    min_side: int


LABEL_SIZE_RULE = SizeRule(64 * 64, 8, 32)  # one object usually fills the image, and small images allow many epochs
BOX_SIZE_RULE = SizeRule(480 * 640, 32, 64)  # a detector's coarsest level has a stride of 32
MASK_SIZE_RULE = SizeRule(256 * 256, 16, 64)  # the net computes an output for each pixel, which takes more time
# Large objects reduce the area to no less than this fraction, since a net also needs their surroundings.
MIN_AREA_FRACTION = 0.125
SMALL_OBJECTS = 0.25  # the share of objects that may be smaller than `OBJECT_SIDE`
MAX_IMAGES = 1000  # the largest number of images, evenly spaced, whose sizes are read
OBJECT_SIDE = 120  # the height and width in pixels at which a detector with a finest stride of 16 locates objects well
# The largest ratio of the sides: a longer image would have few cells across in the coarsest feature map.
MAX_ASPECT = 4.0
MIXED_SHARE = 0.25  # if the share of tall images and the share of wide images both exceed it, the size is a square


def choose_image_size(image_sizes: ArrayLike, object_shares: ArrayLike, rule: SizeRule) -> tuple[int, int]:
    """Return a height and width for all images.

    The aspect ratio is the median of the images' ratios, within `MAX_ASPECT`, or 1 if many images are tall and many are
    wide. The area is the median of the images' areas, but at most `rule.max_area`; rounding the sides may exceed it a
    little. If objects are large, the area is smaller, since they are learned faster in small images: three quarters of
    the objects then have at least `OBJECT_SIDE` x `OBJECT_SIDE` pixels. Each side is rounded to `rule.multiple`, and is
    at least `rule.min_side`.

    Args:
        image_sizes: the height and width of each image, Long[N 2].
        object_shares: the area of each object as a fraction of its image's area, Float[M]. If there are none, the area
            does not shrink.
        rule: the limits.
    """
    heights, widths = np.asarray(image_sizes, float).reshape(-1, 2).T
    if not len(heights):
        return (max(rule.min_side, math.isqrt(rule.max_area) // rule.multiple * rule.multiple),) * 2
    # Logarithms treat tall and wide images alike: for images rotated by 90 degrees, the result has its sides swapped.
    log_aspects = np.log(heights / widths)
    is_mixed = min(np.mean(log_aspects > 0), np.mean(log_aspects < 0)) > MIXED_SHARE
    aspect = 1.0 if is_mixed else float(np.exp(np.median(log_aspects)).clip(1 / MAX_ASPECT, MAX_ASPECT))
    area = min(rule.max_area, float(np.median(heights * widths)))
    if len(shares := np.asarray(object_shares, float)):
        sufficient_area = OBJECT_SIDE**2 / max(float(np.quantile(shares, SMALL_OBJECTS)), 1e-9)
        area = min(max(sufficient_area, MIN_AREA_FRACTION * area), area)
    multiples = (round(math.sqrt(area * factor) / rule.multiple) * rule.multiple for factor in (aspect, 1 / aspect))
    height, width = (max(rule.min_side, side) for side in multiples)
    return height, width


def read_image_sizes(paths: Sequence[Path]) -> list[tuple[int, int]]:
    """Return the height and width of each readable image among at most `MAX_IMAGES`, from the files' headers."""
    headers = map_files(partial(read_upright_size, quick=True), evenly_spaced_part(paths, MAX_IMAGES))
    return [header[0] for header in headers if header]
