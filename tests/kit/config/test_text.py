"""Configs are read as UTF-8 or UTF-16, whatever the user's locale."""

from pathlib import Path

import pytest
from jsonargparse import ActionConfigFile

from kit.config.parser import PlainParser
from kit.ground.errors import UserError


@pytest.fixture
def parser() -> PlainParser:
    parser = PlainParser()
    parser.add_argument("--config", action=ActionConfigFile)
    parser.add_argument("--title", type=str)
    return parser


@pytest.mark.parametrize("encoding", ["utf-8", "utf-8-sig", "utf-16"])
def test_config_is_unicode(parser, encoding):
    Path("a.yaml").write_text("title: bär\n", encoding=encoding)
    assert parser.read(["--config", "a.yaml"]).title == "bär"


def test_other_encoding_is_the_users_mistake(parser):
    Path("a.yaml").write_text("# \ntitle: bär\n", encoding="cp1252")
    with pytest.raises(UserError, match=r"a\.yaml:2: not UTF-8") as raised:
        parser.read(["--config", "a.yaml"])
    assert raised.value.exit_code == 2


def test_mistake_in_a_config_in_utf_16_has_its_line(parser):
    Path("a.yaml").write_text("title: bär\ntitel: bär\n", encoding="utf-16")
    with pytest.raises(UserError, match=r"titel.*a\.yaml:2"):
        parser.read(["--config", "a.yaml"])
