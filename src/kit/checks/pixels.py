"""What an image's pixels tell: each is decoded once, in grey, at a size that shows what a net would see."""

import hashlib
import sys
from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np
from PIL import Image as Pillow
from torch.utils.data import DataLoader, Dataset
from tqdm import tqdm

from kit.checks.headers import Header, broken, header_of
from kit.checks.images import Image
from kit.data.decode import load, to_tensor, upright
from kit.ground.faults import Fault, fault
from kit.ground.reading import open_image, read_image_bytes
from kit.ground.threads import cores

SIDE = 128  # the longer one of the grey picture is at least this, and below twice this
THUMB = 16  # height and width of what is kept of each image
CHUNK = 32  # files that a worker takes at a time
_PLACES = np.arange(32)
_DCT = np.cos(np.pi / 32 * (_PLACES + 0.5) * np.arange(8)[:, None]).astype(np.float32)

# An image's figures; 350 bytes each, so that a million images fit.
FIGURES = np.dtype(
    [
        ("low", "f4"),  # brightness, 0 to 255: the percentiles 1, 5 and 99
        ("dim", "f4"),
        ("high", "f4"),
        ("entropy", "f4"),  # of the grey values, bits
        ("sharpness", "f4"),  # standard deviation of a Laplacian
        ("hash", "u8"),
        ("thumb", "u1", (THUMB, THUMB)),
        ("bytes", "u8"),  # a digest of the file
    ]
)


class Figures(NamedTuple):
    """headers: of each file, or what is wrong with it; then its row in the table, FIGURES[N], is 0."""

    headers: list[Header | Fault]
    table: np.ndarray

    @property
    def whole(self) -> np.ndarray:
        """bool[N]"""
        return np.array([isinstance(header, Header) for header in self.headers], dtype=bool)


def read_images(files: Sequence[Image]) -> Figures:
    """All files' headers and figures, read by a process for each core, with a bar on a terminal."""
    headers: list[Header | Fault] = []
    table = np.zeros(len(files), FIGURES)
    workers = cores() if len(files) > 20 * CHUNK else 0  # starting them takes as long as decoding that many
    chunks = DataLoader(_Chunks(files), batch_size=None, num_workers=workers, collate_fn=_as_it_is)
    with tqdm(total=len(files), desc="reading images", disable=not sys.stderr.isatty(), leave=False) as bar:
        for some, rows in chunks:
            table[len(headers) : len(headers) + len(rows)] = rows
            headers += some
            bar.update(len(rows))
    return Figures(headers, table)


class _Chunks(Dataset):
    def __init__(self, files: Sequence[Image]) -> None:
        self.files = files

    def __len__(self) -> int:
        return -(-len(self.files) // CHUNK)

    def __getitem__(self, chunk: int) -> tuple[list[Header | Fault], np.ndarray]:
        files = self.files[chunk * CHUNK : (chunk + 1) * CHUNK]
        headers: list[Header | Fault] = []
        rows = np.zeros(len(files), FIGURES)
        for place, file in enumerate(files):
            try:
                content = read_image_bytes(file.path)
                with open_image(file.path, content) as image:
                    header = header_of(image, len(content))
                    digest = int.from_bytes(hashlib.sha1(content).digest()[:8])
                    shades, truncated = grey(image, content)
                    rows[place] = (*figures(shades), digest)
                    header = header._replace(is_truncated=truncated)
                headers.append(header)
            except Exception as error:
                headers.append(broken(file, error))
        return headers, rows


def _as_it_is(chunk: Any) -> Any:
    return chunk


def grey(image: Pillow.Image, content: bytes) -> tuple[Pillow.Image, bool]:
    """Return the image upright and in mode L, and whether it is a JPEG that lacks its last bytes.

    JPEGs are decoded from the first byte to the last, but only their brightness, and at a fraction of their size.

    Args:
        content: the bytes of the file that the image was opened from.
    """
    longer = max(image.size)
    whole, truncated = load(image, content, ("L", (image.width * SIDE // longer, image.height * SIDE // longer)))
    if whole.mode in ("L", "RGB") and "transparency" not in whole.info:
        shades = upright(whole.convert("L"))
    else:
        shades = Pillow.fromarray(to_tensor(whole, 1, None)[0].numpy())
    factor = max(shades.size) // SIDE
    return (shades.reduce(factor) if factor > 1 else shades), truncated


def figures(picture: Pillow.Image) -> tuple:
    """A row of FIGURES, but for its last entry, of a picture in mode L."""
    counts = np.array(picture.histogram(), dtype=np.float64)
    counts /= counts.sum()
    low, dim, high = np.searchsorted(counts.cumsum(), (0.01, 0.05, 0.99 - 1e-9))
    some = counts[counts > 0]
    square = np.asarray(picture.resize((32, 32), Pillow.Resampling.BILINEAR), dtype=np.float32)
    thumb = square.reshape(THUMB, 2, THUMB, 2).mean((1, 3)).round()
    return low, dim, high, -(some * np.log2(some)).sum(), sharpness(np.asarray(picture)), perceptual_hash(square), thumb


def sharpness(grey_values: np.ndarray) -> float:
    """Standard deviation of the Laplacian over eight neighbours, its negative side cut off (edges, once).

    After Pech-Pacheco et al., Diatom autofocusing in brightfield microscopy (2000): blurring takes the high
    frequencies, and their variance with them.
    """
    if min(grey_values.shape) < 3:
        return 0.0
    values = grey_values.astype(np.int16)
    rows = values[:-2] + values[1:-1] + values[2:]
    edges = 9 * values[1:-1, 1:-1] - rows[:, :-2] - rows[:, 1:-1] - rows[:, 2:]
    flat = edges.clip(0, 255).astype(np.float32).ravel()
    return float(np.sqrt(max(0.0, flat @ flat / len(flat) - flat.mean() ** 2)))


def perceptual_hash(square: np.ndarray) -> int:
    """64 bits of a Float[32 32]: which of the 64 lowest cosine frequencies are above their median (pHash, Zauner 2010).

    Near pictures differ in few bits, whatever their size, compression and brightness.
    """
    frequencies = (_DCT @ square @ _DCT.T).ravel()
    bits = frequencies > np.median(frequencies[1:])
    return int(np.packbits(bits).view(">u8")[0])


def pixel_faults(files: Sequence[Image], read: Figures) -> list[Fault]:
    """What is wrong with single images; most of it is a matter of what the others are like."""
    found: list[Fault] = []
    whole = read.whole
    table = read.table[whole]
    if not len(table):
        return found
    middle = {name: float(np.median(table[name])) for name in ("dim", "high", "entropy", "sharpness")}
    constant = table["high"] - table["low"] <= 2
    # The absolute limits are CleanVision's, the others keep a data set of documents, or of the night, from alarm.
    dark = table["high"] < min(0.32 * 255, 0.6 * middle["high"])
    bright = table["dim"] > max(0.95 * 255, (middle["dim"] + 255) / 2)
    poor = table["entropy"] < min(3.0, 0.4 * middle["entropy"])
    # An even ground has few edges too, and few shades: it is not blurred.
    soft = (table["sharpness"] < min(34.0, 0.43 * middle["sharpness"])) & (table["entropy"] > 0.77 * middle["entropy"])
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
    places = np.flatnonzero(whole)
    for kind, (has, message) in kinds.items():
        found += [fault(kind, files[i], message) for i in places[has]]
    return found
