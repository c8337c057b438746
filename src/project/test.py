"""`python -m project.test RUN_OR_CHECKPOINT [--data.root FOLDER] [--KEY VALUE]`: tests it, which needs nothing else."""

from project.cli import main, test

if __name__ == "__main__":
    main(test)
