"""Fine-tune pretrained weights: first the head alone on fixed features, then the whole net."""

import time
from collections.abc import Iterable, Sequence
from typing import Any

import lightning as L
import torch
from lightning.pytorch.utilities.rank_zero import rank_zero_only
from torch import Tensor, nn
from torch.nn import functional as F

from kit.data import ImageDataModule
from kit.data.samples import evenly_spaced_part
from kit.ground._lightning import data_module, reset_averaged_weights, validate
from kit.ground._torch import BatchNorm
from kit.ground.memory import SampleLimit, in_halves
from kit.ground.ranges import NonNegativeInt, Share
from kit.training.monitor import resolve_monitor
from kit.training.weights import find_loaded_weights

MAX_IMAGES = 5000  # the largest number of training images, evenly spaced, on whose features the head is fitted
CHUNK = 8  # the number of batches whose images are decoded at the same time
PARTS = 8  # the number of parts of the pretrained layers, each with its own learning rate
L2 = 1e-2  # the weight of the penalty on a fitted head, for inputs scaled to a mean variance of 1


class FineTuning(L.Callback):
    """Fit the head to the features of the pretrained net, then train all layers, the first ones with lower rates.

    Before the first step, the net computes the features of the training images once, in evaluation mode and without
    augmentation. Logistic regression on these features gives the weights of the head. This model is then validated, and
    its checkpoint may become the best one.

    Then the net is trained, except for `frozen_parts`. The layers with pretrained weights are divided into `PARTS`
    consecutive parts, or into one part per layer if there are fewer. Each part has `layer_decay` times the learning
    rate of the next one (Bao et al. 2022, BEiT). The head, and all layers without pretrained weights, have the full
    learning rate.

    A net without pretrained weights is trained as usual. The head is fitted only if `net.head` (or `head` of a module
    without `net`) is one linear layer, or a convolution after global pooling, and if the data module is an
    `ImageDataModule`. The lower learning rates take effect only if the module's optimizer comes from
    `kit.training.optimizer_and_schedule`.

    Args:
        fit_head: whether to fit the head before training.
        layer_decay: see above; 1 trains all layers with the full learning rate.
        frozen_parts: the number of parts, from the first, that are not trained. A step then takes less time.
        freeze_norms: whether to keep the running statistics of pretrained batch normalisation layers, since the
            statistics of small batches are inaccurate.
    """

    def __init__(
        self,
        fit_head: bool = True,
        layer_decay: Share = 0.75,
        frozen_parts: NonNegativeInt = 0,
        freeze_norms: bool = True,
    ) -> None:
        self.fit_head, self.layer_decay, self.freeze_norms = fit_head, layer_decay, freeze_norms
        self.frozen_parts = frozen_parts
        self.pretrained: list[str] = []  # the names of the tensors with pretrained weights
        self._module: Any = None
        self._message = ""  # describes the fitted head until it is validated

    def setup(self, trainer: L.Trainer, pl_module: L.LightningModule, stage: str) -> None:
        if stage == "fit":
            self._module = pl_module
            prefix, start = find_loaded_weights(pl_module) or ("", None)
            self._set_rates([f"{prefix}{name}" for name in start.tensors] if start else [])

    def _set_rates(self, pretrained: Iterable[str]) -> None:
        """Give the module its `rates`, and freeze the parameters whose rate is 0.

        Args:
            pretrained: the names of the tensors with pretrained weights.
        """
        self.pretrained = list(pretrained)
        head = getattr(getattr(self._module, "net", self._module), "head", None)  # some nets have no head
        head_parameters = {*head.parameters()} if isinstance(head, nn.Module) else set()
        names = [name for name, parameter in self._module.named_parameters() if parameter not in head_parameters]
        rates = learning_rates(names, set(self.pretrained), self.layer_decay, self.frozen_parts)
        self._module.rates = rates
        for name, parameter in self._module.named_parameters():
            if rates.get(name) == 0:
                parameter.requires_grad_(False)  # shortens the backward pass

    def state_dict(self) -> dict[str, Any]:
        return {"pretrained": self.pretrained}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        if self._module is not None:  # a resumed run does not load pretrained weights
            self._set_rates(state_dict["pretrained"])

    def on_train_start(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        self._message = ""
        if not self.pretrained:
            rank_zero_only(print)("fine_tuning: the net has no pretrained weights: all layers learn at one rate")
            return
        if self.fit_head and not trainer.global_step and not trainer.fast_dev_run:  # type: ignore[attr-defined]
            self._fit_head(trainer, pl_module)
        norms = {name.rpartition(".")[0] for name in self.pretrained}
        for name, module in pl_module.named_modules():
            if self.freeze_norms and name in norms and isinstance(module, BatchNorm):
                module.eval()

    def on_train_epoch_start(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        """Validate the model with the fitted head. By now, `on_train_start` of all callbacks has run."""
        message, self._message = self._message, ""
        if message and trainer.enable_validation:
            validate(trainer)
            key, _ = resolve_monitor(pl_module, None, None)
            value = trainer.callback_metrics.get(key)
            message += "" if value is None else f": {key} {float(value):.4f}"
        if message:
            rank_zero_only(print)(f"fine_tuning: {message}", flush=True)

    def _fit_head(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        head, data, began = find_head(pl_module), data_module(trainer), time.monotonic()
        features, targets, reason = None, torch.empty(0), "it is not one linear layer after pooling"
        if not isinstance(data, ImageDataModule):
            reason = "the data module is not an ImageDataModule"
        elif head is not None:
            features, targets = self._features(trainer, pl_module, head, data)
        if features is None:
            rank_zero_only(print)(f"fine_tuning: the head is not fitted before training, since {reason}")
            return
        class_weights = getattr(pl_module, "class_weights", None)  # only some tasks weight the classes
        weight, bias = trainer.strategy.broadcast(fit_linear(features, targets, len(head.weight), class_weights))
        with torch.no_grad():
            head.weight.copy_(weight.view_as(head.weight))
            head.bias.copy_(bias)
        reset_averaged_weights(trainer, pl_module)
        self._message = f"head fitted on the features of {len(features)} images in {time.monotonic() - began:.0f} s"

    def _features(
        self, trainer: L.Trainer, pl_module: L.LightningModule, head: nn.Module, data: ImageDataModule
    ) -> tuple[Tensor | None, Tensor]:
        """Return the inputs of the head for training images, Float[N D], and their targets, both on the CPU.

        The features are None if the inputs are not pooled.
        """
        keys = evenly_spaced_part(range(len(data.samples["train"] or ())), MAX_IMAGES)
        inputs: list[Tensor] = []
        features: list[Tensor] = []
        targets: list[Tensor] = []
        limit = SampleLimit()
        was_training = {module: module.training for module in pl_module.modules()}
        handle = head.register_forward_pre_hook(lambda _, arguments: inputs.append(arguments[0]))

        def head_inputs(images: Tensor) -> Tensor:
            inputs.clear()
            pl_module(images)
            return inputs[-1].float().cpu()

        pl_module.eval()
        try:
            for start in range(0, len(keys), CHUNK * data.batch_size):
                chunk = keys[start : start + CHUNK * data.batch_size]
                for batch in data.examples("train", chunk, data.batch_size):
                    batch = trainer.strategy.batch_to_device(batch)
                    with torch.no_grad(), trainer.precision_plugin.forward_context():
                        features += in_halves(head_inputs, batch.images, limit=limit)
                    targets.append(batch.targets.cpu())
                    if features[0][0].numel() != features[0].shape[1]:  # the inputs are maps, which are not pooled
                        return None, targets[0]
        finally:
            handle.remove()
            for module, training in was_training.items():
                module.training = training
        return torch.cat(features).flatten(1), torch.cat(targets)


def find_head(module: Any) -> Any:
    """Return the `head` of a module's net if it can be fitted, else None.

    The head must be a linear layer or a convolution, with a bias, and the module must define `forward`.
    """
    net = getattr(module, "net", module)  # a plain LightningModule may have no `net`
    head = getattr(net, "head", None)
    is_linear = isinstance(head, (nn.Linear, nn.Conv2d)) and head.bias is not None
    return head if is_linear and type(module).forward is not L.LightningModule.forward else None


def fit_linear(
    features: Tensor, targets: Tensor, num_classes: int, class_weights: Tensor | None = None
) -> tuple[Tensor, Tensor]:
    """Fit logistic regression with an L2 penalty by L-BFGS.

    Args:
        features: Float[N D].
        targets: Long[N] of class numbers, or Float[N K] of 0 and 1 if images have several labels.
        num_classes: the number of classes, K.
        class_weights: Float[K], the weights of the classes in the loss, or None. They do not apply to several labels.

    Returns:
        the weights, Float[K D], and the biases, Float[K].
    """
    # All features get the same scale. Scales of their own would magnify features that hardly vary.
    mean = features.mean(0)
    scale = (features - mean).square().mean().sqrt().clamp(min=1e-6)
    inputs = (features - mean) / scale
    weight = torch.zeros(num_classes, features.shape[1], requires_grad=True)
    bias = torch.zeros(num_classes, requires_grad=True)
    optimizer = torch.optim.LBFGS([weight, bias], max_iter=100, line_search_fn="strong_wolfe")

    class_weights = None if class_weights is None else class_weights.cpu()

    def loss() -> Tensor:
        optimizer.zero_grad()
        logits = F.linear(inputs, weight, bias)
        if targets.is_floating_point():
            error = F.binary_cross_entropy_with_logits(logits, targets)
        else:
            error = F.cross_entropy(logits, targets, class_weights)
        total = error + L2 * weight.square().sum()
        total.backward()
        return total

    with torch.enable_grad():
        optimizer.step(loss)
    scaled_weight = weight.detach() / scale
    return scaled_weight, bias.detach() - scaled_weight @ mean


def learning_rates(names: Sequence[str], pretrained: set[str], decay: float, frozen_parts: int) -> dict[str, float]:
    """Return the learning rate of each parameter with pretrained weights, as a fraction of the optimizer's.

    Args:
        names: the names of the parameters outside the head, in the order of the layers.
        pretrained: the names of tensors with pretrained weights.
        decay: the rate of each of the `PARTS` parts of the layers, as a fraction of the next part's rate.
        frozen_parts: the number of parts, from the first, whose rate is 0.
    """
    layers = list(dict.fromkeys(name.rpartition(".")[0] for name in names if name in pretrained))
    parts = min(PARTS, len(layers))
    # The last part has the exponent 1, and the first has `parts`.
    exponents = {layer: 1 + index * parts // len(layers) for index, layer in enumerate(reversed(layers))}
    rates = {layer: decay**exp if exp <= parts - frozen_parts else 0.0 for layer, exp in exponents.items()}
    return {name: rates[name.rpartition(".")[0]] for name in names if name in pretrained}
