"""`python -m project.fit [--config FILE] [--resume RUN] [--KEY VALUE]`: train a model, and test its best checkpoint."""

if __name__ == "__main__":
    from kit.cli.start import start

    start("kit.cli.verbs", "fit")
