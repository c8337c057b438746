"""`python -m project.check [--config FILE] [--html FILE] [--json FILE] [--KEY VALUE]`: list the faults of the data."""

if __name__ == "__main__":
    from kit.cli.start import start

    start("kit.cli.verbs", "check")
