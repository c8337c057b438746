"""Check the pixels of images. Each is decoded once, in grey and at a small size."""

import hashlib
import sys
from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np
from PIL import Image as Pillow
from torch.utils.data import DataLoader, Dataset
from tqdm import tqdm

from kit.checks.headers import Header, header_of, read_error
from kit.checks.images import ListedImage
from kit.data.decode import load_pixels, to_tensor, upright
from kit.ground.faults import Fault, fault
from kit.ground.files import open_image, read_image_bytes
from kit.ground.threads import available_cores

SIDE = 128  # pixels: the longer side of the grey image is from this to below twice this
THUMB = 16  # height and width of the thumbnails
CHUNK = 32  # the number of files that a worker reads at a time
_DCT = np.cos(np.pi / 32 * (np.arange(32) + 0.5) * np.arange(8)[:, None]).astype(np.float32)

# The statistics of an image. They take 350 bytes, so that those of a million images fit into memory.
STATISTICS = np.dtype(
    [
        ("low", "f4"),  # low, dim and high: the percentiles 1, 5 and 99 of brightness, 0 to 255
        ("dim", "f4"),
        ("high", "f4"),
        ("entropy", "f4"),  # of the grey values, in bits
        ("sharpness", "f4"),  # standard deviation of a Laplacian
        ("hash", "u8"),
        ("thumb", "u1", (THUMB, THUMB)),
        ("bytes", "u8"),  # a hash of the file
    ]
)


class ImageStatistics(NamedTuple):
    """The headers and statistics of image files.

    headers: the header of each file, or the fault of a file that cannot be read.
    table: STATISTICS[N]; the row of a file that cannot be read is 0.
    """

    headers: list[Header | Fault]
    table: np.ndarray

    @property
    def readable(self) -> np.ndarray:
        """Which files can be read, Bool[N]."""
        return np.array([isinstance(header, Header) for header in self.headers], dtype=bool)


def read_statistics(files: Sequence[ListedImage]) -> ImageStatistics:
    """Read the headers and statistics of all files, with a process for each core and a progress bar."""
    headers: list[Header | Fault] = []
    table = np.zeros(len(files), STATISTICS)
    workers = available_cores() if len(files) > 20 * CHUNK else 0  # starting them takes as long as decoding that many
    chunks = DataLoader(_Chunks(files), batch_size=None, num_workers=workers, collate_fn=_unchanged)
    with tqdm(total=len(files), desc="reading images", disable=not sys.stderr.isatty(), leave=False) as bar:
        for chunk, rows in chunks:
            table[len(headers) : len(headers) + len(rows)] = rows
            headers += chunk
            bar.update(len(rows))
    return ImageStatistics(headers, table)


class _Chunks(Dataset):
    def __init__(self, files: Sequence[ListedImage]) -> None:
        self.files = files

    def __len__(self) -> int:
        return -(-len(self.files) // CHUNK)

    def __getitem__(self, chunk: int) -> tuple[list[Header | Fault], np.ndarray]:
        files = self.files[chunk * CHUNK : (chunk + 1) * CHUNK]
        headers: list[Header | Fault] = []
        rows = np.zeros(len(files), STATISTICS)
        for i, file in enumerate(files):
            try:
                content = read_image_bytes(file.path)
                with open_image(file.path, content) as image:
                    header = header_of(image, len(content))
                    digest = int.from_bytes(hashlib.sha1(content).digest()[:8])
                    shades, truncated = to_grey(image, content)
                    rows[i] = (*statistics_of(shades), digest)
                    header = header._replace(is_truncated=truncated)
                headers.append(header)
            except Exception as error:
                headers.append(read_error(file, error))
        return headers, rows


def _unchanged(chunk: Any) -> Any:
    return chunk


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
    counts = np.array(picture.histogram(), dtype=np.float64)
    counts /= counts.sum()
    low, dim, high = np.searchsorted(counts.cumsum(), (0.01, 0.05, 0.99 - 1e-9))
    shares = counts[counts > 0]
    square = np.asarray(picture.resize((32, 32), Pillow.Resampling.BILINEAR), dtype=np.float32)
    thumb = square.reshape(THUMB, 2, THUMB, 2).mean((1, 3)).round()
    entropy = -(shares * np.log2(shares)).sum()
    return low, dim, high, entropy, sharpness(np.asarray(picture)), perceptual_hash(square), thumb


def sharpness(grey_values: np.ndarray) -> float:
    """Return the standard deviation of the Laplacian over eight neighbours, with negative values set to 0.

    Blurring removes high frequencies and so reduces this value (after Pech-Pacheco et al., Diatom autofocusing in
    brightfield microscopy, 2000).
    """
    if min(grey_values.shape) < 3:
        return 0.0
    values = grey_values.astype(np.int16)
    rows = values[:-2] + values[1:-1] + values[2:]
    edges = 9 * values[1:-1, 1:-1] - rows[:, :-2] - rows[:, 1:-1] - rows[:, 2:]
    flat = edges.clip(0, 255).astype(np.float32).ravel()
    return float(np.sqrt(max(0.0, flat @ flat / len(flat) - flat.mean() ** 2)))


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
    faults: list[Fault] = []
    table = statistics.table[statistics.readable]
    if not len(table):
        return faults
    median = {name: float(np.median(table[name])) for name in ("dim", "high", "entropy", "sharpness")}
    constant = table["high"] - table["low"] <= 2
    # The absolute limits are those of CleanVision. The others avoid alarms in a data set of documents or at night.
    dark = table["high"] < min(0.32 * 255, 0.6 * median["high"])
    bright = table["dim"] > max(0.95 * 255, (median["dim"] + 255) / 2)
    poor = table["entropy"] < min(3.0, 0.4 * median["entropy"])
    # An image of an even surface has few edges too, but also few shades, so it does not count as blurred.
    soft = (table["sharpness"] < min(34.0, 0.43 * median["sharpness"])) & (table["entropy"] > 0.77 * median["entropy"])
    kinds = {
        "constant": (constant, "one colour all over; restore or remove it"),
        "dark": (dark & ~constant, "nearly black all over; lighten or remove it"),
        "bright": (bright & ~constant, "nearly white all over; darken or remove it"),
        "low-information": (poor & ~constant & ~dark & ~bright, "few shades, hardly a picture; look at it"),
        "blurred": (
            soft & ~constant & ~dark & ~bright,
            "much less sharp than the others; look at it, and remove it if in doubt",
        ),
    }
    indices = np.flatnonzero(statistics.readable)
    for kind, (has_fault, message) in kinds.items():
        faults += [fault(kind, files[i], message) for i in indices[has_fault]]
    return faults
