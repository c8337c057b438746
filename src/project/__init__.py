"""Your images in, a trained model and an honest report out."""

import sys
from collections.abc import Sequence
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from kit.prediction import Predictor


def _require_own_library() -> None:
    """Stop if `kit` is not the one beside this package, but that of another project or another package."""
    expected = Path(__file__).resolve().parents[1] / "kit" / "__init__.py"
    spec = find_spec("kit")
    actual = spec.origin if spec else None
    if actual and Path(actual).resolve() == expected:
        return
    message = (
        f"{__name__} needs the library {expected.parent}, but Python finds `kit` at {actual}: use its own environment"
    )
    if sys.argv[0] == "-m":  # set while `python -m PACKAGE.VERB` imports the package
        print(f"error: {message}", file=sys.stderr)
        sys.exit(2)
    raise ImportError(message)


_require_own_library()

from kit.ground import app  # noqa: E402

app.use(__name__)


def load(run_or_checkpoint: str | Path, device: str | None = None, trust: Sequence[str] = ()) -> "Predictor":
    """Load a trained model: `project.load("runs/NAME/version_0").predict(["a.jpg", pil_image, uint8_tensor])`.

    `kit.prediction.load` describes the arguments and the exceptions.
    """
    from kit import prediction

    return prediction.load(run_or_checkpoint, device, trust)
