"""`python -m project.report RUN`: measure a run's best checkpoint, and write its `report.html` again.

`python -m project.report RUN RUN [RUN ...] [--html FILE]`: write a page that compares several runs, `comparison.html`.
"""

if __name__ == "__main__":
    from kit.cli.start import start

    start("kit.cli.reporting", "report")
