from kit.cli.process import main
from kit.cli.verbs import fit

if __name__ == "__main__":
    main(fit)
