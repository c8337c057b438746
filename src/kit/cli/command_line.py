"""Read configs and the command line with LightningCLI, and build the trainer, the model and the data."""

import os
import re
import sys
from contextlib import nullcontext
from pathlib import Path
from typing import Any, Literal

import lightning as L
import torch
from jsonargparse import Namespace
from lightning.pytorch.cli import LightningCLI
from lightning.pytorch.utilities.rank_zero import rank_zero_only

from kit.checkpoints import checkpoint, trust
from kit.checkpoints.checkpoint import FROM_DATA
from kit.checkpoints.run_folder import make_next_version, next_version, refuse_foreign_paths, remove_if_empty
from kit.cli.callbacks import SavedConfig, sort_callbacks
from kit.cli.pretrained import save_arguments, use_start
from kit.cli.settings import check_net, check_settings
from kit.config.annotations import default_of, import_path, parser_annotations
from kit.config.arguments import HELP, extract_option, option_value, scan
from kit.config.parser import Parser, build
from kit.config.suggestions import CONFIGS, missing_config
from kit.dashboard import Bar, Dashboard, Lines, ReportPage, Speed
from kit.formats.recognition import OtherOptions
from kit.ground import unexpected
from kit.ground.checkpoint_limits import Budget
from kit.ground.errors import UserError, one_line
from kit.ground.yaml_files import read_yaml
from kit.safeguards import Checkpoint, EarlyStopping, ExactResume, MemoryGuard, NanGuard, Overfitting
from kit.safeguards.resume import restarting
from kit.training import AutoPrecision
from kit.training.precision import allow_clipping_of_fused

OVERLAYS = "trainer"  # a folder in CONFIGS; its files set a few keys and are not complete runs


class Trainer(L.Trainer):
    """Lightning's trainer, with a run folder that does not depend on the loggers.

    folder: the run's folder.
    """

    folder: Path | None = None

    @property
    def log_dir(self) -> str | None:
        """The first process's run folder. All processes must read this property at the same time."""
        return self.strategy.broadcast(str(self.folder)) if self.folder else super().log_dir


class CLI(LightningCLI):
    """The command line of `fit` and `test`. It has keys for trainer, model, data and callbacks.

    Args:
        args: the command line.
        base: the config of a checkpoint, `{"model": ..., "data": ...}`, which the command line overrides. It includes
            the arguments that a model otherwise gets from the data.
        untrusted: a config file whose class paths are checked before they are imported.
        trusted: packages that the user trusts.
        budget: a context that limits the size of the model while it is created.
    """

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
            parser_kwargs={"description": None},
            trainer_defaults={
                "default_root_dir": "runs",
                "logger": False if base else [{"class_path": "kit.dashboard.TensorBoard"}],
                "use_distributed_sampler": False,  # the data module has a sampler that repeats no sample
                "enable_model_summary": False,
                "gradient_clip_val": 1.0,
                "log_every_n_steps": 20,
                "num_sanity_val_steps": 0,  # the first real validation comes soon enough
            },
            args=args,
        )

    def __deepcopy__(self, memo: dict[int, Any]) -> "CLI":
        """Return self.

        A model's factories of optimizer and schedule refer to this object. Without this method, a copy of the model,
        such as for averaged weights, would include the trainer and all images in memory.
        """
        return self

    def add_arguments_to_parser(self, parser: Parser) -> None:
        for kind in (EarlyStopping, Checkpoint, ExactResume, NanGuard, MemoryGuard, Overfitting, Dashboard):
            key = re.sub(r"\B(?=[A-Z])", "_", kind.__name__).lower()  # such as `early_stopping` for `EarlyStopping`
            parser.add_lightning_class_args(kind, key)
        parser.add_argument("--name", type=str | None)
        for key in ("weights_source", "weights_sha256"):
            parser.add_argument(f"--{key}", type=str | None, default=None, help="set by the run: see `InitialWeights`")
        parser.add_argument("--resume", type=str | None)
        parser.add_argument("--force", type=bool, default=False, help="resume with another config or other data")
        parser.add_argument("--auto_precision", type=bool, default=True, help="see `kit.training.AutoPrecision`")
        parser.add_argument("--check", type=Literal["off", "warn", "strict"], default="warn")
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
        if self.config.seed_everything is True:  # Lightning would choose a number, but only after `data` has its seed
            raise UserError("seed_everything is true, but must be a whole number, or false")
        if self.base is not None:
            data_arguments = self.base["data"]["init_args"]
            roots = [self.config.get("data.init_args.root"), data_arguments.get("root")]
            self.reads_other_root = Path(roots[0] or "").resolve() != Path(roots[1] or "").resolve()
            options = getattr(import_path(self.base["data"]["class_path"]), "root_options", ())
            if self.reads_other_root and data_arguments.keys() & options:
                raise OtherOptions(options)
        # `resume` is not saved, since `--config RUN/config.yaml` would otherwise resume that run.
        resume, self.config.resume = self.config.resume, None
        self.force, self.config.force = self.config.force, False
        self.saved_config, self.resumed_folder, self.config_changed = self.config, None, False
        if resume:
            folder = self.resumed_folder = checkpoint.run_folder_of(Path(resume).absolute())
            old, new = parser.read(["--config", str(folder / "config.yaml")]).as_flat(), self.config.as_flat()
            differences = restarting.config_differences(old, new)
            restarting.refuse("config", differences, self.force)
            if change := restarting.precision_change(old, new):
                rank_zero_only(print)(change)
            self.config_changed = bool(differences)
            self.config = set_log_folder(folder, self.config)
            refuse_foreign_paths(self.config.as_dict(), args, folder)
            if self.budget is not None:  # a checkpoint is loaded, so pretrained weights are not needed
                self.config = restarting.without_pretraining(self.config)

    def instantiate_classes(self) -> None:
        self.parser.model_context = self.budget or nullcontext()
        self.folder = self.resumed_folder
        if not self.base and not self.resumed_folder:
            root = Path(self.config.trainer.default_root_dir or ".", self.config.name or "")
            self.folder = next_version(root) if rank_zero_only.rank else make_next_version(root)
            self.config = set_log_folder(self.folder, self.config)
        unexpected.run_folder = self.folder
        try:
            with unexpected.doing("building the trainer, the model and the data"):
                super().instantiate_classes()
                check_net(self.model, self.trainer.precision)
        except BaseException as error:
            if self.folder and not self.resumed_folder:  # another process may train in a resumed folder
                remove_if_empty(self.folder)
            if isinstance(error, Exception) and unexpected.is_from_installed_package(error):
                raise UserError(f"the config cannot be used: {type(error).__name__}: {one_line(error)}") from error
            raise
        save_arguments(self.model, self.saved_config)
        use_start(self.model, self.datamodule, self.saved_config, self.resumed_folder is not None, self.force)

    def instantiate_trainer(self, **kwargs: Any) -> L.Trainer:
        is_screen = sys.stdout.isatty() and os.environ.get("TERM") != "dumb"
        has_bar = is_screen and self.config_init.trainer.enable_progress_bar is not False
        callbacks = [self.speed, Bar(self.speed) if has_bar else Lines(self.speed)]
        if self.base is None:
            self.report_page = ReportPage(self.config_init.overfitting, self.config_init.dashboard.samples)
            callbacks.append(self.report_page)
            if not self.config.trainer.fast_dev_run:
                if self.config.auto_precision and self.config.trainer.precision is None and not self.resumed_folder:
                    callbacks.append(AutoPrecision(self.saved_config))
                callbacks.append(SavedConfig(self.parser, self.saved_config, resumed=self.resumed_folder is not None))
        self.trainer_defaults["callbacks"] = callbacks
        root = {"default_root_dir": str(self.folder)} if self.folder else {}  # for other files that Lightning writes
        check_settings(self.config.trainer)
        trainer = super().instantiate_trainer(enable_progress_bar=has_bar, **root, **kwargs)
        allow_clipping_of_fused(trainer)
        self.config_init.exact_resume.config_changed = self.config_changed
        trainer.folder = self.folder
        if self.resumed_folder:
            restarting.limit_file_removal(trainer, self.resumed_folder)
        trainer.callbacks[:] = sort_callbacks(trainer.callbacks)
        if trainer.strategy.root_device.type == "cuda":
            torch.set_float32_matmul_precision("high")  # TF32 in matrix products: much faster, and exact enough
        return trainer


class Inspection(CLI):
    """The command line of `check`, which builds only the data module."""

    def add_arguments_to_parser(self, parser: Parser) -> None:
        super().add_arguments_to_parser(parser)
        parser.add_argument("--html", type=str | None, default=None)
        parser.add_argument("--json", type=str | None, default=None)

    def instantiate_classes(self) -> None:
        # LightningCLI would compute the model's arguments from the data, and stop at the first fault.
        self.datamodule = build(L.LightningDataModule, "data", self.config.data)


def set_log_folder(folder: Path, config: Namespace) -> Namespace:
    """Return a copy of the config in which loggers without a `save_dir` write into the run's folder."""
    config = config.clone()
    loggers = config.trainer.logger
    for spec in loggers if isinstance(loggers, list) else [loggers]:
        if isinstance(spec, Namespace) and "save_dir" in spec.init_args:
            default = str(default_of(import_path(spec.class_path), "save_dir") or ".")
            if spec.init_args.save_dir in (None, default):
                spec.init_args.save_dir = str(folder / default)  # mlflow's default is `./mlruns`
    return config


def with_config(args: list[str]) -> list[str]:
    """Complete a command line: add the default config if it has none, and `--name` if there is no name.

    Overlays come after the configs of runs, which they override.

    Raises:
        UserError: a config does not exist.
    """
    if any(name in HELP or name.endswith(".help") for name, _, _ in scan(args)):
        return args
    names, options = extract_option(args, "--config", "-c")
    files = sorted(map(Path, names), key=lambda file: file.parent.name == OVERLAYS)
    for file in files:
        if not file.exists():
            raise UserError(missing_config(file))
    runs = [file for file in files if file.parent.name != OVERLAYS]
    if not runs:
        runs = sorted(file for file in CONFIGS.glob("*.yaml") if "_" not in file.stem)[:1]
        if not runs:
            raise UserError(f"no config: there is none in {CONFIGS.absolute()}; give yours with --config FILE")
        files = runs + files
    content = read_yaml(runs[-1])
    has_name = option_value(options, "--name") or (isinstance(content, dict) and content.get("name"))
    return [*(f"--config={file}" for file in files), *([] if has_name else [f"--name={runs[-1].stem}"]), *options]
