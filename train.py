"""Train a model, export it and score it: python train.py experiment=demo   (python train.py --help)"""

from golf.app import main_train

if __name__ == "__main__":
    main_train()
