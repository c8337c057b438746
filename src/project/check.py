"""`python -m project.check [--config FILE] [--html FILE] [--json FILE] [--KEY VALUE]`: list the faults of the data."""

if __name__ == "__main__":
    import gc

    gc.disable()  # saves a fifth of the time of the imports, which create no garbage; `main` enables it again
    from kit.cli.process import main
    from kit.cli.verbs import check

    main(check)
