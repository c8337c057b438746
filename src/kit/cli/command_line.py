"""How the verbs read configs and the command line: one LightningCLI."""

import sys
from pathlib import Path
from typing import Any, Literal

import lightning as L
import torch
import yaml
from jsonargparse import Namespace
from lightning.pytorch.cli import LightningCLI
from lightning.pytorch.utilities.exceptions import MisconfigurationException
from lightning.pytorch.utilities.rank_zero import rank_zero_only

from kit.checkpoints import trust
from kit.checkpoints.checkpoint import FROM_DATA
from kit.checkpoints.run_folder import make_next_version, next_version, refuse_foreign_paths, remove_if_empty
from kit.cli.callbacks import SavedConfig, in_order
from kit.config.annotations import import_path, parser_annotations
from kit.config.mistakes import root_cause
from kit.config.parser import Parser, build, default_save_dir, instantiate
from kit.dashboard import Bar, Dashboard, Hyperparameters, Lines, Speed, TensorBoard
from kit.ground import app
from kit.ground.checkpoint_limits import Budget
from kit.ground.errors import UserError
from kit.ground.yaml_files import read_yaml
from kit.safeguards import Checkpoint, EarlyStopping, ExactResume, MemoryGuard, NanGuard, Overfitting
from kit.safeguards.resume import restarting
from kit.training.plateau import StepAfterValidation


class Trainer(L.Trainer):
    """Lightning's trainer, with a folder for the run that does not depend on the loggers."""

    folder: Path | None = None

    @property
    def log_dir(self) -> str | None:
        """The run's folder, as the first process has it. All processes must read this property together."""
        return self.strategy.broadcast(str(self.folder)) if self.folder else super().log_dir

    @property
    def checkpoint_callback(self) -> Any:
        """`kit.safeguards.Checkpoint`. Lightning would return the first of several."""
        return Checkpoint.of(self) or super().checkpoint_callback

    def save_checkpoint(
        self, filepath: str | Path, weights_only: bool | None = None, storage_options: Any | None = None
    ) -> None:
        """Save nothing before there is an optimizer.

        `OnExceptionCheckpoint` saves whatever was raised; its own failure would take the place of that exception.
        """
        if self.optimizers:
            super().save_checkpoint(filepath, weights_only, storage_options)


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

    verb = "fit"
    arguments = "[--config FILE ...] [--resume RUN [--trust PACKAGE]] [--KEY VALUE ...]"
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
            save_config_callback=None,
            trainer_class=Trainer,
            parser_kwargs={
                "usage": f"{app.command(self.verb)} {self.arguments}",
                "description": f"{self.purpose} Keys are written with dots, as they nest in a config: "
                "--trainer.max_epochs 3, --model.net.widths '[8, 16]', --data.batch_size 32. "
                "--print_config shows them all with their values.",
            },
            trainer_defaults={
                "default_root_dir": "runs",
                "logger": False if base else [{"class_path": "kit.dashboard.TensorBoard"}],
                "use_distributed_sampler": False,  # ours counts each sample once
                "enable_model_summary": False,
                "gradient_clip_val": 1.0,
                "log_every_n_steps": 20,
                "num_sanity_val_steps": 0,  # the first epoch shows it, and a run starts a fifth sooner
            },
            args=args,
        )

    def __deepcopy__(self, memo: dict[int, Any]) -> "CLI":
        """Return self. A model's factories (optimizer, schedule) refer to this object, so that copying a model, as for
        averaged weights, would otherwise copy the trainer and all images in memory, too."""
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
            for key in FROM_DATA:
                parser.link_arguments(f"data.{key}", f"model.init_args.{key}", apply_on="instantiate")
        else:
            parser.set_defaults(self.base)

    def parse_arguments(self, parser: Parser, args: list[str]) -> None:
        if self.untrusted:
            trust.check_config(read_yaml(self.untrusted), parser_annotations(parser), self.untrusted, self.trusted)
        self.config = parser.read(args)
        self.kept_rates = parser.kept_rates
        # Not saved, since `--config RUN/config.yaml` would otherwise resume that run.
        resume, self.config.resume = self.config.resume, None
        self.force, self.config.force = self.config.force, False
        self.resumed, self.changed = (restarting.run_folder(resume) if resume else None), False
        if self.resumed:
            before = parser.read(["--config", str(self.resumed / "config.yaml")])
            self.changed = restarting.refuse_another_config(before.as_flat(), self.config.as_flat(), self.force)
        self.saved_config = self.config
        if self.resumed:
            self.config = _logging_into(self.resumed, self.config)
            refuse_foreign_paths(self.config.as_dict(), args, self.resumed)
            self.config = restarting.suited(self.config, args, begun=self.budget is not None)

    def instantiate_classes(self) -> None:
        self.parser.model_context = self.budget
        self.folder = self.resumed
        if not self.base and not self.resumed:
            root = Path(self.config.trainer.default_root_dir or ".", self.config.name or "")
            self.folder = next_version(root) if rank_zero_only.rank else make_next_version(root)
            self.config = _logging_into(self.folder, self.config)
        try:
            # Without this, Lightning would dump the config itself, and validate it for that a second time.
            text = self.parser.dump(self.config, skip_link_targets=False, skip_unset=False, skip_validation=True)
            self.config_dump = yaml.safe_load(text)
            super().instantiate_classes()
        except BaseException as error:
            if self.folder:
                remove_if_empty(self.folder)
            if isinstance(error, ValueError):
                raise root_cause(error) from None
            raise

    def instantiate_trainer(self, **kwargs: Any) -> L.Trainer:
        wanted = sys.stdout.isatty() and self.config_init.trainer.enable_progress_bar is not False
        progress = Bar(self.speed) if wanted else Lines(self.speed)
        callbacks = [self.speed, progress, StepAfterValidation()]
        if self.base is None:
            callbacks.append(Hyperparameters(ignore=FROM_DATA))
            if not self.config.trainer.fast_dev_run:
                callbacks.append(SavedConfig(self.parser, self.saved_config, resumed=self.resumed is not None))
        if self.resumed:
            callbacks.append(restarting.Rewind(self.resumed))
        self.trainer_defaults["callbacks"] = callbacks
        options = {"enable_progress_bar": isinstance(progress, Bar), **kwargs}
        if self.folder:
            options["default_root_dir"] = str(self.folder)  # for everything else that Lightning writes
            if self.config_init.trainer.logger in (None, True):
                options["logger"] = TensorBoard(self.folder)
        try:
            trainer = super().instantiate_trainer(**options)
        except (ValueError, MisconfigurationException) as error:  # no such accelerator, or not on this machine
            raise UserError(f"trainer: {error}") from None
        self.exact = next(callback for callback in trainer.callbacks if isinstance(callback, ExactResume))
        self.exact.changed = self.changed
        trainer.folder = self.folder
        if self.resumed:
            restarting.keep_foreign_files(trainer, self.resumed)
        trainer.callbacks[:] = in_order(trainer.callbacks)
        if trainer.check_val_every_n_epoch and (trainer.max_epochs or 0) > 0:  # a short run is validated at its end
            trainer.check_val_every_n_epoch = min(trainer.check_val_every_n_epoch, trainer.max_epochs)
        if trainer.strategy.root_device.type == "cuda":
            torch.set_float32_matmul_precision("high")  # TF32 in matrix products: much faster, as exact as is needed
        return trainer


class Inspection(CLI):
    """The data module first, and the model, for its memory, only when the data have been read: `build_model`."""

    verb = "check"
    arguments = "[--config FILE ...] [--html FILE] [--json FILE] [--KEY VALUE ...]"
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
        return instantiate(self.parser, Namespace(data=self.datamodule, model=self.config.model)).model


def _logging_into(folder: Path, config: Namespace) -> Namespace:
    """Return the config with the run's folder as the `save_dir` of all loggers that were given none."""
    config = config.clone()
    loggers = config.trainer.logger
    for spec in loggers if isinstance(loggers, list) else [loggers]:
        if isinstance(spec, Namespace) and "save_dir" in spec.init_args:
            default = default_save_dir(import_path(spec.class_path))
            if spec.init_args.save_dir in (None, default):
                spec.init_args.save_dir = str(folder / default)  # mlflow's is `./mlruns`
    return config
