"""Draw an image in brush strokes, as a style to learn where no painting is at hand.

python -m kit.samples.strokes style.png [--seed 0]
"""

import argparse
from pathlib import Path

import numpy as np
from PIL import Image, ImageDraw

SIDE = 512  # pixels
SCALE = 2  # the image is drawn larger and then shrunk, because the lines of Pillow are jagged
PALETTE = ("#15306e", "#2457a6", "#3f86c6", "#74b7d6", "#bfe0d8", "#f7edc4", "#f9d463", "#f0963f", "#c9472f")
OUTLINE = "#0b1436"
WHIRLS, STROKES, STEPS, STEP, WIDTH = 7, 6000, 9, 4.0, 9.0  # the last two in pixels


def strokes(seed: int = 0) -> Image.Image:
    """Draw short strokes along a field of whirls, coloured by the distance to the nearest whirl."""
    random = np.random.default_rng(seed)
    centres = random.uniform(0, SIDE, (WHIRLS, 2))  # x, y
    turns, reach = random.choice([-1, 1], WHIRLS), random.uniform(50, 110, WHIRLS)

    def direction(point: np.ndarray) -> np.ndarray:
        away = point - centres
        distance = np.linalg.norm(away, axis=1)
        strength = turns * np.exp(-((distance / reach) ** 2) / 2) / (distance + 1)
        whirl = (strength[:, None] * np.stack([-away[:, 1], away[:, 0]], 1)).sum(0)
        flow = whirl + np.array([0.25, 0.125 * np.sin(point[0] / 60)])
        return flow / (np.linalg.norm(flow) + 1e-6)

    def colour(point: np.ndarray) -> str:
        near = (np.linalg.norm(point - centres, axis=1) / reach).min()
        rings = (0.57 + 0.43 * np.cos(5.5 * near)) * np.exp(-near / 4)
        tone = rings + 0.15 * np.sin(point[1] / 50) + 0.08 + random.normal(0, 0.13)
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
    parser = argparse.ArgumentParser(description="Draw brush strokes, as a style to learn.")
    parser.add_argument("file", type=Path, help="the image to write: .png or .jpg")
    parser.add_argument("--seed", type=int, default=0, help="the seed of the positions of the whirls, at least 0")
    options = parser.parse_args()
    try:
        strokes(options.seed).save(options.file)
    except (OSError, ValueError) as error:  # the file cannot be written, or its ending or the seed is not valid
        parser.error(f"{options.file} cannot be written: {error}")


if __name__ == "__main__":
    main()
