"""Test the search for near hashes, and which thumbnails and files count as alike."""

from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

from kit.checks.duplicates import MAX_DISTANCE, compare_files, near_pairs, thumbnail_difference
from kit.checks.pixels import perceptual_hash


def brute_force(hashes: list[int]) -> set[tuple[int, int]]:
    return {(i, j) for j in range(len(hashes)) for i in range(j) if (hashes[i] ^ hashes[j]).bit_count() <= MAX_DISTANCE}


def pairs(hashes: list[int]) -> list[tuple[int, int]]:
    return [tuple(pair) for pair in near_pairs(np.array(hashes, dtype=np.uint64)).tolist()]


def flipped(value: int, bits: set[int]) -> int:
    return value ^ sum(1 << bit for bit in bits)


@settings(max_examples=60, deadline=None)
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


@pytest.mark.parametrize("count", [0, 1])
def test_near_pairs_of_too_few_hashes(count):
    assert pairs([7] * count) == []


def test_near_pair_among_many_hashes_is_found():
    random = np.random.default_rng(0).integers(0, 2**64, 20_000, dtype=np.uint64)
    random[15_000] = random[3] ^ np.uint64(0b111111)
    assert [3, 15_000] in near_pairs(random).tolist()


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
    difference = thumbnail_difference(stacked[:1].repeat(len(stacked), 0), stacked, np.full(len(stacked), MAX_DISTANCE))
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
