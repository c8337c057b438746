"""What the verbs do: `fit`, `test` and `check`, each with the words of its command line."""

import shlex
import sys
from pathlib import Path

import lightning as L
import torch
from lightning.pytorch.utilities.rank_zero import rank_zero_only

from kit.checkpoints import checkpoint, trust
from kit.checkpoints.run_folder import refuse_links, remove_if_empty
from kit.cli.command_line import CLI, Inspection
from kit.config.arguments import option_value, option_values, without_option
from kit.config.mistakes import missing_config
from kit.dashboard import report, require_measured, show_report
from kit.data import ImageDataModule, broken
from kit.formats.folders import SPLITS
from kit.ground import app
from kit.ground._torch import has_fast_bfloat16
from kit.ground.checkpoint_limits import Budget
from kit.ground.errors import BrokenFiles, UserError
from kit.ground.files import require_writable
from kit.ground.yaml_files import read_yaml
from kit.safeguards import Checkpoint
from kit.safeguards.resume import restarting
from kit.safeguards.resume.writing import LAST

CONFIGS = Path("configs")
OVERLAYS = "trainer"  # the folder of CONFIGS whose files are no runs of their own
TEST_HELP = """\
RUN_OR_CHECKPOINT     a run's folder, whose best.ckpt is tested, or a checkpoint file: it needs nothing else
--data.root FOLDER    other data than the run's; if they are not divided, all of them
--trust PACKAGE       use classes of this package, too: a net of your own; may be given several times
--KEY VALUE           any other key of `fit`: --data.batch_size 16, --trainer.accelerator cpu"""


def fit(args: list[str]) -> None:
    """Trains, then tests the best checkpoint and reports."""
    resumed = option_value(args, "--resume")
    with checkpoint.one_line_errors(Path(resumed or "the checkpoint"), "cannot be restored", only_restoring=True):
        _fit(without_option(args, "--trust"), resumed, trusted=option_values(args, "--trust"))


def _fit(args: list[str], resumed: str | None, trusted: list[str]) -> None:
    last = restarting.choose(resumed) if resumed else None
    if resumed:
        run = restarting.run_folder(resumed)
        refuse_links(run, run)
        config = run / "config.yaml"
        budget = None
        if last:
            content = checkpoint.read(last)
            trust.check_checkpoint(content, last, trusted)
            budget = Budget(content.get("state_dict"), last)
        with checkpoint.one_line_errors(config, "cannot be resumed"):
            cli = CLI(["--config", str(config), *args], untrusted=config, trusted=trusted, budget=budget)
    else:
        cli = CLI(_with_config(args))
    try:
        _train(cli, last, args)
    finally:
        remove_if_empty(cli.folder)


def _train(cli: CLI, last: Path | None, args: list[str]) -> None:
    """Train, test and report.

    Args:
        cli: what the command line made.
        last: the checkpoint from which a resumed run goes on.
        args: the command line.
    """
    trainer, model, data = cli.trainer, cli.model, cli.datamodule
    for line in cli.kept_rates:
        rank_zero_only(print)(line)
    if cli.resumed:
        with checkpoint.one_line_errors(last or cli.resumed, "cannot be resumed"):
            restarting.check(trainer, data, last, cli.force)
    if not last:
        restarting.refuse_foreign_start(trainer)
    if cli.config.check != "off" and trainer.is_global_zero and isinstance(data, ImageDataModule):
        _check_quickly(data, strict=cli.config.check == "strict", args=args)
    _say_what_speed_is_left(trainer)
    try:
        trainer.fit(model, datamodule=data, ckpt_path=last, weights_only=True)
        if trainer.fast_dev_run:
            return
        best = _best(trainer)
        if cli.resumed:
            checkpoint.read(best)  # it may be the stranger's still
        metrics = _evaluate(cli, ckpt_path=best)
    except SystemExit:
        if trainer.interrupted:  # Lightning ends the program on Ctrl-C
            raise KeyboardInterrupt from None
        raise
    except BrokenFiles as error:  # the file could still be decoded when the run began
        run = trainer.log_dir or trainer.default_root_dir
        if not (Path(run) / "checkpoints" / LAST).is_file():
            raise
        resume = f"{app.command('fit')} --resume {run}"
        raise type(error)(f"{str(error).strip()}; restore it, then go on with {resume}") from None
    except Exception:
        if cli.exact.signals.received:  # another process ended first
            raise cli.exact.stopped() from None
        raise
    folder = Path(trainer.log_dir)  # all processes must read it, see Trainer.log_dir
    if trainer.is_global_zero:
        watched = cli.config_init.overfitting
        figures = {**cli.speed.figures(trainer), **watched.figures(), **_left_out(data)}
        report(metrics, figures, folder, notes := _notes(data))
        if said := watched.conclusion(trainer, model):
            print(said)
        if cli.config_init.dashboard.enabled:
            show_report(metrics, figures, said, trainer, notes)
        cli.config_init.early_stopping.require_finite()
        require_measured(metrics)


def _left_out(data: L.LightningDataModule) -> dict[str, int]:
    """Return the number of images that were left out as a figure of the run, if there are any."""
    number = sum(map(len, data.left_out.values())) if isinstance(data, ImageDataModule) else 0
    return {"left_out_images": number} if number else {}


def _notes(data: L.LightningDataModule) -> list[str]:
    return broken.summary(data.left_out) if isinstance(data, ImageDataModule) else []


def _best(trainer: L.Trainer) -> Path:
    """Return the best checkpoint.

    Raises:
        UserError: it could not be written.
    """
    checkpoints = Checkpoint.of(trainer)
    assert checkpoints is not None  # the command line adds it
    best = Path(checkpoints.best_model_path)
    if not best.is_file():
        raise UserError(
            f"{best} is not there, so there is nothing to test: make room on the disk, then --resume the run"
        )
    return best


def test(args: list[str]) -> None:
    """Tests a run or a checkpoint, which is all that it needs; on other data with `--data.root`."""
    usage = f"{app.command('test')} RUN_OR_CHECKPOINT [--data.root FOLDER] [--trust PACKAGE] [--KEY VALUE ...]"
    if "-h" in args or "--help" in args:
        print(f"usage: {usage}\n\n{TEST_HELP}")
        return
    if not args or args[0].startswith("-"):
        raise UserError(f"which run? {usage}")
    file = checkpoint.find(args[0])
    content, base = checkpoint.load(file, option_values(args, "--trust"))
    with checkpoint.one_line_errors(file, "cannot be tested"):
        cli = CLI(without_option(args[1:], "--trust"), base, budget=Budget(content.get("state_dict"), file))
        own_root = base["data"]["init_args"].get("root", "")
        cli.datamodule.load_state_dict(content[type(cli.datamodule).__qualname__])
        other_root = option_value(args, "--data.root")
        cli.datamodule.all_is_test = other_root is not None and Path(other_root).resolve() != Path(own_root).resolve()
        checkpoint.load_weights(cli.model, content["state_dict"], file)
        metrics = _evaluate(cli)
    if cli.trainer.is_global_zero:
        report(metrics, {}, None, _notes(cli.datamodule))
        require_measured(metrics)


def check(args: list[str]) -> None:
    """Says what is wrong with the data; exits with 1 if anything is an error."""
    from kit.checks import page
    from kit.checks import report as words
    from kit.checks.survey import full_survey

    cli = Inspection(_with_config(args))
    for wanted in filter(None, (cli.config.html, cli.config.json)):
        require_writable(Path(wanted))
    data = cli.datamodule
    if not isinstance(data, ImageDataModule):
        raise UserError(f"{type(data).__name__} is no ImageDataModule: there is nothing that could be checked")
    data.left_out = {split: {} for split in SPLITS}  # nothing is left out, so that the faults have broken files, too
    survey = full_survey(data)
    print(words.full_text(survey))
    if cli.config.json:
        words.save_json(survey, Path(cli.config.json))
    if cli.config.html:
        page.save_html(survey, Path(cli.config.html))
    if survey.errors:
        sys.exit(1)


def _check_quickly(data: ImageDataModule, strict: bool, args: list[str]) -> None:
    """Print the worst faults of the data.

    Raises:
        BrokenFiles: `strict`, and there are errors, or files that cannot be decoded.
    """
    from kit.checks import report as words
    from kit.checks.survey import quick_survey

    _ = data.fingerprint  # computing it finds the files that are left out
    survey = quick_survey(data, whole=strict)
    command = f"{app.command('check')} {shlex.join(args)}".strip()
    said = words.brief_text(survey, command)
    if said:
        print(f"{said}\n", flush=True)
    if strict and (survey.errors or any(data.left_out.values())):
        raise BrokenFiles(f"the data have errors, and --check strict stops the run; {command} shows them all")


def _evaluate(cli: CLI, ckpt_path: str | None = None) -> dict[str, float]:
    """On the test split; where there is none, on the validation split, saying so."""
    with_weights = {"ckpt_path": ckpt_path, "weights_only": True} if ckpt_path else {}
    cli.datamodule.setup("test")
    if getattr(cli.datamodule, "evaluated", "test") == "test":
        return cli.trainer.test(cli.model, datamodule=cli.datamodule, verbose=False, **with_weights)[0]
    rank_zero_only(print)(
        "there is no test split: these are validation figures, and the checkpoint was chosen by them; expect slightly "
        "lower ones on new data"
    )
    return cli.trainer.validate(cli.model, datamodule=cli.datamodule, verbose=False, **with_weights)[0]


def _with_config(args: list[str]) -> list[str]:
    """Puts the default config first where no run is named, and the run's name last where none is given."""
    if any(argument == "-h" or argument.split("=")[0].endswith("help") for argument in args):
        return args
    files = [Path(file) for file in option_values(args, "--config") + option_values(args, "-c")]
    runs = [file for file in files if file.parent.name != OVERLAYS]
    for file in files:
        if not file.exists():
            raise UserError(missing_config(file))
        read_yaml(file)  # checks the limits, which the parser does not know when it reads the file again
    if not runs:
        plain = sorted(file for file in CONFIGS.glob("*.yaml") if "_" not in file.stem)
        if not plain:
            raise UserError(f"no config: there is none in {CONFIGS.absolute()}; give yours with --config FILE")
        runs = plain[:1]
        args = ["--config", str(runs[0]), *args]
    content = read_yaml(runs[-1])
    named = option_value(args, "--name") or (content.get("name") if isinstance(content, dict) else None)
    return args if named else [*args, "--name", runs[-1].stem]


def _say_what_speed_is_left(trainer: L.Trainer) -> None:
    device = trainer.strategy.root_device
    if device.type == "cuda":
        good = torch.cuda.is_bf16_supported(including_emulation=False)
    else:
        good = device.type == "cpu" and has_fast_bfloat16()
    if good and trainer.precision == "32-true":
        rank_zero_only(print)(
            f"this {device.type.upper()} is faster in bfloat16: add --config configs/trainer/bf16.yaml"
        )
