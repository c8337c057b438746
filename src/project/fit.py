"""`python -m project.fit [--config FILE] [--resume RUN] [--KEY VALUE]`: trains, then tests the best checkpoint."""

from project.cli import fit, main

if __name__ == "__main__":
    main(fit)
