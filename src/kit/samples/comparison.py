"""Compare samples (generated images) with real images for the report.

- `frechet_distance` is the Frechet distance between samples and the images of the reported split, in the features of
  the judge. The judge is a classifier that is trained on the training images. For comparison, the distance is also
  reported for as many training images (`frechet_distance_train_images`, which hardly any model beats) and for noise
  (`frechet_distance_noise`).
- `agreement` is the share of samples for which the judge predicts the class that they were generated for. It may be
  high for blurred samples, too. `judge_accuracy` is the judge's accuracy on the images of the split.
- `nearest_distance` is the mean distance between a sample and the nearest training image.
  `nearest_distance_real_images` is the mean distance between an image of the split and the nearest training image. If
  `nearest_distance` is much smaller, the model copies training images.

The judge's results are left out if there is only one class.
"""

from typing import Any

import torch
from lightning.pytorch.utilities.rank_zero import rank_zero_warn
from torch import Tensor

from kit.ground.drawing import GREY, add_caption
from kit.ground.errors import UserError
from kit.samples.evaluation import frechet_distance, nearest_images
from kit.samples.images import LARGE_SIDE, image_grid, noise, to_uint8
from kit.samples.judge import train_judge

NUM_PAIRS = 32  # the number of samples in the picture: those that are closest to a training image
MIN_IMAGES = 2  # the smallest number of images that have a covariance


def report_samples(task: Any, split: str) -> None:
    """Compare samples with the evaluated images of a split and with the training images.

    Log the results, and a picture of samples beside the nearest training images.

    Args:
        task: a `Generator` with a trainer.
        split: `val` or `test`.
    """
    data = task.trainer.datamodule
    if data.samples["train"] is None:
        rank_zero_warn(f"samples are not compared: there are {split} images, but no training images")
        return
    results_and_picture = None
    if task.trainer.is_global_zero:  # only one process trains the judge
        images = data.images(split, task.latest_evaluation.keys.tolist())
        results_and_picture = compare(task, *images, *data.images("train", range(len(data.samples["train"]))))
    results, picture = task.trainer.strategy.broadcast(results_and_picture)
    task.log_dict({f"{split}/{key}": value for key, value in results.items()})
    for logger in task.loggers if task.trainer.is_global_zero else ():
        if hasattr(logger, "log_picture"):  # `kit.dashboard.TensorBoard`, which cannot be imported here
            logger.log_picture("samples/nearest", picture, task.global_step, photograph=True)


def compare(
    task: Any, images: Tensor, labels: Tensor, train_images: Tensor, train_labels: Tensor
) -> tuple[dict[str, float], Tensor]:
    """Return the results by name, and a picture of samples beside the nearest training images, uint8 [3 H W].

    The samples get the classes of random training images.

    Args:
        task: a `Generator`.
        images, labels: real images to compare with, uint8 [N C H W], and their classes, Long[N].
        train_images, train_labels: the training images, uint8 [N C H W], and their classes, Long[N].

    Raises:
        UserError: there are fewer than `MIN_IMAGES` images to compare with, or training images.
    """
    if min(len(images), len(train_images)) < MIN_IMAGES:
        raise UserError(f"{len(images)} images and {len(train_images)} training images are too few to compare with")
    subset = torch.randperm(len(train_images), generator=torch.Generator().manual_seed(0))[: task.num_samples]
    classes = train_labels[subset]
    samples = task.sample(classes, range(len(classes)), images.shape[2:])
    indices, distances = nearest_images(samples, train_images)
    results: dict[str, float] = {}
    if task.num_classes > 1:  # with one class, there is nothing to classify
        judge = train_judge(train_images, train_labels, task.num_classes, task.device)
        real_features, real_predictions = judge.classify(images)
        judged_sets = {"": samples, "_train_images": train_images[subset]}  # key: the end of a result's name
        judged_sets["_noise"] = to_uint8(noise([0], samples.shape)[0])
        judgements = {name: judge.classify(judged_images) for name, judged_images in judged_sets.items()}
        for name, (features, _) in judgements.items():
            results[f"frechet_distance{name}"] = frechet_distance(features, real_features)
        results["agreement"] = _mean(judgements[""][1] == classes)
        results["judge_accuracy"] = _mean(real_predictions == labels)
    results["nearest_distance"] = _mean(distances)
    results["nearest_distance_real_images"] = _mean(nearest_images(images, train_images)[1])
    nearest = distances.argsort()[:NUM_PAIRS]
    names = [f"{task.class_names[classes[i]]}: {distances[i]:.3f}" for i in nearest.tolist()]
    pairs = torch.cat([samples[nearest], train_images[indices[nearest]]], 3)
    picture = image_grid(pairs, NUM_PAIRS, names, LARGE_SIDE)
    return results, add_caption(picture, [("generated | nearest training image, and its distance: 0 is a copy", GREY)])


def _mean(values: Tensor) -> float:
    return float(values.double().mean())
