import re
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from kit.formats.masks.classes import Entry, class_number, read_table
from kit.formats.masks.coco import CocoShapes
from kit.formats.masks.mask_files import MaskPairs
from kit.formats.masks.mask_images import MaskImages
from kit.formats.masks.masks import IGNORED, UNKNOWN, MaskFiles
from kit.formats.pairs import Pairs
from kit.ground.errors import UserError

MASK = np.array([[0, 1, 2], [2, 255, 7]], np.uint8)


def class_list(root: Path, names=None, ids=None, colors=None, ignore=None) -> MaskPairs:
    Image.fromarray(MASK).save(root / "mask.png")
    pairs = {"train": Pairs([root / "image.png"], [root / "mask.png"], [], [])}
    return MaskPairs(root, pairs, names, ids, colors, ignore)


def test_colors_come_before_names_and_names_before_the_table(tmp_path):
    (tmp_path / "classes.txt").write_text("road\nsky\ncar\n")
    colors = {"red": [255, 0, 0], "blue": [0, 0, 255]}
    assert class_list(tmp_path).class_names() == ["road", "sky", "car"]
    assert class_list(tmp_path, names=["a", "b", "c"]).class_names() == ["a", "b", "c"]
    coloured = class_list(tmp_path, names=["a", "b", "c"], colors=colors)
    assert coloured.entries == [Entry(0, "red", (255, 0, 0)), Entry(1, "blue", (0, 0, 255))]


def test_reader_gives_ids_of_one_name_one_class_number_and_ignores_void(tmp_path):
    classes = class_list(tmp_path, names=["void", "sky", "car", "sky"], ids=[0, 1, 2, 7])
    assert classes.class_names() == ["sky", "car"]
    read = classes.reader(["car", "sky"]).classes(MASK)  # a checkpoint may have another order
    assert read.tolist() == [[IGNORED, 1, 0], [0, IGNORED, 1]]
    assert classes.reader(["sky", "car"]).classes(np.array([[3]], np.uint8)).tolist() == [[UNKNOWN]]


def test_first_of_many_unknown_values_are_named(tmp_path):
    colours = np.arange(300 * 400, dtype=np.uint32).view(np.uint8).reshape(300, 400, 4)[..., 2::-1]  # all differ
    Image.fromarray(np.ascontiguousarray(colours)).save(tmp_path / "colours.png")
    Image.fromarray(np.arange(2, 22, dtype=np.uint8)[None]).save(tmp_path / "ids.png")
    reader = MaskImages(((0, 0), (1, 1)), ((0, 0),))
    _, [(kind, _, message)] = reader.read_with_problems(tmp_path / "colours.png")
    assert kind == "mask-colour-unknown" and message.startswith("colours [0, 0, 1], [0, 0, 2], ")
    assert "[0, 0, 8], ... of no class" in message
    _, [(kind, _, message)] = reader.read_with_problems(tmp_path / "ids.png")
    assert kind == "mask-id-unknown" and message.startswith("ids 2, 3, 4, 5, 6, 7, 8, 9, ... of no class")
    Image.new("RGB", (4, 4), (200, 100, 50)).save(tmp_path / "one.png")
    _, [(_, _, message)] = reader.read_with_problems(tmp_path / "one.png")
    assert message.startswith("colour [200, 100, 50] of no class")


@pytest.mark.parametrize(
    ("options", "used"),
    [({}, True), ({"names": ["a", "b"]}, True), ({"names": ["a", "c"]}, False), ({"ids": [3, 4]}, False)],
)
def test_entries_of_a_checkpoint_are_used_if_the_names_agree(tmp_path, options, used):
    classes = class_list(tmp_path, **options)
    classes.entries_of_checkpoint = [Entry(5, "a", None), Entry(9, "b", None)]
    assert ([entry.id for entry in classes.entries] == [5, 9]) == used


@pytest.mark.parametrize(
    "options", [{"ids": [0, 70_000]}, {"ids": [1, 1]}, {"ignore": [-1]}, {"names": ["a"], "ids": [0, 1]}]
)
def test_bad_ids_are_refused(tmp_path, options):
    with pytest.raises(UserError, match="id"):
        _ = class_list(tmp_path, **options).entries


@pytest.mark.parametrize(
    "options",
    [{"names": ["a", "b"], "ignore": [1]}, {"names": [f"{k}" for k in range(300)]}, {"colors": {"a": [0, 0, 256]}}],
)
def test_wrong_numbers_of_classes_and_colours_are_refused(tmp_path, options):
    with pytest.raises(UserError):
        class_list(tmp_path, **options).class_names()


def test_unknown_class_is_named_with_a_similar_one():
    assert class_number("sky", ["road", "sky"], Path("data")) == 1
    with pytest.raises(UserError, match=r"^data: .*'sku'.*sky"):
        class_number("sku", ["road", "sky"], Path("data"))


def test_masks_of_ignored_values_are_not_called_coloured(tmp_path):
    with pytest.raises(UserError, match=r"all values in the masks are in --data\.ignore"):
        _ = class_list(tmp_path, ignore=[0, 1, 2, 7, 255]).entries


HEADERS = [  # the first line, the second one, the names
    ("red, 255, 0, 0", "blue, 0, 0, 255", ["red", "blue"]),
    ("label\t1\t2\t3", "r\t4\t5\t6", ["label", "r"]),
    ("name r g b", "sky 1 2 3", ["sky"]),
    ("r g b name", "1 2 3 sky", ["sky"]),
    ("id,name,r,g,b", "0,sky,1,2,3", ["sky"]),
    ("Pixel Value, Class", "0, sky", ["sky"]),
    ("name", "sky", ["name", "sky"]),  # it may be a class
    ("red brick", "sky", ["red brick", "sky"]),
]


@pytest.mark.parametrize(("first", "second", "names"), HEADERS)
def test_header_has_no_numbers(tmp_path, first, second, names):
    (tmp_path / "classes.txt").write_text(f"{first}\n{second}\n")
    assert [(entry.id, entry.name) for entry in read_table(tmp_path / "classes.txt")] == list(enumerate(names))


@pytest.mark.parametrize(
    ("values", "ignore", "end"),
    [
        (
            [0, 3, 90, 200, 255],
            [3],
            "the masks have the ids 0, 90, 200 (90 in {}), .* --data.ids '[0, 90, 200]'; 255 is ignored unless .*",
        ),
        ([*range(0, 90, 10)], None, "the masks have the ids 0, 10, .*, 70, ... (10 in {}), .* with --data.ids"),
    ],
)
def test_ids_to_give_are_those_of_classes(tmp_path, values, ignore, end):
    classes = class_list(tmp_path, ignore=ignore)
    Image.fromarray(np.array([values], np.uint8)).save(tmp_path / "mask.png")
    pattern = re.escape(end.format(tmp_path / "mask.png")).replace(r"\.\*", ".*") + "$"
    with pytest.raises(UserError, match=pattern):
        _ = classes.entries


def test_fingerprint_changes_with_mask_files_and_json(tmp_path):
    masks = [tmp_path / f"{index}.png" for index in range(45)]
    for mask in masks:
        Image.fromarray(MASK).save(mask)
    json_file = tmp_path / "all.json"
    json_file.write_text("[1]")
    shapes = CocoShapes(json_file, ())

    def fingerprint(reader, targets) -> dict[str, int]:
        return MaskFiles(targets, [Path("image.png")] * len(targets), 3, None, reader=reader).fingerprint()

    before = [fingerprint(MaskImages(()), masks), fingerprint(shapes, [None])]
    assert before == [fingerprint(MaskImages(()), masks), fingerprint(shapes, [None])]
    Image.fromarray(np.zeros_like(MASK)).save(masks[44])  # another size
    json_file.write_text("[2]")  # the same size
    for old, new in zip(before, [fingerprint(MaskImages(()), masks), fingerprint(shapes, [None])], strict=True):
        assert {key for key in old | new if old.get(key) != new.get(key)} == {"annotations"}
