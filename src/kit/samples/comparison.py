"""What a report says of samples: how near they are to real images, beside what would be as good, and as bad, as can be.

`frechet_distance` is that of samples to the reported split's images, in the features of a classifier (`judge`) that
learned from the same training images; beside it stand that of as many training images (`/train_images`: no model gets
much below it), of images whose pixels are drawn alone (`/gaussian`), and of noise (`/noise`). `agreement` is how often
the classifier sees the class that was asked for. `nearest_distance` is that of a sample to the nearest training image;
where it is far below that of the reported split's images (`/real_images`), the model copies. If there are Inception's
weights, `fid` is standard FID, beside that of training images (`/train_images`).
"""

from typing import Any

import torch
from lightning.pytorch.utilities.rank_zero import rank_zero_warn
from torch import Tensor

from kit.ground.drawing import GREY, add_caption
from kit.ground.errors import UserError
from kit.samples import inception, pictures
from kit.samples.judge import trained
from kit.samples.metric import frechet_distance, nearest, noise_images, normal_images

SHOWN = 32  # samples with their nearest training images
FEWEST = 2  # images that have a covariance
PHOTOGRAPH = 500_000  # pixels, from which on a picture is compressed with some loss

Real = tuple[Tensor, Tensor]  # uint8 [N C H W] and classes Long[N]


def report_samples(task: Any, split: str) -> None:
    """Judge samples of a task by the split that it has measured and by the training images; log figures and a picture.

    Args:
        task: a `Generator`, with a trainer.
    """
    data = task.trainer.datamodule
    if data.samples["train"] is None:
        rank_zero_warn(f"samples are not judged: beside the {split} images there are none of training")
        return
    compared = None
    if task.trainer.is_global_zero:  # one of several processes trains the classifier
        reported = data.images(split, task.measured.keys.tolist())
        compared = compare(task, reported, data.images("train", range(len(data.samples["train"]))))
    figures, picture = task.trainer.strategy.broadcast(compared)
    task.log_dict({f"{split}/{key}": value for key, value in figures.items()})
    for logger in task.loggers if task.trainer.is_global_zero else ():
        if hasattr(logger, "log_picture"):  # `kit.dashboard.TensorBoard`
            photograph = picture[0].numel() > PHOTOGRAPH
            logger.log_picture("samples/nearest", picture, task.global_step, photograph=photograph)


def compare(task: Any, real: Real, known: Real) -> tuple[dict[str, float], Tensor]:
    """The figures, by name, and a picture of samples with the nearest training images, uint8 [3 H W].

    Args:
        task: a `Generator`.
        real: the images that are compared with.
        known: the training images; the samples are of the same classes as as many of these.
    """
    (images, classes), (train, labels) = real, known
    if min(len(images), len(train)) < FEWEST:
        raise UserError(f"{len(images)} images and {len(train)} of training are too few to judge samples by")
    picked = torch.randperm(len(train), generator=torch.Generator().manual_seed(0))[: task.samples]
    wanted = labels[picked]
    made = task.sample(wanted, range(len(wanted)), images.shape[2:])
    places, distances = nearest(made, train)
    figures = {
        "nearest_distance": float(distances.mean()),
        "nearest_distance/real_images": float(nearest(images, train)[1].mean()),
    }
    if task.inception:
        some = {"fid": made, "fid/train_images": train[picked]}
        figures = {**inception.distances(task.inception, images, some, task.device), **figures}
    if task.num_classes > 1:  # else there is nothing that a classifier could have learned
        judge = trained(train, labels, task.num_classes, task.judges, task.device)
        features, seen = judge.look(images)
        others = {
            "": made,
            "/train_images": train[picked],
            "/gaussian": normal_images(train, labels, wanted),
            "/noise": noise_images(len(wanted), train.shape[1:]),
        }
        looked = {name: judge.look(some) for name, some in others.items()}
        distances_of = {f"frechet_distance{n}": frechet_distance(own, features) for n, (own, _) in looked.items()}
        agreeing = {f"agreement{n}": _share(looked[n][1] == wanted) for n in ("", "/gaussian")}
        figures = {**distances_of, **agreeing, "judge_accuracy": _share(seen == classes), **figures}
    return figures, _with_nearest(made, train[places], distances, [task.class_names[k] for k in wanted.tolist()])


def _with_nearest(made: Tensor, known: Tensor, distances: Tensor, names: list[str]) -> Tensor:
    """Those samples that come nearest to a training image, beside it; the nearest of all first."""
    shown = distances.argsort()[:SHOWN].tolist()
    told = [f"{names[place]}: {distances[place]:.3f}" for place in shown]
    said = "generated | nearest training image, and how far off it is: 0 would be a copy"
    return add_caption(pictures.pairs(made[shown], known[shown], told), [(said, GREY)])


def _share(true: Tensor) -> float:
    return float(true.double().mean())
