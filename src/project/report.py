"""`python -m project.report RUN [RUN ...] [--html FILE]`: write the page of a run again, or compare several runs."""

if __name__ == "__main__":
    from kit.cli.start import start

    start("kit.cli.reporting", "report")
