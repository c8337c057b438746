"""The classes of images' pixels: index images, and pictures of them over the images."""

from collections.abc import Sequence
from pathlib import Path

from PIL import Image
from torch import Tensor
from torchvision.transforms.v2.functional import to_pil_image

from kit.data.decode import decode
from kit.ground.drawing import class_colour
from kit.ground.files import replacing
from kit.masks.pictures import draw


class Predictions:
    """`masks/NAME.png`, class numbers with a palette, as large as the image; and `pictures/NAME.jpg`.

    Args:
        folder: where they are written. `classes.txt` there names the class numbers, with their colours.
        class_names: the model's.
        pictures: draw the masks over the images.
    """

    FOLDERS = ("masks", "pictures")

    def __init__(self, folder: Path, class_names: Sequence[str], pictures: bool = True) -> None:
        self.class_names, self.masks, self.pictures = (
            class_names,
            folder / "masks",
            folder / "pictures" if pictures else None,
        )
        colours = [class_colour(k) for k in range(len(class_names))]
        self.palette = [value for shade in colours for value in shade]
        named = zip(class_names, colours, strict=True)
        self.classes = self.masks / "classes.txt"
        with replacing(self.classes) as part:
            part.write_text("".join(f"{name} {r} {g} {b}\n" for name, (r, g, b) in named), "utf-8", "backslashreplace")

    def picture(self, file: Path, name: str, found: Tensor) -> None:
        mask = Image.fromarray(found.numpy(), "P")
        mask.putpalette(self.palette)
        self._save(mask, self.masks / f"{name}.png", "PNG")
        if self.pictures is not None:
            drawn = draw(decode(file, 3, None), self.class_names, found)
            self._save(to_pil_image(drawn), self.pictures / f"{name}.jpg", "JPEG")

    def _save(self, image: Image.Image, place: Path, kind: str) -> None:
        with replacing(place) as part:
            image.save(part, kind, quality=90)

    def add(self, file: Path, name: str, found: Tensor) -> None:
        """Nothing: each image has files of its own."""

    def finish(self) -> list[Path]:
        return [self.masks, *([self.pictures] if self.pictures else [])]
