"""How fast a trained `Stylizer` (`configs/style.yaml`) paints beside its bare net, and in how much memory.

    python benchmarks/style.py RUN [--size 180 240] [--photos 2000x3000 4000x6000]
    python benchmarks/style.py RUN --picture out.jpg --of photo.jpg [--height 240]

For the memory each photo is painted by `python -m project.predict` in a process of its own. The second
command writes a photo, the style that the run has learned and the photo in it, side by side.
"""

import argparse
import os
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
import torch
from PIL import Image
from torchvision.transforms.v2.functional import pil_to_tensor, to_pil_image

import project
from kit.ground.drawing import side_by_side
from kit.prediction import Predictor

REPEATS = 15
MIB = 2**20


def milliseconds(*calls: Callable[[], object]) -> list[float]:
    """Of each call, the median; they take turns."""
    spent: list[list[float]] = [[] for _ in calls]
    for repeat in range(REPEATS + 3):  # the first three are not counted
        for call, own in zip(calls, spent, strict=True):
            since = time.perf_counter()
            call()
            if repeat >= 3:
                own.append(time.perf_counter() - since)
    return [1000 * statistics.median(own) for own in spent]


def photo(height: int, width: int) -> Image.Image:
    """Noise that is enlarged: as a photo it has areas and edges."""
    coarse = np.random.default_rng(0).integers(0, 256, (max(1, height // 20), max(1, width // 20), 3), dtype=np.uint8)
    return Image.fromarray(coarse).resize((width, height), Image.Resampling.BICUBIC)


def peak_bytes(run: str, height: int, width: int) -> int:
    """The largest resident memory of the process that paints such a photo."""
    with tempfile.TemporaryDirectory() as folder:
        file = Path(folder, "photo.jpg")
        photo(height, width).save(file, quality=90)
        process = subprocess.Popen(
            [sys.executable, "-m", "project.predict", run, str(file), "--out", folder, "--device", "cpu"],
            stdout=subprocess.DEVNULL,
        )
        _, status, usage = os.wait4(process.pid, 0)
        if status:
            sys.exit(f"project.predict failed with {os.waitstatus_to_exitcode(status)}")
    return usage.ru_maxrss * (1 if sys.platform == "darwin" else 1024)


def picture(model: Predictor, file: Path, height: int) -> Image.Image:
    """A photo, the style and the photo in it, side by side."""
    shown = []
    for source in (file, Path(model.task.style)):
        with Image.open(source) as image:
            shown.append(image.convert("RGB").resize((round(image.width * height / image.height), height)))
    shown.append(to_pil_image(model.predict([shown[0]])[0]))
    tensors = [pil_to_tensor(image) for image in shown]
    return to_pil_image(side_by_side(tensors))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("run", help="a run folder of a Stylizer, or a checkpoint")
    parser.add_argument("--size", type=int, nargs=2, default=(180, 240), help="height and width of the timed photo")
    parser.add_argument("--photos", nargs="*", default=["2000x3000", "4000x6000"], help="HEIGHTxWIDTH, for memory")
    parser.add_argument("--picture", type=Path, help="a .jpg to write")
    parser.add_argument("--of", type=Path, help="the photo on it")
    parser.add_argument("--height", type=int, default=240, help="of the photo on it, in pixels")
    options = parser.parse_args()

    model = project.load(options.run, device="cpu")
    if options.picture:
        picture(model, options.of, options.height).save(options.picture, quality=80, optimize=True)
        return
    height, width = options.size
    image = photo(height, width)
    pixels, size = model.preprocessing.read(image)
    # The same weights in plain PyTorch: no pipeline, no Lightning.
    net, plain = model.task.net, (pixels[None].float() / 127.5 - 1).contiguous(memory_format=torch.channels_last)

    def bare() -> torch.Tensor:
        with torch.inference_mode():
            return net(plain)

    net_ms, pass_ms, whole_ms = milliseconds(
        bare, lambda: model.predict_pixels(pixels[None], [size]), lambda: model.predict([image])
    )
    print(f"{torch.get_num_threads()} threads, a photo of {width}x{height}")
    print(f"  bare net                       {net_ms:6.1f} ms")
    print(f"  with what is around it         {pass_ms:6.1f} ms, {pass_ms / net_ms:.2f} times that")
    print(f"  and reading, as predict does   {whole_ms:6.1f} ms, {whole_ms / net_ms:.2f} times that")

    nothing = peak_bytes(options.run, 16, 16)
    print(f"peak memory of python -m project.predict: {nothing / MIB:,.0f} MiB for 16x16 pixels")
    first: tuple[int, int] | None = None
    for word in options.photos:
        height, width = map(int, word.split("x"))
        peak, area = peak_bytes(options.run, height, width), height * width
        first = first or (peak, area)
        print(
            f"  {width}x{height}: {peak / MIB:,.0f} MiB, {peak / first[0]:.2f} times the first, of"
            f" {area / first[1]:.2f} times its area; {(peak - nothing) / area:.0f} bytes a pixel more than 16x16"
        )


if __name__ == "__main__":
    main()
