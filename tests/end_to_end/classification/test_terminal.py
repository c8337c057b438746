"""A file name that would control the terminal, as `project.check` prints it."""

from pathlib import Path

from PIL import Image

NAME = "\x1b]0;title\x07\x1b[2J\u202egnp.png"


def test_control_characters_in_file_names_are_escaped(command, repository: Path) -> None:
    for name in ("a", "b"):
        Path(f"data/{name}").mkdir(parents=True)
        for number in range(4):
            Image.new("L", (9, 9), 40 * number).save(f"data/{name}/{number}.png")
    Path(f"data/a/{NAME}").write_bytes(b"")
    config = repository / "configs" / "classification_folder.yaml"
    words = ["--data.root", "data", "--data.image_size", "[9, 9]", "--data.augment", "[]"]
    ended = command("check", "--config", str(config), *words)
    assert ended.returncode == 1 and r"\x1b]0;title" in ended.stdout
    assert not set(ended.stdout + ended.stderr) & set("\x1b\x07\u202e\r")
