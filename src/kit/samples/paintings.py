"""Painted images as files."""

from collections.abc import Sequence
from pathlib import Path

from torch import Tensor
from torchvision.transforms.v2.functional import to_pil_image

from kit.ground.files import replacing


class Paintings:
    """`pictures/NAME.jpg`, as large as the image.

    Args:
        folder: where they are written.
        class_names: there are none that matter.
        quality: of the JPEG, from 1 to 100.
    """

    FOLDERS = ("pictures",)

    def __init__(self, folder: Path, class_names: Sequence[str], quality: int = 95) -> None:
        self.pictures, self.quality = folder / "pictures", quality

    def picture(self, file: Path, name: str, found: Tensor) -> None:
        with replacing(self.pictures / f"{name}.jpg") as part:
            to_pil_image(found[:3]).save(part, "JPEG", quality=self.quality)

    def add(self, file: Path, name: str, found: Tensor) -> None:
        """Nothing: each image has a file of its own."""

    def finish(self) -> list[Path]:
        return [self.pictures]
