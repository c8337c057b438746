from kit.cli.process import main
from kit.cli.verbs import check

if __name__ == "__main__":
    main(check)
