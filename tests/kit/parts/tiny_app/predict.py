from kit.cli.process import main
from kit.prediction import predict

if __name__ == "__main__":
    main(predict)
