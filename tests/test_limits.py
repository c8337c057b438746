"""Data of anyone's: what would hang, fill memory or end in a traceback ends in one line that names the file."""

import json
import os
import zlib
from pathlib import Path

import pytest
from PIL import Image

from project import BrokenFiles, UserError
from project.checks.headers import read_header
from project.checks.images import Image as Listed
from project.checks.pixels import read_images
from project.classification import Csv
from project.detection.formats import coco, voc, yolo
from project.pipeline.decode import decode
from project.pipeline.folders import images
from project.prediction.inputs import find
from project.segmentation.coco import CocoShapes, read_document
from project.segmentation.mask_images import values_of
from project.segmentation.tables import read_table

KINDS = ("pipe.jpg", "zero.jpg", "folder.jpg", "program.jpg", "huge.png", "long.jpg", "text.png")


@pytest.fixture
def no_images() -> dict[str, str]:
    """Files that are no images, and a word of what is said of each."""
    os.mkfifo("pipe.jpg")
    Path("zero.jpg").symlink_to("/dev/zero")
    Path("folder.jpg").mkdir()
    Path("program.jpg").write_text("%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 9 9\n%%EndComments\n{} loop\n")
    whole = Path("whole.png")
    Image.new("P", (1, 1)).save(whole)
    header = bytearray(whole.read_bytes())
    header[16:24] = (2**30).to_bytes(4, "big") * 2  # width and height
    header[29:33] = zlib.crc32(header[12:29]).to_bytes(4, "big")
    Path("huge.png").write_bytes(header)
    with Path("long.jpg").open("wb") as file:
        file.truncate(2**40)
    Path("text.png").write_bytes(_with_text_bomb(whole.read_bytes()))
    words = ("named pipe", "device", "folder", "PostScript", "bomb", "bytes", "MAX_TEXT_CHUNK")
    return dict(zip(KINDS, words, strict=True))


def _with_text_bomb(png: bytes) -> bytes:
    """A PNG whose comment of 3 kB becomes 3 MB."""
    body = b"zTXt" + b"a\0\0" + zlib.compress(b"\0" * 3_000_000)
    return png[:33] + (len(body) - 4).to_bytes(4, "big") + body + zlib.crc32(body).to_bytes(4, "big") + png[33:]


def test_what_is_no_image_is_refused_in_words_and_never_opened(no_images: dict[str, str]) -> None:
    for name, word in no_images.items():
        for read in (lambda path: decode(path, 3, (4, 4)), values_of):
            with pytest.raises(BrokenFiles, match=f"{name}: .*{word}"):
                read(Path(name))
        listed = Listed(name, "train", 0, None)
        assert word in read_header(listed).message
        (fault,) = read_images([listed]).headers
        assert word in fault.message


def test_folders_are_no_images_and_links_in_circles_end(no_images: dict[str, str], tmp_path: Path) -> None:
    Path("folder.jpg/again").symlink_to(tmp_path)
    for number in range(30):  # 2**30 ways through them
        Path(f"a{number}").mkdir()
    for number in range(29):
        for link in ("left", "right"):
            Path(f"a{number}/{link}").symlink_to(tmp_path / f"a{number + 1}")
    Path("a29/last.png").symlink_to(tmp_path / "whole.png")
    deep = tmp_path
    for _ in range(500):
        deep = deep / "d"
        deep.mkdir()
    names = {path.name for path in images(tmp_path)}
    assert names == {*KINDS, "whole.png", "last.png"} - {"folder.jpg"}
    assert {path.name for path in find([str(tmp_path)])} == names


@pytest.mark.parametrize(
    ("text", "word"),
    [
        ("names: {999999999: cat}\ntrain: .\n", "data.yaml:1: .*999999999"),
        ("train: .\nnames: {100000000000000000000: cat}\n", "data.yaml:2: .*class"),
        (f"train: .\nnames: {'[' * 100}{']' * 100}\n", "data.yaml:2: .*nested"),
        ("train: .\nnc: " + "9" * 5000 + "\nnames: [a]\n", "data.yaml:2: .*digits"),
        ("train: .\nnames: [a]\n" + "# " * 2**20, "bytes"),
    ],
)
def test_a_data_yaml_beyond_a_limit(text: str, word: str) -> None:
    Path("data.yaml").write_text(text)
    with pytest.raises(UserError, match=word):
        yolo.find(Path())


def test_labels_that_are_pipes_or_too_long(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(yolo, "MOST_OF_ANNOTATION", 100)
    for name in ("a", "b", "c"):
        Image.new("L", (4, 4)).save(f"{name}.png")
    os.mkfifo("other.txt")
    Path("b.txt").write_text("0 0.5 0.5 1 1\n" * 50)
    Path("c.txt").write_text(f"{'9' * 50} 0.5 0.5 1 1\n")
    found = yolo.read(images(Path()), yolo.Layout({}, ["cat"]))
    assert [(fault.kind, Path(fault.file).name, fault.line) for fault in found.faults] == [
        ("annotation-missing", "a.png", None),
        ("annotation-unreadable", "b.txt", None),
        ("class-unknown", "c.txt", 1),
    ]


def test_xml_beyond_a_limit(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(voc, "MOST_OF_ANNOTATION", 2_000_000)
    entities = "".join(f'<!ENTITY a{i} "{f"&a{i - 1};" * 10 if i else "ha"}">' for i in range(10))
    texts = {
        "bomb": f"<!DOCTYPE a [{entities}]><annotation><object><name>&a9;</name></object></annotation>",
        "codec": '<?xml version="1.0" encoding="nothing"?><annotation/>',
        "deep": "<a>" * 20_000 + "</a>" * 20_000,
        "long": f"<annotation>{' ' * 2_000_000}</annotation>",
        "many": f"<annotation><filename>{' ' * 50_000}x</filename>{'<object/>' * 2_000}</annotation>",
        "size": "<annotation><size><width>1e999</width><height>5</height></size></annotation>",
    }
    for name, text in texts.items():
        Path(f"{name}.xml").write_text(text)
        Image.new("L", (4, 4)).save(f"{name}.png")
    found = voc.read(voc.find(Path())["train"])
    words = {Path(fault.file).stem: fault.message for fault in found.faults}
    assert {"bomb", "codec", "long", "many"} <= set(words) <= {"bomb", "codec", "long", "many", "size"}
    assert "entities" in words["bomb"] and "encoding" in words["codec"] and "bytes" in words["long"]


def _coco(**annotation: object) -> Path:
    image = {"id": 1, "file_name": "a.png", "height": 480, "width": 640}
    annotation = {"id": 1, "image_id": 1, "category_id": 1, **annotation}
    parts = {"images": [image], "annotations": [annotation], "categories": [{"id": 1, "name": "cat"}]}
    Path("train.json").write_text(json.dumps(parts))
    Image.new("L", (640, 480)).save("a.png")
    return Path("train.json")


def test_polygons_and_run_lengths_that_would_fill_memory() -> None:
    for segmentation, word in (
        ([[0, 0, 6000, 6000] * 2000], "outline"),
        ([[0, 0, 1e300, 5, 5, 5]], "far outside"),
    ):
        (lost,) = read_document(_coco(segmentation=segmentation), Path()).lost
        assert word in lost.why
    document = read_document(_coco(segmentation={"size": [10**6, 10**6], "counts": [0, 10**12]}), Path())
    assert CocoShapes(document.file, ((1, 0),)).paint(document.drawings[0]).broken
    many = [[value for x in range(320) for value in (2 * x, 0, 2 * x + 1, 479)]]  # a comb that fills the image
    assert not read_document(_coco(segmentation=many), Path()).lost


def test_numbers_that_no_float_holds() -> None:
    found = coco.read(_coco(bbox=[1, 1, 10**400, 1]), Path())
    assert [fault.kind for fault in found.faults] == ["annotation-unreadable"]


def test_json_of_anyones() -> None:
    for text, word in (("[" * 5000, "nested"), ('{"images": ' + "9" * 5000 + "}", "digits"), ("é", "UTF-8")):
        Path("train.json").write_bytes(text.encode("latin-1"))
        with pytest.raises(BrokenFiles, match=word):
            read_document(Path("train.json"), Path())


def test_tables_and_lists(monkeypatch: pytest.MonkeyPatch) -> None:
    Path("classes.txt").write_text("0, cat\n999999999, dog\n")
    with pytest.raises(UserError, match=r"classes\.txt:2: .*999999999"):
        read_table(Path("classes.txt"))
    Path("classes.txt").write_text(f"cat\n{'9' * 5000} 1 1 dog\n")
    with pytest.raises(UserError, match=r"classes\.txt:2: .*characters"):
        read_table(Path("classes.txt"))
    Path("labels.csv").write_text(f"path,label\na.png,cat\nb.png,{'x' * 200_000}\n")
    with pytest.raises(UserError, match=r"labels\.csv:3: .*field"):
        _ = Csv(".").rows
    Path("labels.csv").write_bytes("path,label\na.png,chaît\n".encode("cp1252"))
    with pytest.raises(UserError, match=r"labels\.csv:2: .*UTF-8"):
        _ = Csv(".").rows
