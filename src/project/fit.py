"""`python -m project.fit [--config FILE] [--resume RUN] [--KEY VALUE]`: train a model, and test its best checkpoint."""

if __name__ == "__main__":
    import gc

    gc.disable()  # saves a fifth of the time of the imports, which create no garbage; `main` enables it again
    from kit.cli.process import main
    from kit.cli.verbs import fit

    main(fit)
