"""A clone's README: the template's, without what is only about tasks that the clone does not have.

What a section is about stands first in its heading (`## Detection: your own boxes`), what a row of a table or a line of
a listing is about in its first word. Outside of the tasks' own sections, commands with a missing task's config are told
with a config that is there; other commands, example outputs and sentences that name a missing task are left out.
"""

import re
import textwrap
from collections.abc import Callable

from kit.cloning.selection import Selection

TIME = re.compile(r"(?<=and tests): a minute or so$", re.MULTILINE)  # what `make fit` takes in the template
FENCE = re.compile(r"^```.*?^```$", re.MULTILINE | re.DOTALL)
WIDTH = 128
COMMAND = re.compile(r"\.venv/|make |sbatch |#|$")


def readme(text: str, start: str, selection: Selection, missing: set[str]) -> str:
    """
    Args:
        text: the template's.
        start: what stands before the first section, instead of the template's own.
        missing: files that the clone does not have.
    """

    def lacks(words: str) -> bool:
        return selection.lacks(words) or any(file in words for file in missing)

    sections = (_section(section, own, selection, lacks) for section, own in _sections(TIME.sub("", text), selection))
    return "\n".join([start, *filter(None, sections)])


def _sections(text: str, selection: Selection) -> list[tuple[str, bool]]:
    """From `##` to the next one, and whether it is a task's own; what looks like a heading in a listing is none."""
    hidden = FENCE.sub(lambda fence: re.sub(r"^#", "\0", fence[0], flags=re.MULTILINE), text)
    sections = re.split(r"^(?=##)", hidden, flags=re.MULTILINE)[1:]
    kept, dropped, own = [], 0, False  # dropped: the depth of a heading that is left out, with all that is below it
    for section in sections:
        depth = len(section) - len(section.lstrip("#"))
        if dropped and depth > dropped:
            continue
        dropped = depth if selection.first_word.match(section[depth:].split("\n")[0]) else 0
        own = selection.of_a_task.match(section) is not None or (own and depth > 2)
        if not dropped:
            kept.append((section.replace("\0", "#"), own))
    return kept


def _section(section: str, own: bool, selection: Selection, lacks: Callable[[str], bool]) -> str:
    kept: list[str] = []
    blocks = _blocks(section)
    for block in blocks:
        if block.startswith("```"):
            told = _listing(block, own, selection, lacks)
            if not told and kept:
                kept[-1] = _without_introduction(kept[-1])
        elif block.startswith("|"):
            told = _table(block, selection, lacks)
        else:
            told = _paragraph(block, lacks)
        kept.append(told)
    if any(block.startswith("|") for block in blocks) and not any(told.startswith(("|", "```")) for told in kept):
        return ""  # it was about what stood in the table
    return "\n\n".join(told for told in kept if told) + "\n"


def _blocks(section: str) -> list[str]:
    """Paragraphs, tables and listings, which are parted by empty lines; those in a listing part nothing."""
    hidden = FENCE.sub(lambda fence: fence[0].replace("\n\n", "\n\0\n"), section.strip("\n"))
    return [block.replace("\n\0\n", "\n\n") for block in re.split(r"\n{2,}", hidden)]


def _table(block: str, selection: Selection, lacks: Callable[[str], bool]) -> str:
    """Without the rows of a missing task; nothing if then only its head is left."""
    rows = [row for row in block.split("\n") if not selection.first_word.match(row) and not lacks(row)]
    return "\n".join(rows) if len(rows) > 2 else ""


def _listing(block: str, own: bool, selection: Selection, lacks: Callable[[str], bool]) -> str:
    """A listing of commands without those that name a missing task; any other goes whole if it names one.

    The first words of its lines may name folders, as in a tree: those of a missing task are left out.
    """
    block = re.sub(r" *\\\n *", " \\\\\0", block)  # a command that goes on in the next line is one
    first, *lines, last = block.split("\n")
    commands = first == "```python" or all(COMMAND.match(line) for line in lines)
    lines = [line for line in lines if not selection.first_word.match(line)]
    told = [selection.retold(line) if commands and not own else line for line in lines]
    kept = [line for line in told if not lacks(line)]
    if not any(line.strip() for line in kept) or (len(kept) < len(lines) and not commands):
        return ""
    return "\n".join([first, *kept, last]).replace("\\\0", "\\\n    ")


def _paragraph(block: str, lacks: Callable[[str], bool]) -> str:
    """Without parentheses and sentences that name what is missing; as it was if it names nothing."""
    if not lacks(block):
        return block
    words = re.sub(r" \([^()]*\)", lambda found: "" if lacks(found[0]) else found[0], " ".join(block.split("\n")))
    sentences = [sentence for sentence in re.split(r"(?<=\.)\s+", words) if not lacks(sentence)]
    return textwrap.fill(" ".join(sentences), WIDTH, break_long_words=False, break_on_hyphens=False)


def _without_introduction(paragraph: str) -> str:
    """Without its last sentence, if that ends in a colon: what it announces is not there."""
    return re.sub(r"(?:(?<=\.)\s|\A)(?:(?!\.\s)[\s\S])*:\Z", "", paragraph).rstrip()
