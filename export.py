"""Export a trained run again: python export.py run=<folder> quant=int6_rows codec=lzma   (python export.py --help)"""

from golf.config.entry import run_script

if __name__ == "__main__":
    run_script("export", "golf.app:export")
