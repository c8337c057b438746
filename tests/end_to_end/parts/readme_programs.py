"""Programs of the docs that read an exported file."""

import re
import subprocess
import sys
from pathlib import Path

import torch
from PIL import Image

DOCS = Path(__file__).parents[3] / "docs"


def program(page: str) -> str:
    """Return the program of a docs page that uses onnxruntime."""
    programs = re.findall(r"^```python\n(.*?)^```$", (DOCS / page).read_text(), re.MULTILINE | re.DOTALL)
    (found,) = [program for program in programs if "onnxruntime" in program]
    return found


def example(file: Path, image: torch.Tensor | Image.Image) -> list[str]:
    """Return what the program for a file prints of an image, or of uint8 [C H W], where there is no torch."""
    reading = program("export.md")
    assert len(reading.splitlines()) <= 28
    if isinstance(image, torch.Tensor):
        image = Image.fromarray((image[0] if len(image) == 1 else image.permute(1, 2, 0)).numpy())
    image.save("photo.png")
    assert '"photo.png"' in reading
    return printed(reading, file)


def printed(program: str, file: Path) -> list[str]:
    """Run a program that reads a file where there is no torch, and return what it prints."""
    named = re.sub(r'"[\w/]+\.onnx"', repr(str(file)), program)
    assert named != program
    blocked = "import sys\nsys.modules.update({'torch': None, 'project': None, 'kit': None})\n"
    ended = subprocess.run([sys.executable, "-c", blocked + named], capture_output=True, text=True)
    assert ended.returncode == 0, ended.stderr
    return ended.stdout.splitlines()
