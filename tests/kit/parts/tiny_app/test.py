from kit.cli.process import main
from kit.cli.verbs import test

if __name__ == "__main__":
    main(test)
