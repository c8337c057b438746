from kit.cli.process import main
from kit.exporting import export

if __name__ == "__main__":
    main(export)
