"""The metrics of classification."""

import torch
from torch import Tensor
from torch.nn import functional as F

from kit.evaluation import Details, Evaluation

TOP = 5  # `accuracy_top5` counts an image as correct if its class has one of the 5 highest logits
MAX_CONFUSION_CLASSES = 1000  # for more classes, the confusion matrix would be too large


class LabelEvaluation(Evaluation):
    """Cross-entropy (`loss`), `accuracy`, macro `f1` and, for more than five classes, `accuracy_top5`.

    `f1` is the mean F1 score of the classes that occur in the targets or in the predictions.
    `outputs` are logits, Float[B K], and `targets` class numbers, Long[B]. An entry is Float[4]: the loss, the class
    with the highest logit, the target, and 1 if the target has one of the five highest logits, else 0.
    """

    score_name = "accuracy"

    def entries(self, outputs: Tensor, targets: Tensor) -> Tensor:
        losses = F.cross_entropy(outputs, targets, reduction="none").float()
        highest = outputs.topk(min(TOP, outputs.shape[1])).indices
        in_top = (highest == targets[:, None]).any(1)
        # Floats hold class numbers up to 2^24 exactly.
        return torch.stack([losses, outputs.argmax(1).float(), targets.float(), in_top.float()], 1)

    def compute(self, by_class: bool = False) -> dict[str, float]:
        if not len(self):
            return {}
        losses, _, _, in_top = self.rows.double().unbind(1)
        correct, annotated, predicted = self.once(self._counts)
        occurrences = annotated + predicted
        f1_of_classes = 2 * correct / occurrences.clamp(min=1)  # 0 for a class that does not occur
        values = {
            "loss": float(losses.mean()),
            "accuracy": int(correct.sum()) / len(self),
            "f1": float((f1_of_classes / (occurrences > 0).sum()).sum()),
        }
        if len(self.class_names) > TOP:
            values["accuracy_top5"] = float(in_top.mean())
        if by_class:
            named = zip(self.class_names, (correct / annotated).tolist(), annotated.tolist(), strict=True)
            values |= {f"accuracy/{name}": accuracy for name, accuracy, count in named if count}
        return values

    def shares(self) -> Tensor:
        predicted, targets = self._classes()
        correct = (predicted == targets).double()
        return torch.stack([correct, torch.ones_like(correct)], 1)[..., None]

    def badness(self) -> tuple[str, Tensor]:
        return "loss", self.rows[:, 0]

    def details(self) -> Details:
        if (num_classes := len(self.class_names)) > MAX_CONFUSION_CLASSES:
            return {}
        predicted, targets = self._classes()
        cells = torch.bincount(targets * num_classes + predicted, minlength=num_classes**2)
        return {"confusion": cells.view(num_classes, num_classes)}

    def _counts(self) -> tuple[Tensor, Tensor, Tensor]:
        """Return the numbers of correct images, of images and of predictions of each class, Long[K] each."""
        predicted, targets = self._classes()
        values = targets[predicted == targets], targets, predicted
        correct, annotated, named = (torch.bincount(part, minlength=len(self.class_names)) for part in values)
        return correct, annotated, named

    def _classes(self) -> tuple[Tensor, Tensor]:
        """Return the predicted classes and the targets, Long[N] each."""
        _, predicted, targets, _ = self.rows.long().unbind(1)
        return predicted, targets
