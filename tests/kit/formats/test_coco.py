"""Reading COCO's JSON: ids, sizes, names and flags are converted or refused in one line that names the entry."""

import json
from pathlib import Path
from typing import Any

import pytest

from kit.formats.coco import categories, read, read_document
from kit.formats.coco_search import find
from kit.ground.errors import BrokenFiles, UserError


def write(images: Any = None, annotations: Any = (), categories: Any = ()) -> Path:
    images = [{"id": 1, "file_name": "a.jpg"}] if images is None else images
    file = Path("x.json")
    file.write_text(json.dumps({"images": images, "annotations": list(annotations), "categories": list(categories)}))
    return file


def entries(*ids: Any) -> list[dict[str, Any]]:
    return [{"id": id, "file_name": f"{index}.jpg", "name": f"c{index}"} for index, id in enumerate(ids)]


NEEDED = {"image_id": 1, "category_id": 1}
INVALID = [  # the content, and the entry and value that the message names
    ({"categories": entries(1, " 1")}, "categories[1]: id 1"),
    ({"categories": entries(3, 4, 3)}, "categories[2]: id 3"),
    ({"images": entries(1, 1)}, "images[1]: id 1"),
    ({"images": entries([1])}, "images[0]: id is [1]"),
    ({"images": entries(None)}, "images[0]: id is null"),
    ({"images": [{"id": 1}]}, "images[0]: file_name is null"),
    ({"images": [3]}, "images[0]"),
    ({"annotations": [NEEDED, {"image_id": [1]}]}, "annotations[1]: image_id is [1]"),
    ({"annotations": [{"image_id": 1}]}, "annotations[0]: category_id is null"),
    ({"annotations": [{**NEEDED, "category_id": {}}]}, "annotations[0]: category_id is {}"),
    ({"annotations": [NEEDED, {**NEEDED, "iscrowd": "maybe"}]}, 'annotations[1]: iscrowd is "maybe"'),
    ({"annotations": [{**NEEDED, "iscrowd": 2}]}, "annotations[0]: iscrowd is 2"),
    ({"annotations": [{**NEEDED, "iscrowd": ""}]}, 'annotations[0]: iscrowd is ""'),
    ({"annotations": [{**NEEDED, "iscrowd": []}]}, "annotations[0]: iscrowd is []"),
    ({"categories": [{"id": 1, "name": None}]}, "categories[0]: name is null"),
    ({"categories": [{"id": 1, "name": " "}]}, 'categories[0]: name is " "'),
    ({"images": [{"id": 1, "file_name": "a\0.jpg"}]}, "images[0]: file_name is "),
    ({"images": [{"id": 1, "file_name": "a\ud800.jpg"}]}, "images[0]: file_name is "),
    *(
        ({"images": [{"id": 1, "file_name": "a.jpg", "height": height}]}, "images[0]: height is ")
        for height in ("abc", "", -3, [1], [], {}, float("nan"), float("inf"), True, False)
    ),
]


@pytest.mark.parametrize(("content", "start"), INVALID)
def test_invalid_entry_is_named_in_one_line(content, start):
    with pytest.raises(BrokenFiles) as raised:
        read(write(**content))
    assert str(raised.value).startswith(f"x.json: {start}") and "\n" not in str(raised.value)


SIZES = [(48, 64, (48, 64)), ("48", 64.0, (48, 64)), (0, 64, None), (None, 2, None), ("0", "0", None)]


@pytest.mark.parametrize(("height", "width", "size"), SIZES)
def test_size_is_in_pixels_or_none(height, width, size):
    file = write(images=[{"id": 1, "file_name": "a.jpg", "height": height, "width": width}])
    assert read_document(file, Path()).images[0].size == size


def test_text_that_stands_for_a_number_becomes_the_number():
    """All digits of an id count, and 7 is the same id as "07"."""
    images = entries("7", " 8 ", "90071992547409931", "a", "1_0")
    ids = (("07", 3.0), (8, "3"), (90071992547409931, 3))
    annotations = [{"image_id": image, "category_id": category} for image, category in ids]
    for crowd, entry in zip(("0", "1.0", False), annotations, strict=True):
        entry["iscrowd"] = crowd
    content = read(write(images, annotations, entries("3", 4)))
    assert [entry["id"] for entry in content["images"]] == [7, 8, 90071992547409931, "a", "1_0"]
    assert [entry["image_id"] for entry in content["annotations"]] == [7, 8, 90071992547409931]
    assert [entry["category_id"] for entry in content["annotations"]] == [3, 3, 3]
    assert [entry["iscrowd"] for entry in content["annotations"]] == [False, True, False]


def test_categories_are_sorted_by_id_with_any_supercategory():
    listed = [{"id": "b", "name": 7, "supercategory": ["x"]}, {"id": "a", "name": "None"}, {"id": 5, "name": "owl"}]
    assert list(categories(read(write(categories=listed))).items()) == [(5, "owl"), ("a", "None"), ("b", "7")]


def test_unlisted_category_is_named_with_its_first_annotation():
    unlisted = [{**NEEDED, "id": id, "category_id": 7} for id in (12, 13)]
    document = read_document(write(annotations=[{**NEEDED, "id": 1}, *unlisted], categories=entries(1)), Path())
    assert [entry["id"] for entry in document.images[0].annotations] == [1]
    (fault,) = document.faults
    assert (fault.kind, fault.file) == ("class-unknown", "x.json")
    start = "2 annotation(s) have the category 7, which is not listed (the first one has the id 12)"
    assert fault.message == f"{start}; add the category, or remove the annotations"


def test_labelme_is_named_with_a_converter():
    for name in ("my set/a.json", "my set/b.json"):
        Path(name).parent.mkdir(exist_ok=True)
        Path(name).write_text('{"shapes": [], "imagePath": "a.jpg"}')
    for failing in (lambda: find(Path("my set"), {}), lambda: read(Path("my set/a.json"))):
        with pytest.raises(UserError, match=r"a\.json.*LabelMe's files.*labelme2coco$"):
            failing()


def test_splits_in_the_folder_of_an_archive_are_found_in_their_order():
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


def test_file_without_a_split_is_not_dropped_in_silence():
    for name in ("instances_train.json", "more.json"):
        Path(name).write_text("{}")
    with pytest.warns(UserWarning, match=r"more\.json: not used, since no split is in the name"):
        assert find(Path(), {}) == {"train": Path("instances_train.json")}


def test_other_json_files_of_a_split_are_not_used():
    file = write()
    Path("meta.json").write_text('{"shapes": []}')
    Path("tasks.json").write_text('[{"annotations": []}]')
    assert find(Path(), {}) == {"train": file}


def test_name_with_a_byte_that_is_not_utf_8_is_found():
    Path("a\udce9.jpg").touch()
    file = write(images=[{"id": 1, "file_name": "a\udce9.jpg"}])
    assert read_document(file, Path()).images[0].path == Path("a\udce9.jpg")
