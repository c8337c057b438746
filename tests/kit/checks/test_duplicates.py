"""Test the search for near hashes, and which thumbnails and files count as alike."""

from pathlib import Path

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

from kit.checks.duplicates import (
    MAX_DISTANCE,
    MAX_PARTNERS,
    compare_files,
    duplicate_faults,
    near_hashes,
    similar_images,
    thumbnail_difference,
)
from kit.checks.images import CheckedImage
from kit.checks.pixels import STATISTICS, ImageStatistics, perceptual_hash


def brute_force(hashes: list[int]) -> set[tuple[int, int]]:
    """Return the near pairs of each later image: of these, the nearest and latest `MAX_PARTNERS` of a split."""
    pairs = set()
    for j in range(len(hashes)):
        near = [(distance, -i) for i in range(j) if (distance := (hashes[i] ^ hashes[j]).bit_count()) <= MAX_DISTANCE]
        pairs |= {(-i, j) for _, i in sorted(near)[:MAX_PARTNERS]}
    return pairs


def pairs(hashes: list[int]) -> list[tuple[int, int]]:
    array, splits = np.array(hashes, dtype=np.uint64), np.array(["train"] * len(hashes))
    return [(i, j) for j in range(len(hashes)) for i in near_hashes(array, splits, j)[0].tolist()]


def flipped(value: int, bits: set[int]) -> int:
    return value ^ sum(1 << bit for bit in bits)


@settings(max_examples=60)
@given(
    st.lists(st.integers(0, 2**64 - 1), min_size=1, max_size=4).flatmap(
        lambda seeds: st.lists(
            st.builds(flipped, st.sampled_from(seeds), st.sets(st.integers(0, 63), max_size=MAX_DISTANCE + 2)),
            max_size=30,
        )
    )
)
def test_near_pairs_equal_a_brute_force_search(hashes):
    result = pairs(hashes)
    assert len(result) == len(set(result))
    assert set(result) == brute_force(hashes)


def test_near_pair_among_many_hashes_is_found():
    random = np.random.default_rng(0).integers(0, 2**64, 20_000, dtype=np.uint64)
    random[15_000] = random[3] ^ np.uint64(0b111111)
    splits = np.array(["train"] * 20_000)
    assert [near_hashes(random, splits, j)[0].tolist() for j in (3, 14_999, 15_000)] == [[], [], [3]]
    assert near_hashes(random, splits, 15_000)[1].tolist() == [6]


def test_partners_in_another_split_are_kept_beside_many_in_the_same_one():
    hashes = np.zeros(1000, dtype=np.uint64)
    last, _ = near_hashes(hashes, np.array(["train"] * 20 + ["val"] * 980), 999)
    assert last.tolist() == [*range(998, 998 - MAX_PARTNERS, -1), *range(19, 19 - MAX_PARTNERS, -1)]


def listed(*names: str) -> list[CheckedImage]:
    return [CheckedImage(name, name.split("/")[0], None, None) for name in names]


def test_equal_images_match_the_first_one_of_another_split_and_a_huge_group_takes_linear_time():
    images = listed(*(f"train/{i}.png" for i in range(30_000)), "val/a.png", "val/b.png")
    faults = duplicate_faults(images, [list(range(len(images)))], {}, [])  # all pairs would take minutes
    assert len(faults) == len(images) - 1
    assert {fault.other for fault in faults} == {"train/0.png"}
    assert [fault.kind for fault in faults[-3:]] == ["duplicate", "leak", "leak"]


def test_the_next_partner_is_tried_if_the_colours_of_the_best_differ():
    shades = Image.fromarray(np.random.default_rng(5).integers(0, 256, (6, 8), dtype=np.uint8)).resize((80, 60))
    zero = Image.new("L", shades.size)
    Image.merge("RGB", (shades, zero, zero)).save("red.png")
    Image.merge("RGB", (zero, zero, shades)).save("blue.png")
    Image.merge("RGB", (shades, zero, zero)).save("copy.jpg")
    table = np.zeros(3, STATISTICS)
    table["thumbnail"] = np.random.default_rng(6).integers(0, 200, (16, 16))
    table["thumbnail"][0] += 2  # so that the blue image is the best partner by its thumbnail
    matches = similar_images(listed("red.png", "blue.png", "copy.jpg"), ImageStatistics({}, [], table), np.arange(3))
    assert {j: match.earlier for j, match in matches.items()} == {2: 0}


def test_hash_is_robust_to_brightness_and_noise_but_differs_between_images():
    random = np.random.default_rng(1)
    patches = random.integers(0, 200, (2, 6, 6), dtype=np.uint8)
    scenes = [np.asarray(Image.fromarray(patch).resize((32, 32)), dtype=np.float32) for patch in patches]
    one, other = (perceptual_hash(scene) for scene in scenes)
    changed = perceptual_hash(0.8 * scenes[0] + 20 + random.normal(0, 1, (32, 32)).astype(np.float32))
    assert (one ^ changed).bit_count() <= MAX_DISTANCE < (one ^ other).bit_count()


def test_thumbnails_that_are_alike():
    random = np.random.default_rng(2)
    base = random.integers(60, 200, (16, 16))
    thumbs = {
        "itself": base,
        "lighter": base + 30,
        "less contrast": 100 + (base - 100) // 2,
        "some noise": base + random.integers(-3, 4, base.shape),
        "turned": base[::-1],
        "another": random.integers(60, 200, (16, 16)),
    }
    stacked = np.stack(list(thumbs.values())).astype(np.uint8)
    difference = thumbnail_difference(stacked, stacked[0], np.full(len(stacked), MAX_DISTANCE))
    alike = dict(zip(thumbs, np.isfinite(difference).tolist(), strict=True))
    assert alike == {name: name not in ("turned", "another") for name in thumbs}
    assert difference[0] == 0 and difference[1] == 30


def test_files_are_compared_by_pixels_and_colours():
    random = np.random.default_rng(3)
    shades = Image.fromarray(random.integers(0, 256, (6, 8), dtype=np.uint8)).resize((80, 60))
    picture = Image.merge("RGB", (shades, shades.transpose(Image.Transpose.FLIP_TOP_BOTTOM), shades))
    picture.save("a.png")
    picture.save("b.bmp")
    picture.save("c.jpg", quality=60)
    picture.convert("L").save("d.png")
    Image.merge("RGB", (shades, picture.getchannel("G"), picture.getchannel("G"))).save("e.png")
    verdicts = {
        name: compare_files(Path("a.png"), Path(name), True) for name in ("a.png", "b.bmp", "c.jpg", "d.png", "e.png")
    }
    assert list(verdicts.values()) == ["same", "same", "near", "near", ""]


def test_files_that_differ_in_metadata_are_the_same():
    noise = np.random.default_rng(4).integers(0, 256, (160, 140, 3), dtype=np.uint8)
    Image.fromarray(noise).save("a.jpg", quality=95)
    content = Path("a.jpg").read_bytes()
    Path("b.jpg").write_bytes(content[:2] + b"\xff\xfe\x00\x06note" + content[2:])
    assert compare_files(Path("a.jpg"), Path("b.jpg"), True) == "same"
