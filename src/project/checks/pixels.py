"""What an image's pixels tell: each is decoded once, in grey, at a size that shows what a net would see."""

import sys
from collections.abc import Iterator, Sequence
from typing import Any, NamedTuple

import numpy as np
from PIL import Image as Pillow
from PIL import ImageOps
from torch.utils.data import DataLoader, Dataset
from tqdm import tqdm

from project.checks.faults import Fault, fault
from project.checks.images import CORES, Image
from project.pipeline.decode import to_tensor

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
    ]
)


class Figures(NamedTuple):
    """table: FIGURES[N]. broken: why a file cannot be decoded, by its place; its row in the table is 0."""

    table: np.ndarray
    broken: dict[int, str]

    @property
    def whole(self) -> np.ndarray:
        """bool[N]"""
        return ~np.isin(np.arange(len(self.table)), list(self.broken))


def read_pixels(files: Sequence[Image]) -> Figures:
    """All files' figures, read by a process for each core, with a bar on a terminal."""
    table, broken = np.zeros(len(files), FIGURES), {}
    with tqdm(total=len(files), desc="reading images", disable=not sys.stderr.isatty(), leave=False) as bar:
        for start, rows, errors in _chunks(files):
            table[start : start + len(rows)] = rows
            broken.update(errors)
            bar.update(len(rows))
    return Figures(table, broken)


def _chunks(files: Sequence[Image]) -> Iterator[tuple[int, np.ndarray, dict[int, str]]]:
    workers = CORES if len(files) > 20 * CHUNK else 0  # starting them takes as long as decoding that many
    yield from DataLoader(_Chunks(files), batch_size=None, num_workers=workers, collate_fn=_as_it_is)


def _as_it_is(chunk: Any) -> Any:
    return chunk


class _Chunks(Dataset):
    def __init__(self, files: Sequence[Image]) -> None:
        self.paths = [str(file.path) for file in files]

    def __len__(self) -> int:
        return -(-len(self.paths) // CHUNK)

    def __getitem__(self, chunk: int) -> Any:
        start = chunk * CHUNK
        paths = self.paths[start : start + CHUNK]
        rows, errors = np.zeros(len(paths), FIGURES), {}
        for place, path in enumerate(paths):
            try:
                rows[place] = figures(grey(path))
            # What a decoder raises over a broken file is not to be foreseen, and all of it means the same.
            except Exception as error:
                errors[start + place] = str(error) or type(error).__name__
        return start, rows, errors


def grey(path: str) -> Pillow.Image:
    """Upright and 8 bits. Of JPEGs only the brightness is decoded, at a fraction of the size, but all of the file."""
    with Pillow.open(path) as image:
        longer = max(image.size)
        image.draft("L", (image.width * SIDE // longer, image.height * SIDE // longer))
        image.load()
        if image.mode in ("L", "RGB") and "transparency" not in image.info:
            shades = ImageOps.exif_transpose(image.convert("L"))
        else:
            shades = Pillow.fromarray(to_tensor(image, 1, None)[0].numpy())
    factor = max(shades.size) // SIDE
    return shades.reduce(factor) if factor > 1 else shades


def figures(picture: Pillow.Image) -> tuple:
    """A row of FIGURES, of a picture in mode L."""
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
    return float(edges.clip(0, 255).std())


def perceptual_hash(square: np.ndarray) -> int:
    """64 bits of a Float[32 32]: which of the 64 lowest cosine frequencies are above their median (pHash, Zauner 2010).

    Near pictures differ in few bits, whatever their size, compression and brightness.
    """
    frequencies = (_DCT @ square @ _DCT.T).ravel()
    bits = frequencies > np.median(frequencies[1:])
    return int(np.packbits(bits).view(">u8")[0])


def pixel_faults(files: Sequence[Image], read: Figures) -> list[Fault]:
    """What is wrong with single images; most of it is a matter of what the others are like."""
    found = [
        fault("unreadable", files[i], f"cannot be decoded ({why}); restore or remove it")
        for i, why in read.broken.items()
    ]
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
