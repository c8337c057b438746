"""A picture in brush strokes, drawn by a program: something to learn a style from where no painting is at hand.

python -m kit.samples.strokes style.png [--seed 0]
"""

import argparse
from pathlib import Path

import numpy as np
from PIL import Image, ImageDraw

from kit.ground.files import replacing

SIDE = 512  # pixels
SCALE = 2  # drawn larger and shrunk, since Pillow's lines are jagged
PALETTE = ("#15306e", "#2457a6", "#3f86c6", "#74b7d6", "#bfe0d8", "#f7edc4", "#f9d463", "#f0963f", "#c9472f")
OUTLINE = "#0b1436"
WHIRLS, STROKES, STEPS, STEP, WIDTH = 7, 6000, 9, 4.0, 9.0  # the last two in pixels


def strokes(seed: int = 0) -> Image.Image:
    """Short strokes along a field of whirls, coloured by how far the nearest one is."""
    random = np.random.default_rng(seed)
    centres = random.uniform(0, SIDE, (WHIRLS, 2))  # x, y
    turns, reach = random.choice([-1, 1], WHIRLS), random.uniform(50, 110, WHIRLS)

    def direction(place: np.ndarray) -> np.ndarray:
        away = place - centres
        distance = np.linalg.norm(away, axis=1)
        strength = turns * np.exp(-((distance / reach) ** 2) / 2) / (distance + 1)
        whirl = (strength[:, None] * np.stack([-away[:, 1], away[:, 0]], 1)).sum(0)
        flow = whirl + np.array([0.25, 0.125 * np.sin(place[0] / 60)])
        return flow / (np.linalg.norm(flow) + 1e-6)

    def colour(place: np.ndarray) -> str:
        near = (np.linalg.norm(place - centres, axis=1) / reach).min()
        rings = (0.57 + 0.43 * np.cos(5.5 * near)) * np.exp(-near / 4)
        tone = rings + 0.15 * np.sin(place[1] / 50) + 0.08 + random.normal(0, 0.13)
        return PALETTE[int(np.clip(tone, 0, 0.999) * len(PALETTE))]

    canvas = Image.new("RGB", (SIDE * SCALE, SIDE * SCALE), PALETTE[1])
    pen = ImageDraw.Draw(canvas)
    for start in random.uniform(-10, SIDE + 10, (STROKES, 2)):
        line, ink = [start], colour(start)
        for _ in range(STEPS):
            line.append(line[-1] + STEP * direction(line[-1]))
        width = round(SCALE * WIDTH * random.uniform(0.6, 1.2))
        points = [(float(x) * SCALE, float(y) * SCALE) for x, y in line]
        pen.line(points, fill=OUTLINE, width=width + 2 * SCALE, joint="curve")
        pen.line(points, fill=ink, width=width, joint="curve")
    return canvas.resize((SIDE, SIDE), Image.Resampling.LANCZOS)


def main() -> None:
    parser = argparse.ArgumentParser(description="Draws brush strokes, to learn a style from.")
    parser.add_argument("file", type=Path, help="the image that is written: .png or .jpg")
    parser.add_argument("--seed", type=int, default=0, help="of where the whirls are")
    options = parser.parse_args()
    kind = Image.registered_extensions().get(options.file.suffix.lower())
    if kind not in ("PNG", "JPEG") or options.seed < 0:
        parser.error("a .png or .jpg is written, and a seed is 0 or above")
    try:
        with replacing(options.file) as part:
            strokes(options.seed).save(part, kind, quality=92)
    except OSError as error:
        parser.error(f"{options.file} cannot be written: {error.strerror or error}")


if __name__ == "__main__":
    main()
