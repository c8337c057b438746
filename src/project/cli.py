"""How the verbs read configs and the command line: one LightningCLI."""

import re
import shlex
import sys
from itertools import pairwise
from numbers import Number
from pathlib import Path
from typing import Any, Literal

import lightning as L
import torch
import yaml
from jsonargparse import Namespace, set_parsing_settings
from jsonargparse.typing import register_type
from lightning.pytorch.callbacks import LearningRateMonitor
from lightning.pytorch.cli import LightningCLI, SaveConfigCallback
from lightning.pytorch.utilities.exceptions import MisconfigurationException
from lightning.pytorch.utilities.rank_zero import rank_zero_only

from project import BrokenFiles, UserError, checkpoint, trust
from project.annotations import of_parser
from project.dashboard import Bar, Hyperparameters, Lines, Speed, TensorBoard, report
from project.mistakes import Parser, missing_config, root_cause
from project.pipeline import ImageDataModule
from project.safeguards import Checkpoint, EarlyStopping, ExactResume, MemoryGuard, NanGuard, Overfitting, restarting

# Where jsonargparse would only warn of what a config names (os, subprocess, eval), it raises.
set_parsing_settings(import_path_denylist=[])

# torchvision's transforms are annotated with it (`RandomRotation(degrees: Number | Sequence)`).
register_type(
    Number,
    serializer=lambda number: number,
    deserializer=lambda text: yaml.safe_load(text) if isinstance(text, str) else text,
    type_check=lambda value, _: isinstance(value, (int, float)),
)

CONFIGS = Path("configs")
OVERLAYS = "trainer"  # the folder of CONFIGS whose files are no runs of their own
LEARNED = ("num_classes", "in_channels", "class_names", "class_counts")  # what a model is told by the data
TEST_HELP = """\
RUN_OR_CHECKPOINT     a run's folder, whose best.ckpt is tested, or a checkpoint file: it needs nothing else
--data.root FOLDER    other data than the run's; if they are not divided, all of them
--trust PACKAGE       use classes of this package, too: a net of your own; may be given several times
--KEY VALUE           any other key of project.fit: --data.batch_size 16, --trainer.accelerator cpu"""


class SavedConfig(SaveConfigCallback):
    """`config.yaml` is whole from the moment that it is there: a run that is killed is resumed from it."""

    def setup(self, trainer: L.Trainer, pl_module: L.LightningModule, stage: str) -> None:
        super().setup(trainer, pl_module, stage)
        part = Path(trainer.log_dir) / self.config_filename
        if trainer.is_global_zero and part.exists():
            part.replace(part.with_suffix(""))


class CLI(LightningCLI):
    """`trainer`, `model` and `data`, and a group for each callback that is on by default.

    Args:
        args: the command line.
        base: `{"model": ..., "data": ...}` of a checkpoint, below the command line; the model then has learned from
            the data already, and is told nothing by it.
        untrusted: a config whose class paths are checked before it is read as the command line says.
        trusted: packages that the user vouches for.
    """

    usage = "python -m project.fit [--config FILE ...] [--resume RUN [--trust PACKAGE]] [--KEY VALUE ...]"
    purpose = "Trains, tests the best checkpoint and reports."

    def __init__(
        self,
        args: list[str],
        base: dict[str, Any] | None = None,
        untrusted: Path | None = None,
        trusted: list[str] | None = None,
    ) -> None:
        self.base, self.untrusted, self.trusted = base, untrusted, trusted or []
        self.speed = Speed()
        super().__init__(
            L.LightningModule,
            L.LightningDataModule,
            subclass_mode_model=True,
            subclass_mode_data=True,
            auto_configure_optimizers=False,
            run=False,
            parser_class=Parser,
            seed_everything_default=0,
            save_config_callback=None if base else SavedConfig,
            save_config_kwargs={"overwrite": True, "config_filename": "config.yaml.part"},
            parser_kwargs={
                "usage": self.usage,
                "description": f"{self.purpose} Keys are written with dots, as they nest in a config: "
                "--trainer.max_epochs 3, --model.net.widths '[8, 16]', --data.batch_size 32. "
                "--print_config shows them all with their values.",
            },
            trainer_defaults={
                "default_root_dir": "runs",
                "use_distributed_sampler": False,  # ours counts each sample once
                "enable_model_summary": False,
                "gradient_clip_val": 1.0,
                "log_every_n_steps": 20,
                "num_sanity_val_steps": 0,  # the first epoch shows it, and a run starts a fifth sooner
            },
            args=args,
        )

    def __deepcopy__(self, memo: dict[int, Any]) -> "CLI":
        """A model's factories (optimizer, schedule) know their command line: whoever copies a model, for averaged
        weights say, would copy the trainer and all images in memory too."""
        return self

    def add_arguments_to_parser(self, parser: Parser) -> None:
        parser.add_lightning_class_args(EarlyStopping, "early_stopping")
        parser.add_lightning_class_args(Checkpoint, "checkpoint")
        parser.add_lightning_class_args(ExactResume, "exact_resume")
        parser.add_lightning_class_args(NanGuard, "nan_guard")
        parser.add_lightning_class_args(MemoryGuard, "memory_guard")
        parser.add_lightning_class_args(Overfitting, "overfitting")
        parser.add_argument("--name", type=str | None, default=None, help="the run's folder below default_root_dir")
        parser.add_argument(
            "--resume", type=str | None, default=None, help="a run folder: go on where that run stopped"
        )
        parser.add_argument("--force", type=bool, default=False, help="resume with another config, or on other data")
        parser.add_argument(
            "--check",
            type=Literal["off", "warn", "strict"],
            default="warn",
            help="look for what is wrong with the data before training: say it, or stop if it is an error",
        )
        if self.base is None:
            parser.link_arguments("seed_everything", "data.init_args.seed", compute_fn=int)
            for key in LEARNED:
                parser.link_arguments(f"data.{key}", f"model.init_args.{key}", apply_on="instantiate")
        else:
            parser.set_defaults(self.base)

    def parse_arguments(self, parser: Parser, args: list[str]) -> None:
        if self.untrusted:
            trust.check_config(self.untrusted, of_parser(parser), self.trusted)
        self.config = parser.read(args)
        # Else `--config RUN/config.yaml` would go on in that run.
        resume, self.config.resume = self.config.resume, None
        self.force, self.config.force = self.config.force, False
        self.resumed, self.changed = (restarting.run_folder(resume) if resume else None), False
        if self.resumed:
            before = parser.read(["--config", str(self.resumed / "config.yaml")])
            self.changed = restarting.refuse_another_config(before.as_flat(), self.config.as_flat(), self.force)

    def instantiate_classes(self) -> None:
        try:
            super().instantiate_classes()
        except ValueError as error:
            raise root_cause(error) from None

    def instantiate_trainer(self, **kwargs: Any) -> L.Trainer:
        wanted = sys.stdout.isatty() and self.config_init.trainer.enable_progress_bar is not False
        progress = Bar(self.speed) if wanted else Lines(self.speed)
        callbacks = [self.speed, progress]
        if self.base is None:
            callbacks += [Hyperparameters(ignore=LEARNED), LearningRateMonitor(logging_interval="step")]
        self.trainer_defaults["callbacks"] = callbacks
        options = {"logger": self._logger(), "enable_progress_bar": isinstance(progress, Bar), **kwargs}
        try:
            trainer = super().instantiate_trainer(**options)
        except (ValueError, MisconfigurationException) as error:  # no such accelerator, or not on this machine
            raise UserError(f"trainer: {error}") from None
        self.exact = next(callback for callback in trainer.callbacks if isinstance(callback, ExactResume))
        self.exact.changed = self.changed
        trainer.callbacks.sort(key=lambda callback: callback is not self.exact)  # before the others have begun a step
        if trainer.check_val_every_n_epoch and (trainer.max_epochs or 0) > 0:  # a short run is validated at its end
            trainer.check_val_every_n_epoch = min(trainer.check_val_every_n_epoch, trainer.max_epochs)
        if trainer.strategy.root_device.type == "cuda":
            torch.set_float32_matmul_precision("high")  # TF32 in matrix products: much faster, as exact as is needed
        return trainer

    def _logger(self) -> Any:
        asked = self.config_init.trainer.logger
        if asked not in (None, True):
            return asked
        if self.base is not None:
            return False
        if self.resumed:
            run = self.resumed
            return TensorBoard(run.parent.parent, name=run.parent.name, version=run.name, default_hp_metric=False)
        return TensorBoard(self.config.trainer.default_root_dir, name=self.config.name, default_hp_metric=False)


class Inspection(CLI):
    """The data module first, and the model, for its memory, only when the data have been read: `build_model`."""

    usage = "python -m project.check [--config FILE ...] [--html FILE] [--json FILE] [--KEY VALUE ...]"
    purpose = "Says what is wrong with the data, the worst first; the exit code is 1 if there are errors."

    def add_arguments_to_parser(self, parser: Parser) -> None:
        super().add_arguments_to_parser(parser)
        parser.add_argument("--html", type=str | None, default=None, help="a file for the report with pictures")
        parser.add_argument("--json", type=str | None, default=None, help="a file for all that was found, as a list")

    def instantiate_classes(self) -> None:
        alone = Parser()  # the whole one would ask the data for what it tells the model, and stop at the first fault
        alone.add_lightning_class_args(L.LightningDataModule, "data", subclass_mode=True)
        self.datamodule = _instantiate(alone, Namespace(data=self.config.data)).data

    def build_model(self) -> L.LightningModule:
        """Told by the data what it has to know; they are not opened again."""
        return _instantiate(self.parser, Namespace(data=self.datamodule, model=self.config.model)).model


def _instantiate(parser: Parser, part: Namespace) -> Namespace:
    try:
        return parser.instantiate(part)
    except ValueError as error:
        raise root_cause(error) from None


def fit(args: list[str]) -> None:
    """Trains, then tests the best checkpoint and reports."""
    resumed = _option(args, "--resume")
    with checkpoint.blamed(Path(resumed or "the checkpoint"), "cannot be restored", only_restoring=True):
        _fit(_without(args, "--trust"), resumed, trusted=_options(args, "--trust"))


def _fit(args: list[str], resumed: str | None, trusted: list[str]) -> None:
    last = restarting.choose(resumed) if resumed else None
    if resumed:
        config = restarting.run_folder(resumed) / "config.yaml"
        if last:
            trust.check_checkpoint(checkpoint.read(last), last, trusted)
        with checkpoint.blamed(config, "cannot be gone on with"):
            cli = CLI(["--config", str(config), *args], untrusted=config, trusted=trusted)
    else:
        cli = CLI(_with_config(args))
    trainer, model, data = cli.trainer, cli.model, cli.datamodule
    if resumed:
        with checkpoint.blamed(last or cli.resumed, "cannot be gone on with"):
            restarting.prepare(trainer, data, last, cli.resumed, cli.force)
    if cli.config.check != "off" and trainer.is_global_zero and isinstance(data, ImageDataModule):
        _check_quickly(data, strict=cli.config.check == "strict", args=args)
    _say_what_speed_is_left(trainer)
    try:
        trainer.fit(model, datamodule=data, ckpt_path=last, weights_only=True)
        if trainer.fast_dev_run:
            return
        metrics = _evaluate(cli, ckpt_path=_best(trainer))
    except SystemExit:
        if trainer.interrupted:  # Lightning ends the program on Ctrl-C
            raise KeyboardInterrupt from None
        raise
    except Exception:
        if cli.exact.signals.received:  # another process was the first to end
            raise cli.exact.stopped() from None
        raise
    folder = Path(trainer.log_dir)  # of the first process, which all ask
    if trainer.is_global_zero:
        watched = cli.config_init.overfitting
        report(metrics, {**cli.speed.figures(trainer), **watched.figures(model)}, folder)
        if said := watched.conclusion(trainer, model):
            print(said)


def _best(trainer: L.Trainer) -> Path:
    """
    Raises:
        UserError: it could not be written.
    """
    best = Path(trainer.checkpoint_callback.best_model_path)
    if not best.is_file():
        raise UserError(
            f"{best} is not there, so there is nothing to test: make room on the disk, then --resume the run"
        )
    return best


def test(args: list[str]) -> None:
    """Tests a run or a checkpoint, which is all that it needs; on other data with `--data.root`."""
    usage = "python -m project.test RUN_OR_CHECKPOINT [--data.root FOLDER] [--trust PACKAGE] [--KEY VALUE ...]"
    if "-h" in args or "--help" in args:
        print(f"usage: {usage}\n\n{TEST_HELP}")
        return
    if not args or args[0].startswith("-"):
        raise UserError(f"which run? {usage}")
    file = checkpoint.find(args[0])
    content, base = checkpoint.load(file, _options(args, "--trust"))
    with checkpoint.blamed(file, "cannot be tested"):
        cli = CLI(_without(args[1:], "--trust"), base)
        own_root = base["data"]["init_args"].get("root", "")
        cli.datamodule.load_state_dict(content[type(cli.datamodule).__qualname__])
        other_root = _option(args, "--data.root")
        cli.datamodule.all_is_test = other_root is not None and Path(other_root).resolve() != Path(own_root).resolve()
        checkpoint.fill(cli.model, content["state_dict"], file)
        metrics = _evaluate(cli)
    if cli.trainer.is_global_zero:
        report(metrics, {}, None)


def check(args: list[str]) -> None:
    """Says what is wrong with the data; exits with 1 if anything is an error."""
    from project.checks import memory, page
    from project.checks import report as words
    from project.checks.survey import thorough, worst_first

    cli = Inspection(_with_config(args))
    for wanted in filter(None, (cli.config.html, cli.config.json)):
        words.check_place(Path(wanted))
    data = cli.datamodule
    if not isinstance(data, ImageDataModule):
        raise UserError(f"{type(data).__name__} is no ImageDataModule: there is nothing that could be checked")
    survey = thorough(data)
    if survey.counts:
        try:
            predicted = memory.predict(cli.build_model(), data, str(cli.config.trainer.precision))
        # The model may be anyone's, and the data are what was asked about.
        except Exception as error:
            survey.notes.append(f"memory: not predicted ({(str(error).splitlines() or [type(error).__name__])[0]})")
        else:
            survey.notes.append(f"memory: {predicted}")
            faults = worst_first([*survey.faults, *memory.memory_faults(predicted, data.batch_size)])
            survey = survey._replace(faults=faults)
    print(words.text(survey))
    if cli.config.json:
        words.save(survey, Path(cli.config.json))
    if cli.config.html:
        page.save(survey, Path(cli.config.html))
    if survey.errors:
        sys.exit(1)


def _check_quickly(data: ImageDataModule, strict: bool, args: list[str]) -> None:
    """
    Raises:
        BrokenFiles: strict, and there are errors.
    """
    from project.checks import report as words
    from project.checks.survey import quick

    survey = quick(data, whole=strict)
    command = f"python -m project.check {shlex.join(args)}".strip()
    said = words.brief(survey, command)
    if said:
        print(f"{said}\n", flush=True)
    if strict and survey.errors:
        raise BrokenFiles(f"the data have errors, and --check strict was asked for; {command} shows them all")


def _evaluate(cli: CLI, ckpt_path: str | None = None) -> dict[str, float]:
    """On the test split; where there is none, on the validation split, saying so."""
    with_weights = {"ckpt_path": ckpt_path, "weights_only": True} if ckpt_path else {}
    cli.datamodule.setup("test")
    if getattr(cli.datamodule, "evaluated", "test") == "test":
        return cli.trainer.test(cli.model, datamodule=cli.datamodule, verbose=False, **with_weights)[0]
    rank_zero_only(print)(
        "there is no test split: these are figures of the validation split, which chose the checkpoint"
    )
    return cli.trainer.validate(cli.model, datamodule=cli.datamodule, verbose=False, **with_weights)[0]


def _with_config(args: list[str]) -> list[str]:
    """Puts the default config first where no run is named, and the run's name last where none is given."""
    if any(argument == "-h" or argument.split("=")[0].endswith("help") for argument in args):
        return args
    files = [Path(file) for file in _options(args, "--config") + _options(args, "-c")]
    runs = [file for file in files if file.parent.name != OVERLAYS]
    for file in files:
        if not file.is_file():
            raise UserError(missing_config(file))
    if not runs:
        plain = sorted(file for file in CONFIGS.glob("*.yaml") if "_" not in file.stem)
        if not plain:
            raise UserError(f"no config: there is none in {CONFIGS.absolute()}; give yours with --config FILE")
        runs = plain[:1]
        args = ["--config", str(runs[0]), *args]
    named = _option(args, "--name") or re.search(r"^name: (?!null)", runs[-1].read_text(), re.MULTILINE)
    return args if named else [*args, "--name", runs[-1].stem]


def _options(args: list[str], name: str) -> list[str]:
    apart = [value for key, value in pairwise(args) if key == name]
    return apart + [argument.split("=", 1)[1] for argument in args if argument.startswith(f"{name}=")]


def _without(args: list[str], name: str) -> list[str]:
    kept = [value for key, value in zip(["", *args], args, strict=False) if name not in (key, value)]
    return [argument for argument in kept if not argument.startswith(f"{name}=")]


def _option(args: list[str], name: str) -> str | None:
    return (_options(args, name) or [None])[-1]


def _say_what_speed_is_left(trainer: L.Trainer) -> None:
    device = trainer.strategy.root_device
    if device.type == "cuda":
        good = torch.cuda.is_bf16_supported(including_emulation=False)
    else:
        good = device.type == "cpu" and torch.cpu._is_amx_tile_supported()
    if good and trainer.precision == "32-true":
        rank_zero_only(print)(
            f"this {device.type.upper()} is faster in bfloat16: add --config configs/trainer/bf16.yaml"
        )
