"""A task in which much could go astray when a run is resumed: dropout, BatchNorm, moments, a schedule, augmentation."""

import torch
from tiny_task import Judge
from torch import nn
from torch.nn import functional as F

from kit.training.schedule import optimizer_and_schedule


class Restless(Judge):
    """Its hidden layer is trained from the second epoch on; the validation loss draws random numbers."""

    monitor, mode = "val/loss", "min"

    def __init__(self, num_classes: int, in_channels: int, lr: float = 0.01):
        super().__init__(num_classes, in_channels, lr=lr)
        inputs = in_channels * 6 * 8
        self.net = nn.Sequential(
            nn.Linear(inputs, 5), nn.BatchNorm1d(5), nn.Dropout(0.3), nn.ReLU(), nn.Linear(5, num_classes)
        )
        self.seen: list[list[int]] = []

    def on_train_epoch_start(self):
        self.net[0].requires_grad_(self.current_epoch > 0)

    def training_step(self, batch, batch_idx):
        self.seen.append(batch.keys.tolist())
        return super().training_step(batch, batch_idx)

    def validation_step(self, batch, batch_idx):
        super().validation_step(batch, batch_idx)
        images = batch.images.flatten(1)
        loss = F.cross_entropy(self.net(images + 0.1 * torch.randn_like(images)), batch.targets)
        self.log("val/loss", loss, batch_size=len(batch.keys))

    def configure_optimizers(self):
        from kit.training.schedule import WarmupCosine

        return optimizer_and_schedule(
            self, lambda groups: torch.optim.AdamW(groups, lr=self.hparams.lr, weight_decay=0.01), WarmupCosine
        )
