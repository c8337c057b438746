"""What is odd in COCO's JSON is one line that names the entry, whatever the task; sizes that are none are left out."""

import json
from pathlib import Path
from typing import Any

import pytest

from kit.formats.coco import categories, find, read
from kit.ground.errors import BrokenFiles


def write(images: Any = None, annotations: Any = (), categories: Any = ()) -> Path:
    images = [{"id": 1, "file_name": "a.jpg"}] if images is None else images
    file = Path("x.json")
    file.write_text(json.dumps({"images": images, "annotations": list(annotations), "categories": list(categories)}))
    return file


def named(*ids: Any) -> list[dict[str, Any]]:
    return [{"id": id, "file_name": f"{place}.jpg", "name": f"c{place}"} for place, id in enumerate(ids)]


ODD = [
    ({"categories": named(1, "b")}, r'categories\[1\]: id "b" is of another type than 1, that of categories\[0\]'),
    ({"categories": named(1, "1.0")}, r'categories\[1\]: id "1.0" is also that of categories\[0\]'),
    ({"categories": named(3, 4, 3)}, r"categories\[2\]: id 3 is also that of categories\[0\]"),
    ({"images": named(1, 1)}, r"images\[1\]: id 1 is also that of images\[0\]"),
    ({"images": named("a", 1)}, r"images\[1\]: id 1 is of another type"),
    ({"images": named([1])}, r"images\[0\]: id \[1\] is not a number or text"),
    ({"images": named(None)}, r"images\[0\]: id null is not a number or text"),
    ({"annotations": [{}, {"image_id": [1]}]}, r"annotations\[1\]: image_id is \[1\], not a number or text"),
    ({"annotations": [{"category_id": {}}]}, r"annotations\[0\]: category_id is \{\}, not a number or text"),
    ({"annotations": [{}, {"iscrowd": "maybe"}]}, r'annotations\[1\]: iscrowd is "maybe", but must be 0 or 1'),
    ({"annotations": [{"iscrowd": 2}]}, r"annotations\[0\]: iscrowd is 2, but must be 0 or 1"),
    ({"categories": [{"id": 1, "name": None}]}, r"categories\[0\]: name is null, not a text"),
    ({"categories": [{"id": 1, "name": " "}]}, r'categories\[0\]: name is " ", not a text'),
]


@pytest.mark.parametrize(("content", "message"), ODD, ids=[message.replace("\\", "") for _, message in ODD])
def test_odd_ids(content, message):
    with pytest.raises(BrokenFiles, match=rf"^x\.json: {message}[^\n]*$"):
        read(write(**content))


SIZES = [(48, 64, (48, 64)), ("48", 64.0, (48, 64)), (0, 64, None), (None, 2, None), ("0", "0", None)]
NO_SIZES = ["abc", -3, [1], float("nan"), float("inf"), True]


@pytest.mark.parametrize(("height", "width", "size"), SIZES)
def test_sizes_are_pixels_or_none(height, width, size):
    entry = read(write(images=[{"id": 1, "file_name": "a.jpg", "height": height, "width": width}]))["images"][0]
    assert (entry["height"], entry["width"]) == (size or (None, None))


@pytest.mark.parametrize("height", NO_SIZES)
def test_what_is_no_size_is_said(height):
    with pytest.raises(BrokenFiles, match=r"x\.json: images\[0\]: height is .*, not a number of pixels"):
        read(write(images=[{"id": 1, "file_name": "a.jpg", "height": height, "width": 2}]))


def test_text_that_means_a_number_is_that_number():
    """Exactly, however many digits an id has; where one of the ids is no number, all are texts."""
    images = named("7", " 8 ", "90071992547409931")
    annotations = [{"image_id": id, "category_id": one} for id, one in (("07", 3.0), (8, "3"), (90071992547409931, 3))]
    for crowd, entry in zip(("0", "1.0", False), annotations, strict=True):
        entry["iscrowd"] = crowd
    content = read(write(images, annotations, named("3", 4)))
    assert [entry["id"] for entry in content["images"]] == [7, 8, 90071992547409931]
    assert [entry["image_id"] for entry in content["annotations"]] == [7, 8, 90071992547409931]
    assert [entry["category_id"] for entry in content["annotations"]] == [3, 3, 3]
    assert [entry["iscrowd"] for entry in content["annotations"]] == [False, True, False]
    assert [entry["id"] for entry in read(write(named("1", "a", "1_0")))["images"]] == ["1", "a", "1_0"]


def test_class_names_by_id_whatever_stands_above_them():
    listed = [{"id": "b", "name": 7, "supercategory": ["x"]}, {"id": "a", "name": "None"}, {"id": "c", "name": "owl"}]
    assert categories(read(write(categories=listed))) == {"a": "None", "b": "7", "c": "owl"}


def test_the_parts_come_in_their_order_from_an_archives_own_folder():
    for name in ("set/a_test.json", "set/b_val.json", "set/c.json", "__MACOSX/set/._c.json"):
        Path(name).parent.mkdir(parents=True, exist_ok=True)
        Path(name).write_text("{}")
    found = find(Path(), {})
    assert {split: file.name for split, file in found.items()} == {
        "train": "c.json",
        "val": "b_val.json",
        "test": "a_test.json",
    }
    assert list(found) == ["train", "val", "test"]
