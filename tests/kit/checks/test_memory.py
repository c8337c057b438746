"""What a training step keeps, by counting and by hand."""

from pathlib import Path

import lightning as L
import torch
from photos import Photos
from torch import nn

from kit.checks.memory import COPIES, machine_memory, predict_memory
from kit.data import ImageDataModule, Tensors


class Noise(ImageDataModule):
    def find_class_names(self):
        return ["a", "b"]

    def find_in_channels(self):
        return 3

    def load_split(self, split):
        if split != "train":
            return None
        return Tensors(torch.tensor([0, 1, 1]), torch.randint(0, 256, (3, 3, 6, 8), dtype=torch.uint8))


class Squares(L.LightningModule):
    """One matrix, then a square: the backward pass needs the input of each."""

    def __init__(self):
        super().__init__()
        self.net = nn.Linear(3 * 6 * 8, 5, bias=False)

    def training_step(self, batch, batch_idx):
        loss = self.net(batch.images.flatten(1)).square().sum()
        self.log("train/loss", loss)
        return loss


def test_bytes_of_a_step_by_hand():
    data, batch_size = Noise(batch_size=10), 10
    memory = predict_memory(Squares(), data, "32-true")
    inputs, outputs, weights = 3 * 6 * 8 * 4, 5 * 4, 5 * 3 * 6 * 8 * 4
    gradient = 2 * inputs  # of the largest, and a second while it is made
    assert memory.step == COPIES * weights + batch_size * (inputs + outputs + gradient)
    assert data.mean is None and data.std is None  # left for the training set to say
    assert 0 < memory.available <= max(machine_memory(), memory.available)


def test_files_that_cannot_be_decoded_are_passed_over(image_folder):
    root = image_folder({"train": {"a": 5, "b": 1}})
    Path(root, "train/a/0.png").write_text("no image")
    data = Photos(str(root), batch_size=2)
    data.left_out = {"train": {}}  # as `check` has it
    assert predict_memory(Squares(), data, "32-true").step > 0
