"""The verbs (commands) `fit`, `test` and `check`. Each takes the arguments of the command line."""

import shlex
import sys
import warnings
from contextlib import nullcontext
from pathlib import Path
from typing import Any

import lightning as L
from lightning.pytorch.utilities.rank_zero import rank_zero_only

from kit.checkpoints import checkpoint, trust
from kit.checkpoints.run_folder import locked, refuse_links
from kit.checks import report as check_report
from kit.checks.survey import Survey, full_survey, quick_survey
from kit.cli.command_line import CLI, Inspection, with_config
from kit.config.arguments import extract_option, option_value
from kit.config.suggestions import configs_without_pretraining
from kit.dashboard.report import log_report, report, require_measured
from kit.dashboard.tensorboard import log_row
from kit.data import ImageDataModule, reading
from kit.data.contents import SPLITS
from kit.data.datamodule import evaluated_split
from kit.data.loading import lost_worker
from kit.exporting.model_card import write_card
from kit.formats.recognition import OtherOptions
from kit.ground import app, signals
from kit.ground.checkpoint_limits import Budget
from kit.ground.errors import BrokenFiles, RunFailed, Stopped, UserError, one_line
from kit.ground.files import require_writable, write_text
from kit.ground.unexpected import doing
from kit.ground.yaml_files import read_yaml
from kit.safeguards.resume import restarting
from kit.task import as_task
from kit.training.weights import NotDownloaded

PRECISIONS = ("16-mixed", "16-true", "32-true", "64-true", "bf16-mixed", "bf16-true")  # without other packages


def fit(args: list[str]) -> None:
    """Train a model, test its best checkpoint and report."""
    old_run = option_value(args, "--resume")
    if old_run and option_value(args, "--name"):
        raise UserError("leave out --name: a resumed run keeps its name and its folder")
    trusted, args = extract_option(args, "--trust")
    changed_at = restarting.changed_at(old_run) if old_run else 0
    ckpt_path = restarting.choose(old_run) if old_run else None
    cli = _resumed_cli(old_run, ckpt_path, args, trusted) if old_run else _new_cli(with_config(args))
    is_first = not rank_zero_only.rank  # type: ignore[attr-defined]
    with locked(cli.folder) if is_first else nullcontext():
        if is_first and old_run and restarting.changed_at(old_run) != changed_at:
            raise UserError(f"another process has just saved a checkpoint in {cli.folder}: repeat the command")
        _train(cli, ckpt_path, args)


def _new_cli(args: list[str]) -> CLI:
    """Return the `CLI` of a new run. If weights cannot be downloaded, the error names configs that need no weights."""
    try:
        return CLI(args)
    except NotDownloaded as error:
        config = Path(extract_option(args, "--config", "-c")[0][0])
        others = " or ".join(map(str, configs_without_pretraining(config)))
        raise NotDownloaded(f"{error}{others and ', or another config: '}{others}") from None


def _resumed_cli(old_run: str, ckpt_path: Path | None, args: list[str], trusted: list[str]) -> CLI:
    """Return the `CLI` of a resumed run. First check that building its model and data runs no foreign code.

    Args:
        old_run: the run to resume, or one of its checkpoints.
        ckpt_path: the checkpoint from which the run continues, if there is one.
    """
    run = checkpoint.run_folder_of(Path(old_run).absolute())
    refuse_links(run, run)
    config, budget = run / "config.yaml", None
    if ckpt_path:
        content = checkpoint.read(ckpt_path)
        trust.check_checkpoint(content, ckpt_path, trusted)
        budget = Budget(ckpt_path)
    with doing(f"reading {config}"):
        return CLI(["--config", str(config), *args], untrusted=config, trusted=trusted, budget=budget)


def _train(cli: CLI, ckpt_path: Path | None, args: list[str]) -> None:
    """Train, test and report.

    Args:
        cli: the objects that the command line describes.
        ckpt_path: the checkpoint from which a resumed run continues.
        args: the command line.
    """
    trainer, model, data = cli.trainer, cli.model, cli.datamodule
    if cli.resumed_folder:
        with doing(f"reading {ckpt_path or cli.resumed_folder}"):
            restarting.check(trainer, data, ckpt_path, cli.force)
        _, args = extract_option(args, "--resume")
        args = ["--config", str(cli.resumed_folder / "config.yaml"), *args]  # `check` takes no --resume
    restarting.refuse_callbacks(trainer)
    if cli.config.check != "off" and trainer.is_global_zero and isinstance(data, ImageDataModule):
        cli.report_page.survey = _check_quickly(data, strict=cli.config.check == "strict", args=args)
    if trainer.world_size > 1:
        signals.stop_listening()  # a signal ends the process at once, until `ExactResume` handles signals
    try:
        with doing(f"training, resumed from {ckpt_path}" if ckpt_path else "training"):
            trainer.fit(model, datamodule=data, ckpt_path=ckpt_path, weights_only=True)
        if trainer.fast_dev_run:
            return
        best = Path(cli.config_init.checkpoint.best_model_path)
        if best == Path():
            raise UserError("nothing was trained: raise trainer.max_epochs, max_steps, max_time or limit_train_batches")
        if not best.is_file():
            raise UserError(f"{best} could not be written, so it is not tested: free disk space, then --resume the run")
        if cli.resumed_folder:
            checkpoint.read(best)  # refuses code: a best.ckpt from before the resume may be from a stranger
        metrics = evaluate(cli, ckpt_path=best)
    except SystemExit:
        if trainer.interrupted:  # Lightning raises SystemExit after Ctrl-C
            raise KeyboardInterrupt from None
        raise
    except BaseException as error:
        raise _add_command(error, cli) from error.__cause__
    folder = Path(trainer.log_dir)  # all processes must read `log_dir`, see `Trainer`
    if not trainer.is_global_zero:
        return
    with doing("writing the report"):
        overfitting, left_out = cli.config_init.overfitting, _left_out_files(data)
        run_values = {**cli.speed.run_values(trainer), **overfitting.gap_values(overfitting.best)}
        if notes := reading.summary(left_out):
            run_values["left_out_images"] = sum(map(len, left_out.values()))
        conclusion = overfitting.conclusion(trainer, model)
        text = report(metrics or {}, run_values, folder, notes, conclusion, as_task(model).latest_evaluation)
        cli.report_page.write(folder, metrics or {}, run_values, conclusion, notes)
        if cli.config_init.dashboard.enabled:
            log_report(text, conclusion, trainer)
            log_row(folder, trainer, metrics or {})
        cli.config_init.early_stopping.require_finite()
        if metrics is not None:
            require_measured(metrics)
    try:
        write_card(folder, trainer, model, metrics or {}, cli.report_page.survey, conclusion, notes)
    except Exception as error:  # a description must not change the result of the run
        warnings.warn(f"the model card was not written ({one_line(error)})", stacklevel=1)


def _left_out_files(data: L.LightningDataModule) -> dict[str, dict[str, str]]:
    """Return the files that each split leaves out, with the reasons."""
    return data.left_out if isinstance(data, ImageDataModule) else {}


def _add_command(error: BaseException, cli: CLI) -> BaseException:
    """Return an exception whose message names the command that continues the run, or `error` itself."""
    exact_resume, can_continue = cli.config_init.exact_resume, cli.folder and (cli.folder / "config.yaml").is_file()
    command = f"; to continue: {app.command('fit')} --resume {cli.folder}" if can_continue else ""
    if exact_resume.signals.received and isinstance(error, Exception):
        error = exact_resume.stop_exception()  # this process got a signal, but another process ended first
    if stopped := signals.find_stopped(error):
        text = str(stopped)  # empty in all processes but the first
        return Stopped(text and f"{text}{command}", stopped.number)
    if isinstance(error, BrokenFiles) and command:  # the file could be decoded when the run began
        return type(error)(f"{error}; restore it{command}")
    if message := lost_worker(error):
        return RunFailed(f"{message}{command}")
    return error


def test(args: list[str]) -> None:
    """Test the best checkpoint of a run, or a checkpoint file, and report."""
    if not args or args[0].startswith("-"):
        raise UserError(f"which run? {app.command('test')} RUN_OR_CHECKPOINT [--KEY VALUE ...]")
    file = checkpoint.find(args[0])
    with doing(f"testing {file}"):
        cli = checkpoint_cli(file, args[1:])
        metrics = evaluate(cli)
    if cli.trainer.is_global_zero and metrics is not None:
        notes = reading.summary(_left_out_files(cli.datamodule))
        report(metrics, {}, None, notes, evaluation=as_task(cli.model).latest_evaluation)
        require_measured(metrics)


def checkpoint_cli(file: Path, args: list[str]) -> CLI:
    """Return the `CLI` of a checkpoint's run, with its weights, to test it. First check that this runs no foreign code.

    Args:
        args: the command line, without the run.
    """
    trusted, options = extract_option(args, "--trust")
    content, base = checkpoint.load(file, trusted)
    if precision := _precision_of(checkpoint.run_folder_of(file)):
        base["trainer.precision"] = precision
    cli = _test_cli(options, base, file)
    cli.datamodule.load_state_dict(checkpoint.data_state(content, base))
    cli.datamodule.all_is_test = cli.reads_other_root
    checkpoint.load_weights(cli.model, content["state_dict"], file)
    return cli


def _precision_of(run: Path) -> str | None:
    """Return `trainer.precision` from a run's config. `test` needs it to get the same metrics as the run's report.

    Return None if it is not set, or if the config is missing or damaged: the weights can be tested without it.
    """
    try:
        trainer = read_yaml(run / "config.yaml")["trainer"]
        return trainer["precision"] if trainer["precision"] in PRECISIONS else None
    except (UserError, KeyError, TypeError):
        return None


def _test_cli(options: list[str], base: dict[str, Any], file: Path) -> CLI:
    """Return the `CLI` of `test`. Options of the run that do not apply to the data to be tested are removed.

    Args:
        options: the command line, without the run.
        base: the config of the checkpoint.
        file: the checkpoint.
    """
    try:
        return CLI(options, base, budget=Budget(file))
    except OtherOptions as error:
        arguments = base["data"]["init_args"]
        if not arguments.keys() & error.options:  # the option is on the command line
            raise
        base["data"]["init_args"] = {name: value for name, value in arguments.items() if name not in error.options}
        return _test_cli(options, base, file)


def check(args: list[str]) -> None:
    """Print the faults of the data. The exit code is 1 if there are errors."""
    cli = Inspection(with_config(args))
    for file in filter(None, (cli.config.html, cli.config.json)):
        require_writable(Path(file))
    data = cli.datamodule
    if not isinstance(data, ImageDataModule):
        raise UserError(f"{type(data).__name__} is not an ImageDataModule, so it cannot be checked")
    data.left_out = {split: {} for split in SPLITS}  # so that broken files are reported as faults
    with doing("checking the data"):
        net = cli.config.get("model.init_args.net.init_args") or {}
        uses_weights = bool(net.get("pretrained") or net.get("weights"))
        survey = full_survey(data, data.image_size is not None or not (uses_weights and data.takes_pretraining_size))
    print(check_report.full_text(survey))
    if cli.config.json:
        check_report.save_json(survey, Path(cli.config.json))
    if cli.config.html:
        write_text(Path(cli.config.html), check_report.survey_page(survey))
    if survey.errors:
        sys.exit(1)


def _check_quickly(data: ImageDataModule, strict: bool, args: list[str]) -> Survey:
    """Print the worst faults that a quick check finds in the data, and return all of them.

    Raises:
        BrokenFiles: `strict` is True, and there are errors or files that cannot be decoded.
    """
    _ = data.fingerprint  # this sets `data.left_out`
    survey = quick_survey(data, all_files=strict)
    command = f"{app.command('check')} {shlex.join(args)}".strip()
    if text := check_report.brief_text(survey, command):
        print(f"{text}\n", flush=True)
    if strict and (survey.errors or any(data.left_out.values())):
        raise BrokenFiles(f"the data have errors, and --check strict stops the run; {command} shows them all")
    return survey


def evaluate(cli: CLI, ckpt_path: Path | None = None) -> dict[str, float] | None:
    """Return the metrics of the test split or, if there is none, of the validation split.

    Return None if the config limits the number of the split's batches to 0.

    Args:
        ckpt_path: a checkpoint whose weights are loaded first, or None.
    """
    data, trainer = cli.datamodule, cli.trainer
    data.setup("test")
    split = evaluated_split(data)
    if (trainer.limit_test_batches if split == "test" else trainer.limit_val_batches) == 0:
        rank_zero_only(print)(f"nothing is tested: trainer.limit_{split}_batches is 0")
        return None
    if split == "val":
        advice = "the checkpoint was chosen by these validation figures, so expect slightly worse ones on new data"
        rank_zero_only(print)(f"there is no test split: {advice}")
    loop = trainer.test if split == "test" else trainer.validate
    with doing(f"testing on the {split} split"):
        loader_metrics = loop(cli.model, datamodule=data, verbose=False, ckpt_path=ckpt_path, weights_only=True)
    return {key: value for metrics in loader_metrics for key, value in metrics.items()}
