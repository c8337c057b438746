import gc
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
import torch

from kit.boxes.predictions import BoxPredictions
from kit.ground.drawing import GREEN, GREY, RED, WHITE
from kit.labels.predictions import Classification, LabelPredictions, draw_labels

NAMES = ["cat", "dog", "owl"]


def has(image, colour):
    return bool((image == torch.tensor(colour, dtype=torch.uint8)[:, None, None]).all(0).any())


@pytest.mark.parametrize(("label", "target", "ink"), [("dog", 1, GREEN), ("cat", 1, RED), ("cat", None, GREY)])
def test_colour_shows_whether_prediction_is_right(label, target, ink):
    drawn = draw_labels(
        torch.zeros(1, 8, 10, dtype=torch.uint8), NAMES, Classification(label, 0.7, torch.rand(3)), target
    )
    assert drawn.shape[0] == 3 and drawn.shape[2] == 280 and drawn.dtype == torch.uint8
    assert [colour for colour in (GREEN, RED, GREY) if has(drawn, colour)] == [ink]
    assert has(drawn, WHITE) == (target is not None)


def test_large_image_is_not_resized():
    image = torch.randint(0, 255, (3, 200, 150), dtype=torch.uint8)
    drawn = draw_labels(image, NAMES, target=torch.tensor(2))
    assert torch.equal(drawn[:, :200], image) and drawn.shape[2] == 150


def test_image_without_caption():
    assert draw_labels(torch.zeros(1, 8, 8, dtype=torch.uint8), NAMES).shape == (3, 224, 224)


BOXES = {"boxes": torch.ones(1, 4), "scores": torch.ones(1), "labels": torch.ones(1, dtype=torch.long)}
LABEL = Classification("cat", 0.5, torch.tensor([0.5, 0.3, 0.2]))


@pytest.mark.parametrize(("kind", "prediction"), [(LabelPredictions, LABEL), (BoxPredictions, BOXES)])
def test_two_commands_that_write_the_same_table(kind, prediction):
    """The table is that of the command which ends last. A command that fails leaves none."""
    with ThreadPoolExecutor(1) as other:  # the name of a temporary file has the thread, as it has the process
        first, second = kind(Path(), NAMES), other.submit(kind, Path(), NAMES).result()
        for count, results in ((3, first), (1, second)):
            for number in range(count):
                results.add(Path(f"{number}.png"), str(number), prediction)
        failed = kind(Path(), NAMES)
        (file,) = second.finish()
        assert file.read_text().count(".png") == 1
        assert first.finish() == [file] and file.read_text().count(".png") == 3
    del failed
    gc.collect()
    assert list(Path().iterdir()) == [file]
