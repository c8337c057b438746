from PIL import Image

from kit.formats.boxes import yolo_layout


def test_train_comes_first_wherever_the_splits_are(tmp_path):
    for file in ("images/val/a.png", "train/b.png", "test/c.png"):
        (tmp_path / file).parent.mkdir(parents=True)
        Image.new("RGB", (3, 2)).save(tmp_path / file)
    splits = yolo_layout.find(tmp_path, ["cat"]).splits
    assert [(split, [path.name for path in images]) for split, images in splits.items()] == [
        ("train", ["b.png"]),
        ("val", ["a.png"]),
        ("test", ["c.png"]),
    ]
