"""Check the pixels of images, which are decoded once, in grey and at a small size."""

import hashlib
from collections.abc import Sequence
from itertools import chain
from typing import NamedTuple

import numpy as np
from PIL import Image as Pillow
from torch.utils.data import DataLoader
from tqdm import tqdm

from kit.checks.headers import Header, failed_checks, header_of, read_error
from kit.checks.images import CheckedImage
from kit.data.decode import require_shades, to_tensor
from kit.ground.faults import Fault
from kit.ground.files import MAX_IMAGE_BYTES, open_image, require_regular
from kit.ground.threads import available_cores

SIDE = 128  # pixels; images are shrunk, in grey, until their longer side is between this and twice this
THUMBNAIL_SIDE = 16  # pixels; the height and width of the thumbnails
CHUNK = 32  # the number of files that a worker reads at a time
_DCT = np.cos(np.pi / 32 * (np.arange(32) + 0.5) * np.arange(8)[:, None]).astype(np.float32)

# The statistics of an image, in about 300 bytes, so that a million images fit into memory.
# p1, p5 and p99 are percentiles of the brightness, 0 to 255. The entropy of the grey values is in bits. The
# field `sharpness` is the result of `sharpness()`, and the field `hash` that of `perceptual_hash()`. `thumbnail` is
# grey, and `file_hash` is a hash of the file's bytes.
FLOATS = [(name, "f4") for name in ("p1", "p5", "p99", "entropy", "sharpness")]
STATISTICS = np.dtype([*FLOATS, ("hash", "u8"), ("thumbnail", "u1", (THUMBNAIL_SIDE,) * 2), ("file_hash", "u8")])


class ImageStatistics(NamedTuple):
    """The headers and statistics of image files.

    headers: the header of each readable file, by the file's index.
    faults: the faults of the other files.
    table: STATISTICS[N]; the rows of unreadable files are 0.
    """

    headers: dict[int, Header]
    faults: list[Fault]
    table: np.ndarray


def read_statistics(files: Sequence[CheckedImage]) -> ImageStatistics:
    """Read the headers and statistics of all files, with a progress bar. For many files, each core has a process."""
    workers = available_cores() if len(files) > 20 * CHUNK else 0  # few files are read before workers have started
    chunks: DataLoader = DataLoader(files, CHUNK, num_workers=workers, collate_fn=_read_all)  # type: ignore[arg-type]
    statistics = ImageStatistics({}, [], np.zeros(len(files), STATISTICS))
    results = chain.from_iterable(chunks)
    for i, result in enumerate(tqdm(results, "reading images", len(files), leave=False, disable=None)):
        if isinstance(result, Fault):
            statistics.faults.append(result)
        else:
            statistics.headers[i], statistics.table[i] = result
    return statistics


def _read_all(files: Sequence[CheckedImage]) -> list[tuple[Header, tuple] | Fault]:
    return [_read(file) for file in files]


def _read(file: CheckedImage) -> tuple[Header, tuple] | Fault:
    """Return a file's header and its row of STATISTICS, or a fault if it cannot be read."""
    try:
        require_regular(file.path, MAX_IMAGE_BYTES)
        content = file.path.read_bytes()
        with open_image(file.path, content) as image, require_shades(image):
            header = header_of(image, file, len(content))
            grey = to_grey(image)
        digest = int.from_bytes(hashlib.sha1(content).digest()[:8])
        return header, (*statistics_of(grey), digest)
    except Exception as error:
        return read_error(file, error)


def to_grey(image: Pillow.Image) -> Pillow.Image:
    """Return the image upright and in mode L. A JPEG's brightness is decoded at a fraction of its size."""
    longer = max(image.size)
    image.draft("L", (max(1, image.width * SIDE // longer), max(1, image.height * SIDE // longer)))
    grey = Pillow.fromarray(to_tensor(image, 1, None)[0].numpy())
    factor = max(grey.size) // SIDE
    return grey.reduce(factor) if factor > 1 else grey


def statistics_of(picture: Pillow.Image) -> tuple:
    """Return the row of STATISTICS for an image in mode L, without `file_hash`."""
    counts = np.cumsum(picture.histogram())
    p1, p5, p99 = np.searchsorted(counts, counts[-1] * np.array([0.01, 0.05, 0.99]))
    square = np.asarray(picture.resize((32, 32), Pillow.Resampling.BILINEAR), dtype=np.float32)
    thumbnail = square.reshape(THUMBNAIL_SIDE, 2, THUMBNAIL_SIDE, 2).mean((1, 3)).round()
    return p1, p5, p99, picture.entropy(), sharpness(picture), perceptual_hash(square), thumbnail


def sharpness(picture: Pillow.Image) -> float:
    """Return the standard deviation of the Laplacian over eight neighbours, with values clipped to 0 to 255.

    Blurred images have low values (after Pech-Pacheco et al., Diatom autofocusing in brightfield microscopy, 2000).
    """
    if min(picture.size) < 3:
        return 0.0
    values = np.asarray(picture).astype(np.int16)
    rows = values[:-2] + values[1:-1] + values[2:]
    sums = rows[:, :-2] + rows[:, 1:-1] + rows[:, 2:]  # of 3x3 pixels each
    return float((9 * values[1:-1, 1:-1] - sums).clip(0, 255).std())


def perceptual_hash(square: np.ndarray) -> int:
    """Return the 64-bit pHash of Float[32 32]: which of the lowest 8x8 DCT coefficients exceed their median.

    The median leaves out the first coefficient, the brightness.

    Similar images have hashes that differ in few bits, whatever their size, compression and brightness (Zauner 2010).
    """
    frequencies = (_DCT @ square @ _DCT.T).ravel()
    bits = frequencies > np.partition(frequencies[1:], 31)[31]
    return int(np.packbits(bits).view(">u8")[0])


def pixel_faults(files: Sequence[CheckedImage], statistics: ImageStatistics) -> list[Fault]:
    """Return the faults that the statistics of single images show. Most limits depend on the data set's medians."""
    table = statistics.table[list(statistics.headers)]
    if not len(table):
        return []
    median = {name: float(np.median(table[name])) for name in ("p5", "p99", "entropy", "sharpness")}
    constant = table["p99"] - table["p1"] <= 2
    # The absolute limits are CleanVision's. The relative ones avoid false alarms for documents and night scenes.
    dark = table["p99"] < min(0.32 * 255, 0.6 * median["p99"])
    bright = table["p5"] > max(0.95 * 255, (median["p5"] + 255) / 2)
    few_shades = table["entropy"] < min(3.0, 0.4 * median["entropy"])
    # A plain surface has few edges, too, but also low entropy, so it does not count as blurred.
    blurred = table["sharpness"] < min(34.0, 0.43 * median["sharpness"])
    blurred &= table["entropy"] > 0.77 * median["entropy"]
    not_constant, well_exposed = ~constant, ~constant & ~dark & ~bright
    checks = [
        ("constant", constant, "one colour all over; restore or remove it"),
        ("dark", not_constant & dark, "nearly black all over; lighten or remove it"),
        ("bright", not_constant & bright, "nearly white all over; darken or remove it"),
        ("low-information", well_exposed & few_shades, "has few shades; check whether it shows anything"),
        ("blurred", well_exposed & blurred, "much less sharp than most images; look at it, and remove it if in doubt"),
    ]
    return failed_checks(files, statistics.headers, checks)
