"""`python -m project.export RUN_OR_CHECKPOINT [--format FORMAT] [--out FILE]`: export a model for other programs."""

if __name__ == "__main__":
    import gc

    gc.disable()  # saves a fifth of the time of the imports, which create no garbage; `main` enables it again
    from kit.cli.process import main
    from kit.exporting import export

    main(export)
