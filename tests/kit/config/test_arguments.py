"""A command line is split into options and words."""

import pytest

from kit.config.arguments import extract_option, option_value, split_words
from kit.ground.errors import UserError


def test_option_is_extracted_in_both_spellings():
    args = ["--config", "a.yaml", "word", "--lr", "-0.1", "-c", "b.yaml", "--config=c.yaml", "--flag"]
    assert extract_option(args, "--config", "-c") == (
        ["a.yaml", "b.yaml", "c.yaml"],
        ["word", "--lr", "-0.1", "--flag"],
    )
    assert option_value(args, "--lr") == "-0.1" and option_value(args, "--name") is None


@pytest.mark.parametrize("args", [["--config"], ["--config", "--lr", "3"]])
def test_option_without_a_value_is_refused(args):
    with pytest.raises(UserError, match="--config needs a value"):
        extract_option(args, "--config")


def test_words_may_stand_between_options():
    words, options = split_words(["run", "--out", "folder", "a.jpg", "--help", "b.jpg", "--n=3", "--", "--c.jpg"])
    assert words == ["run", "a.jpg", "b.jpg", "--c.jpg"]
    assert options == ["--out", "folder", "--help", "--n=3"]
