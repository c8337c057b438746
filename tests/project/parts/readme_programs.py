"""The README's programs that read an exported file."""

import re
import subprocess
import sys
from pathlib import Path

import torch
from PIL import Image

README = Path(__file__).parents[3] / "README.md"


def example(file: Path, image: torch.Tensor | Image.Image) -> list[str]:
    """What the README's program for a file, run where there is no torch, prints of an image, or of uint8 [C H W]."""
    (program,) = re.findall(r"```python\n(import json.*?onnxruntime.*?)```", README.read_text(), re.DOTALL)
    assert len(program.splitlines()) <= 28
    if isinstance(image, torch.Tensor):
        image = Image.fromarray((image[0] if len(image) == 1 else image.permute(1, 2, 0)).numpy())
    image.save("photo.png")
    assert '"photo.png"' in program
    return printed(program, file)


def printed(program: str, file: Path) -> list[str]:
    """By a program of the README that reads a file, run where there is no torch."""
    named = re.sub(r'"[\w/]+\.onnx"', repr(str(file)), program)
    assert named != program
    blocked = "import sys\nsys.modules.update({'torch': None, 'project': None, 'kit': None})\n"
    ended = subprocess.run([sys.executable, "-c", blocked + named], capture_output=True, text=True)
    assert ended.returncode == 0, ended.stderr
    return ended.stdout.splitlines()
