"""Your images in, a trained model and an honest report out.

Shapes in docstrings: B batch, C channels, H height, W width, K classes, N samples (or boxes of an image).
`Float[B C H W]` is a tensor of floats of that shape. Height comes before width.
Images are uint8, 0 to 255, until they are on the device; there they become floats, normalised channel by channel.
"""

import os
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from project.prediction import Predictor

# Before torch is imported: how long its threads (GNU OpenMP) wait busily for their next piece of work. As long as they
# do by default, they take the cores from the workers that load images, and from a second run on the same machine.
os.environ.setdefault("GOMP_SPINCOUNT", "100000")


class UserError(Exception):
    """A mistake of the user's: the verbs print it as one line, without a traceback, and exit with `exit_code`."""

    exit_code = 2


class BrokenFiles(UserError):
    """Files that cannot be read: the command was right, the data are not."""

    exit_code = 1


class UnreachableFiles(BrokenFiles):
    """Files that the system could not read: a permission is missing, a disk fails, or a share is gone.

    Nothing is known about what they hold, so they are not left out as broken ones are.
    """


class NotMeasured(UserError):
    """A metric is not finite, or the data have nothing to measure: the command was right, but there is no result."""

    exit_code = 1


class Stopped(Exception):
    """A signal has ended the run: the verbs print what it says, if anything, and exit with `exit_code`."""

    def __init__(self, message: str, exit_code: int) -> None:
        super().__init__(message)
        self.exit_code = exit_code


def nearest(word: str, known) -> str:
    """The end of an error message: `; did you mean 'resnet18'?`, or nothing where no known word is near."""
    from difflib import get_close_matches

    found = get_close_matches(word, list(known), n=1, cutoff=0.5)
    return f"; did you mean '{found[0]}'?" if found else ""


def in_a_line(error: BaseException) -> str:
    """Return an exception's message as one line of at most 200 characters, or the name of its type if it has none."""
    return " ".join(str(error).split())[:200] or type(error).__name__


def load(run_or_checkpoint: str | Path, device: str | None = None, trust: Sequence[str] = ()) -> "Predictor":
    """A trained model: `project.load("runs/NAME/version_0").predict(["a.jpg", pil_image, uint8_tensor])`.

    For its arguments, and what is raised, see `project.prediction.load`.
    """
    from project import prediction

    return prediction.load(run_or_checkpoint, device, trust)
