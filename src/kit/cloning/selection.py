"""What a clone does not have: the tasks that were not chosen, and cloning itself."""

import re
from collections.abc import Iterable, Mapping

OWN = ("cloning",)  # tests/cloning is treated as a task that nobody chooses
ON_IMAGES = {"generation": "generation_style"}  # of a task whose first config's model takes no images: whose does


class Selection:
    """
    tasks, default: those of the clone; the one whose config `fit` takes if none is given.
    on_images: a run of theirs whose model takes images.
    of_a_task: matches a config's file, or a heading in the README, that is one of theirs.
    first_word: matches a row, a line or a heading that is about a missing task.

    Args:
        tasks: all that the template has.
        chosen: some of them.
        files: all that the template has, with their texts.
    """

    def __init__(self, tasks: Iterable[str], chosen: Iterable[str], files: Mapping[str, str | None]) -> None:
        self.tasks = sorted(set(chosen))
        self.default = self.tasks[0]
        self.on_images = next((task for task in self.tasks if task not in ON_IMAGES), ON_IMAGES.get(self.default, ""))
        self.configs = {file: text or "" for file, text in files.items() if file.startswith("configs/")}
        self.of_a_task = re.compile(rf"(?:configs/|#+ )(?:{'|'.join(self.tasks)})(?![a-z])", re.IGNORECASE)
        own = sorted(file for file in self.configs if file.startswith(f"configs/{self.default}"))
        self.rooted = [file for file in own if re.search(r"^\s+root:", self.configs[file], re.MULTILINE)]
        self.gone = [*sorted(set(tasks) - set(chosen)), *OWN]
        names = "|".join(self.gone)
        self.path = re.compile(
            rf"(?<![\w.])project\.(?:{names}|new)\b"
            rf"|(?<!\w)(?:benchmarks|configs|notebooks|tests|tests/project|runs|src/project)/(?:{names})(?![a-z])"
            r"|src/project/new\.py|docs/new_task|test-clones"
        )
        self.quoted = re.compile(rf"""["'](?:{names})(?:_\w+)?(?:\.yaml)?["']""")
        self.first_word = re.compile(rf"\W*(?:(?:{names})(?:(?:_\w+)?\.yaml|\.ipynb|/|:|\s|`)|new\.py)", re.IGNORECASE)

    def lacks(self, text: str) -> bool:
        """Whether a path, an import or a command names what a clone does not have."""
        return self.path.search(text) is not None

    def retold(self, line: str) -> str:
        """A command with a config or a run of a task that is not here: with those of one that is.

        That is the config of the same kind (`_finetune`) if there is one, else the task's first, unless options follow
        which that may not know: `--data.root` is known to those that have a `root`.
        """
        options = set(re.findall(r"--((?:data|model)\b[\w.]*)", line))
        names = "|".join(self.gone)

        def config(found: re.Match[str]) -> str:
            if (same := f"configs/{self.default}{found['kind']}.yaml") in self.configs:
                return same
            known = self.rooted if options == {"data.root"} else [] if options else [f"configs/{self.default}.yaml"]
            return next(iter(known), found[0])

        told = re.sub(rf"\bconfigs/(?:{names})(?P<kind>(?:_\w+)?)\.yaml", config, line)
        run = self.on_images if re.search(r"\.predict |\.load\(|InferenceSession\(", line) else self.default
        return told if options else re.sub(rf"\bruns/(?:{names})(?:_\w+)?/", f"runs/{run}/", told)

    def leaves_out(self, file: str, text: str) -> bool:
        """Whether a file of the template's is not for the clone: it is a missing task's, or works with one.

        Args:
            file: relative to the root.
            text: what is in it; beside the package and its tests that counts, too.
        """
        if self.lacks(file):
            return True
        if file.startswith("benchmarks/"):
            return self.lacks(text) or self.quoted.search(text) is not None
        return file.startswith("notebooks/") and self.lacks(text)
