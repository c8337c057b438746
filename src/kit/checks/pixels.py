"""Check the pixels of images. Each is decoded once, in grey and at a small size."""

import hashlib
from collections.abc import Sequence
from itertools import chain
from typing import NamedTuple

import numpy as np
from PIL import Image as Pillow
from PIL import ImageFilter
from torch.utils.data import DataLoader
from tqdm import tqdm

from kit.checks.headers import Header, faults_where, header_of, read_error
from kit.checks.images import ListedImage
from kit.data.decode import load_pixels, to_tensor, upright
from kit.ground.faults import Fault
from kit.ground.files import open_image, read_image_bytes
from kit.ground.threads import available_cores

SIDE = 128  # pixels: the longer side of the grey image is from this to below twice this
THUMB = 16  # height and width of the thumbnails
CHUNK = 32  # the number of files that a worker reads at a time
_DCT = np.cos(np.pi / 32 * (np.arange(32) + 0.5) * np.arange(8)[:, None]).astype(np.float32)

# The statistics of an image. They take 350 bytes, so that those of a million images fit into memory.
# low, dim, high: the percentiles 1, 5 and 99 of brightness, 0 to 255. entropy: of the grey values, in bits.
# sharpness: see `sharpness`. hash: see `perceptual_hash`. thumb: the grey image in small. bytes: a hash of the file.
FLOATS = ("low", "dim", "high", "entropy", "sharpness")
STATISTICS = np.dtype([*((name, "f4") for name in FLOATS), ("hash", "u8"), ("thumb", "u1", (16, 16)), ("bytes", "u8")])


class ImageStatistics(NamedTuple):
    """The headers and statistics of image files.

    headers: the headers of the files that can be read, by the file's index.
    faults: the faults of the other files.
    table: STATISTICS[N]; the row of a file that cannot be read is 0.
    """

    headers: dict[int, Header]
    faults: list[Fault]
    table: np.ndarray


def read_statistics(files: Sequence[ListedImage]) -> ImageStatistics:
    """Read the headers and statistics of all files, with a process for each core and a progress bar."""
    workers = available_cores() if len(files) > 20 * CHUNK else 0  # starting them takes as long as decoding that many
    chunks: DataLoader = DataLoader(files, CHUNK, num_workers=workers, collate_fn=_read_all)  # type: ignore[arg-type]
    statistics = ImageStatistics({}, [], np.zeros(len(files), STATISTICS))
    results = chain.from_iterable(chunks)
    for i, result in enumerate(tqdm(results, "reading images", len(files), leave=False, disable=None)):
        if isinstance(result, Fault):
            statistics.faults.append(result)
        else:
            statistics.headers[i], statistics.table[i] = result
    return statistics


def _read_all(files: Sequence[ListedImage]) -> list[tuple[Header, tuple] | Fault]:
    return [_read(file) for file in files]


def _read(file: ListedImage) -> tuple[Header, tuple] | Fault:
    """Return a file's header and its row of STATISTICS, or a fault if it cannot be read."""
    try:
        content = read_image_bytes(file.path)
        with open_image(file.path, content) as image:
            header = header_of(image, file, len(content))
            shades, truncated = to_grey(image, content)
        digest = int.from_bytes(hashlib.sha1(content).digest()[:8])
        return header._replace(is_truncated=truncated), (*statistics_of(shades), digest)
    except Exception as error:
        return read_error(file, error)


def to_grey(image: Pillow.Image, content: bytes) -> tuple[Pillow.Image, bool]:
    """Return the image upright and in mode L, and whether it is a JPEG that lacks its last bytes.

    All bytes of a JPEG are decoded, but only its brightness, and at a fraction of its size.

    Args:
        content: the bytes of the file that the image was opened from.
    """
    longer = max(image.size)
    draft = "L", (image.width * SIDE // longer, image.height * SIDE // longer)
    decoded, truncated = load_pixels(image, content, draft)
    if decoded.mode in ("L", "RGB") and "transparency" not in decoded.info:
        shades = upright(decoded.convert("L"))
    else:
        shades = Pillow.fromarray(to_tensor(decoded, 1, None)[0].numpy())
    factor = max(shades.size) // SIDE
    return (shades.reduce(factor) if factor > 1 else shades), truncated


def statistics_of(picture: Pillow.Image) -> tuple:
    """Return a row of STATISTICS without its last entry, for an image in mode L."""
    counts = np.cumsum(picture.histogram())
    low, dim, high = np.searchsorted(counts, counts[-1] * np.array([0.01, 0.05, 0.99 - 1e-9]))
    square = np.asarray(picture.resize((32, 32), Pillow.Resampling.BILINEAR), dtype=np.float32)
    thumb = square.reshape(THUMB, 2, THUMB, 2).mean((1, 3)).round()
    return low, dim, high, picture.entropy(), sharpness(picture), perceptual_hash(square), thumb


def sharpness(picture: Pillow.Image) -> float:
    """Return the standard deviation of the Laplacian over eight neighbours, with negative values set to 0.

    Blurring removes high frequencies and so reduces this value (after Pech-Pacheco et al., Diatom autofocusing in
    brightfield microscopy, 2000).
    """
    edges = np.asarray(picture.filter(ImageFilter.FIND_EDGES))[1:-1, 1:-1]
    return float(edges.std()) if edges.size else 0.0


def perceptual_hash(square: np.ndarray) -> int:
    """Return a hash of 64 bits of Float[32 32]: which of the 64 lowest cosine frequencies are above their median.

    The hashes of similar images differ in few bits, whatever their size, compression and brightness (pHash, Zauner
    2010).
    """
    frequencies = (_DCT @ square @ _DCT.T).ravel()
    bits = frequencies > np.median(frequencies[1:])
    return int(np.packbits(bits).view(">u8")[0])


def pixel_faults(files: Sequence[ListedImage], statistics: ImageStatistics) -> list[Fault]:
    """Return the faults of single images. Most limits depend on the medians of the data set."""
    table = statistics.table[list(statistics.headers)]
    if not len(table):
        return []
    median = {name: float(np.median(table[name])) for name in ("dim", "high", "entropy", "sharpness")}
    constant = table["high"] - table["low"] <= 2
    # The absolute limits are those of CleanVision. The others avoid alarms in a data set of documents or at night.
    dark = table["high"] < min(0.32 * 255, 0.6 * median["high"])
    bright = table["dim"] > max(0.95 * 255, (median["dim"] + 255) / 2)
    poor = table["entropy"] < min(3.0, 0.4 * median["entropy"])
    # An image of an even surface has few edges too, but also few shades, so it does not count as blurred.
    soft = (table["sharpness"] < min(34.0, 0.43 * median["sharpness"])) & (table["entropy"] > 0.77 * median["entropy"])
    not_constant, well_exposed = ~constant, ~constant & ~dark & ~bright
    checks = [
        ("constant", constant, "one colour all over; restore or remove it"),
        ("dark", not_constant & dark, "nearly black all over; lighten or remove it"),
        ("bright", not_constant & bright, "nearly white all over; darken or remove it"),
        ("low-information", well_exposed & poor, "few shades, hardly a picture; look at it"),
        ("blurred", well_exposed & soft, "much less sharp than the others; look at it, and remove it if in doubt"),
    ]
    return faults_where(files, statistics.headers, checks)
