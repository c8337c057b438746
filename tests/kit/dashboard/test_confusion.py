import torch

from kit.dashboard.pictures import COLD, WARM, draw_confusion
from kit.ground.drawing import BACKGROUND


def where(image, colour):
    """Bool[H W]."""
    return (image == torch.tensor(colour, dtype=torch.uint8)[:, None, None]).all(0)


def test_cells_with_a_larger_share_of_the_row_are_lighter():
    drawn = draw_confusion(torch.tensor([[8, 0], [1, 1]]), ["a", "b"])
    warm, cold = where(drawn, WARM).nonzero(), where(drawn, COLD).nonzero()
    # The first row is annotated "a", which all were taken for: light at the left, dark at the right of the same height.
    assert abs(warm[:, 0].float().mean() - cold[:, 0].float().mean()) < 5
    assert warm[:, 1].max() < cold[:, 1].min()
    half = torch.tensor(COLD) + 0.5**0.5 * (torch.tensor(WARM) - torch.tensor(COLD))
    assert where(drawn, half.round().int().tolist()).sum() > 1000


def test_row_of_class_without_samples_is_empty():
    drawn = draw_confusion(torch.tensor([[0, 0], [0, 9]]), ["a", "b"])
    assert where(drawn, COLD).nonzero()[:, 0].min() > where(drawn, BACKGROUND).nonzero()[:, 0].min() + 44


def test_picture_of_many_classes_is_limited():
    for classes in (2, 30, 200, 1000):
        names = [f"a class with a rather long name {k}" for k in range(classes)]
        drawn = draw_confusion(torch.eye(classes).long(), names)
        assert drawn.shape[0] == 3 and max(drawn.shape[1:]) < 1100 and drawn.dtype == torch.uint8
        assert where(drawn, WARM).any()
