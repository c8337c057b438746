"""A package for each task, and a module for each command, such as `fit`. `load` loads a trained model."""

import sys
from collections.abc import Sequence
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from kit.prediction import Predictor


def _require_own_library() -> None:
    """Stop unless Python imports the `kit` beside this package. Another project's `kit`, or none, is an error."""
    required = Path(__file__).resolve().parents[1] / "kit" / "__init__.py"
    spec = find_spec("kit")
    kit_file = spec.origin if spec else None
    if kit_file and Path(kit_file).resolve() == required:
        return
    problem = f"{__name__} needs the library {required.parent}, but Python finds {kit_file or 'none'}"
    message = f"{problem}: use the environment of {__name__}"
    if sys.argv[0] == "-m":  # `python -m PACKAGE.VERB` imports this package: print one line instead of a traceback
        print(f"error: {message}", file=sys.stderr)
        sys.exit(2)
    raise ImportError(message)


_require_own_library()

from kit.ground import app  # noqa: E402

app.use(__name__)  # lets kit import the classes of this package, and use its name in messages


def load(run_or_checkpoint: str | Path, device: str | None = None, trust: Sequence[str] = ()) -> "Predictor":
    """Load a trained model: `project.load("runs/NAME/version_0").predict(["a.jpg", pil_image, uint8_tensor])`.

    See `kit.prediction.load` for the arguments and the exceptions.
    """
    from kit import prediction

    return prediction.load(run_or_checkpoint, device, trust)
