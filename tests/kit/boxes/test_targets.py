from types import SimpleNamespace

import torch

from kit.boxes.targets import box_charts, count_classes, most_objects, strata
from kit.data import Samples


def test_classes_of_boxes_are_counted_as_image_by_image():
    generator = torch.Generator().manual_seed(0)
    targets = []
    for count in (0, 3, 1, 0, 40, 7, 2):
        labels = torch.randint(1, 6, (count,), generator=generator)
        crowd = torch.rand(count, generator=generator) < 0.2
        targets.append({"boxes": torch.zeros(count, 4), "labels": labels, "crowd": crowd, "size": (5, 6)})
    samples = Samples(targets)
    data = SimpleNamespace(num_classes=6, split={"train": samples}.get)  # no image has class 6
    counts = count_classes(data, samples)
    single = [target["labels"][~target["crowd"]].tolist() for target in targets]
    assert counts == [sum(labels.count(k) for labels in single) for k in range(1, 7)]
    assert most_objects(data) == max(map(len, single)) > 20
    rarest = [min(labels, key=lambda k: counts[k - 1], default=0) for labels in single]
    assert strata(data, samples).tolist() == rarest and len(set(rarest)) > 2


def test_a_class_of_crowds_alone_is_not_the_rarest():
    boxes, labels = torch.zeros(3, 4), torch.tensor([1, 2, 3])
    targets = [
        {"boxes": boxes, "labels": labels, "crowd": torch.tensor(crowd), "size": (5, 6)}
        for crowd in ([False, False, True], [False, True, True], [True, True, True])
    ]
    assert strata(SimpleNamespace(num_classes=3), Samples(targets)).tolist() == [2, 1, 0]


def test_without_boxes_or_images():
    empty = {"boxes": torch.zeros(0, 4), "labels": torch.zeros(0, dtype=torch.long), "size": (5, 6)}
    empty["crowd"] = empty["labels"].bool()
    for targets in ([], [empty], [empty, empty]):
        samples = Samples(targets)
        data = SimpleNamespace(num_classes=2, split={"train": samples}.get, samples={"train": samples})
        assert count_classes(data, samples) == [0, 0] and most_objects(data) == 0
        assert strata(data, samples).tolist() == [0] * len(targets)
        assert box_charts(data) == {}
    assert most_objects(SimpleNamespace(split={}.get)) == 0


def test_charts_have_sizes_and_centres_in_shares_of_the_image():
    targets = [
        {"boxes": torch.tensor([[0.0, 10, 20, 30], [0, 0, 40, 50]]), "labels": torch.tensor([1, 2]),
         "crowd": torch.tensor([False, True]), "size": (50, 40)},
        {"boxes": torch.tensor([[30.0, 0, 90, 10]]), "labels": torch.tensor([1]), "crowd": torch.tensor([False]),
         "size": (20, 120)},
    ]  # fmt: skip
    charts = box_charts(SimpleNamespace(samples={"train": Samples(targets)}))
    sizes, places = charts["box_sizes"], charts["box_places"]
    assert torch.allclose(sizes.x, torch.tensor([0.5, 0.5])) and torch.allclose(sizes.y, torch.tensor([0.4, 0.5]))
    assert torch.allclose(places.x, torch.tensor([0.25, 0.5])) and torch.allclose(places.y, torch.tensor([0.4, 0.25]))
    assert places.image_axes and not sizes.image_axes
