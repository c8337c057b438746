"""How the verbs read configs and the command line: one LightningCLI."""

import sys
from numbers import Number
from pathlib import Path
from typing import Any, Literal

import lightning as L
import torch
import yaml
from jsonargparse import Namespace, set_parsing_settings
from jsonargparse.typing import register_type
from lightning.pytorch.cli import LightningCLI, SaveConfigCallback
from lightning.pytorch.utilities.exceptions import MisconfigurationException

from project import UserError, trust
from project.annotations import of_parser
from project.budget import Budget
from project.checkpoint import LEARNED
from project.dashboard import Bar, Dashboard, Hyperparameters, Lines, Speed, TensorBoard
from project.mistakes import Parser, root_cause
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
        budget: limits what the model takes while it is made.
    """

    usage = "python -m project.fit [--config FILE ...] [--resume RUN [--trust PACKAGE]] [--KEY VALUE ...]"
    purpose = "Trains, tests the best checkpoint and reports."

    def __init__(
        self,
        args: list[str],
        base: dict[str, Any] | None = None,
        untrusted: Path | None = None,
        trusted: list[str] | None = None,
        budget: Budget | None = None,
    ) -> None:
        self.base, self.untrusted, self.trusted, self.budget = base, untrusted, trusted or [], budget
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
        parser.add_lightning_class_args(Dashboard, "dashboard")
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
            restarting.suit_this_machine(before, self.config)
            self.changed = restarting.refuse_another_config(before.as_flat(), self.config.as_flat(), self.force)

    def instantiate_classes(self) -> None:
        self.parser.within = self.budget
        try:
            super().instantiate_classes()
        except ValueError as error:
            raise root_cause(error) from None

    def instantiate_trainer(self, **kwargs: Any) -> L.Trainer:
        wanted = sys.stdout.isatty() and self.config_init.trainer.enable_progress_bar is not False
        progress = Bar(self.speed) if wanted else Lines(self.speed)
        callbacks = [self.speed, progress]
        if self.base is None:
            callbacks.append(Hyperparameters(ignore=LEARNED))
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
        # The whole parser would ask the data for what it tells the model, and stop at the first fault.
        self.datamodule = build(L.LightningDataModule, "data", self.config.data)

    def build_model(self) -> L.LightningModule:
        """Told by the data what it has to know; they are not opened again."""
        return _instantiate(self.parser, Namespace(data=self.datamodule, model=self.config.model)).model


def build(kind: type, key: str, config: Namespace | dict[str, Any]) -> Any:
    """A model or a data module alone, of its class path and arguments.

    Args:
        key: the config's place in a run's: `model` or `data`.
    """
    alone = Parser()
    alone.add_lightning_class_args(kind, key, subclass_mode=True)
    whole = alone.parse_object({key: config}) if isinstance(config, dict) else Namespace(**{key: config})
    return _instantiate(alone, whole)[key]


def _instantiate(parser: Parser, part: Namespace) -> Namespace:
    try:
        return parser.instantiate(part)
    except ValueError as error:
        raise root_cause(error) from None
