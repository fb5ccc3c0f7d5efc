"""Score a packed model: python evaluate.py run=<folder> eval=sliding eval.stride=64   (python evaluate.py --help)"""

from golf.config.entry import run_script

if __name__ == "__main__":
    run_script("evaluate", "golf.app:evaluate")
