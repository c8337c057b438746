"""The verb `report`: write a run's page again, or compare several runs."""

from pathlib import Path

from kit.checkpoints import checkpoint
from kit.checkpoints.run_folder import refuse_links
from kit.checks.survey import quick_survey
from kit.cli.verbs import checkpoint_cli, evaluate
from kit.config.arguments import split_words
from kit.config.parser import PlainParser
from kit.dashboard import ReportPage
from kit.dashboard import report as metrics_report
from kit.dashboard.charts import MAX_LINES
from kit.dashboard.comparison_page import Run, comparison_page
from kit.data import ImageDataModule, reading
from kit.ground import app
from kit.ground.errors import UserError
from kit.ground.files import require_writable, write_text
from kit.ground.unexpected import doing
from kit.task import as_task


def report(args: list[str]) -> None:
    """Measure a run's best checkpoint and write its page again, or write a page that compares several runs."""
    words, options = split_words(args)
    folders = [checkpoint.require_run(word) for word in dict.fromkeys(words)]
    if not folders:
        raise UserError(f"which run? {app.command('report')} RUN [RUN ...]")
    if len(folders) == 1:
        _report_again(folders[0], options)
        return
    if len(folders) > MAX_LINES:
        raise UserError(f"{len(folders)} runs are too many for one page; compare at most {MAX_LINES} at a time")
    parser = PlainParser()
    parser.add_argument("--html", type=str, default="comparison.html")
    file = Path(parser.read(options).html)
    require_writable(file)
    with doing("comparing the runs"):
        write_text(file, comparison_page([Run.read(folder) for folder in folders]))
    print(f"{len(folders)} runs are compared in {file}")


def _report_again(folder: Path, options: list[str]) -> None:
    """Measure a run's best checkpoint, as `test` does, and write its page and its pictures again."""
    refuse_links(folder, folder)
    run, file = Run.read(folder), checkpoint.find(str(folder))
    if not (folder / "history.json").is_file():
        why = "the page would lose its verdict and its curves"
        raise UserError(f"{folder} has no history.json, which `fit` writes: {why}; use {app.command('test')} {folder}")
    with doing(f"testing {file}"):
        cli = checkpoint_cli(file, options)
        data, page = cli.datamodule, ReportPage(cli.config_init.overfitting)
        page.restore(run.history)
        if isinstance(data, ImageDataModule) and cli.config.check != "off":
            _ = data.fingerprint  # this sets `data.left_out`
            page.survey = quick_survey(data)
        cli.trainer.callbacks.append(page)
        metrics = evaluate(cli)
    if not cli.trainer.is_global_zero or metrics is None:
        return
    with doing("writing the report"):
        notes = reading.summary(data.left_out) if isinstance(data, ImageDataModule) else []
        metrics_report.report(metrics, {}, None, notes, evaluation=as_task(cli.model).latest_evaluation)
        run_values = {key: value for key, value in run.results.items() if value is not None}
        if cli.reads_other_root:
            notes = [*notes, f"measured on {data.root}, and not on the run's own data"]
        page.write(folder, metrics, run_values, run.history.conclusion, notes)
        print(f"written: {folder / 'report.html'}")
        metrics_report.require_measured(metrics)
