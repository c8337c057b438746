"""Choose the size to which images are resized, from the sizes that they have."""

from collections.abc import Sequence
from pathlib import Path
from statistics import median_low

from kit.data.decode import upright_size
from kit.ground.files import open_image
from kit.ground.threads import map_files

# The largest area for images with labels. One object usually fills such an image, and is recognised at this size. The
# time of a step grows with the area, so a small image allows more epochs.
MAX_LABEL_AREA = 96 * 96
MIN_LABEL_SIDE = 32  # a net that halves images four times still has 2x2 features
MULTIPLE = 8  # nets halve images several times, which divides such sides without a remainder
MAX_IMAGES = 1000  # the largest number of images, evenly spaced, whose sizes are read


def choose_label_image_size(sizes: Sequence[tuple[int, int]], max_area: int = MAX_LABEL_AREA) -> tuple[int, int]:
    """Return a height and width for images with labels: the median height and width, reduced to an area.

    The aspect ratio of the medians is kept approximately. No side is larger than its median. Sides are multiples of 8
    and at least 32, but a side whose median is below 32 is the median.

    Args:
        sizes: the heights and widths of some images; without any, the result is 32 x 32.
        max_area: the largest number of pixels.
    """
    if not sizes:
        return MIN_LABEL_SIDE, MIN_LABEL_SIDE
    height, width = (median_low(sides) for sides in zip(*sizes, strict=True))
    short, long = sorted((height, width))
    short_side = _label_side(short * min(1, max_area / (short * long)) ** 0.5, short)
    long_side = _label_side(long * short_side / short, min(long, max_area // short_side))
    return (short_side, long_side) if height <= width else (long_side, short_side)


def _label_side(side: float, largest: int) -> int:
    """Return the multiple of 8 that is nearest to a side, at least 32 and at most `largest`; or `largest` below 32."""
    if largest < MIN_LABEL_SIDE:
        return largest
    return max(MIN_LABEL_SIDE, MULTIPLE * min(round(side / MULTIPLE), largest // MULTIPLE))


def read_image_sizes(paths: Sequence[Path]) -> list[tuple[int, int]]:
    """Return the height and width of each readable image in a sample, by the headers of the files."""
    sizes = map_files(_read_size, paths[:: -(-len(paths) // MAX_IMAGES) or 1])
    return [size for size in sizes if size is not None]


def _read_size(path: Path) -> tuple[int, int] | None:
    try:
        with open_image(path) as image:
            # The orientation of a PNG may follow its pixels. Reading these would take much longer.
            return (image.height, image.width) if image.format == "PNG" else upright_size(image)
    except Exception:  # PIL raises errors of any type; decoding the file later reports them
        return None
