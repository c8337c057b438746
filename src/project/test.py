"""`python -m project.test RUN_OR_CHECKPOINT [--data.root FOLDER] [--KEY VALUE]`: test a trained model."""

if __name__ == "__main__":
    import gc

    gc.disable()  # saves a fifth of the time of the imports, which create no garbage; `main` enables it again
    from kit.cli.process import main
    from kit.cli.verbs import test

    main(test)
