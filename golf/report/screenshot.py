"""Headless Chromium: the DOM of a page after its script ran, its console, and pictures of it.

`python -m golf.report.screenshot <page.html> <picture.png> [width] [height] [dark]`

Invariant: the browser gets a fresh profile, makes no background requests, and is ended after `timeout_seconds`.
"""

import os
import re
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import NamedTuple

from golf.errors import UserError

NAMES = ("chromium", "chromium-browser", "google-chrome")
FLAGS = """headless no-sandbox disable-gpu disable-quic no-first-run disable-background-networking
disable-component-update disable-sync disable-default-apps disable-extensions disable-dev-shm-usage hide-scrollbars
enable-logging=stderr v=0"""


class Visit(NamedTuple):
    """What a browser said about a page."""

    dom: str
    console: list[str]


def find_chromium() -> str | None:
    """Return the path of a Chromium: $CHROMIUM if set, else the first of the usual names on the PATH."""
    names = (os.environ["CHROMIUM"],) if os.environ.get("CHROMIUM") else NAMES
    return next((found for name in names if (found := shutil.which(name))), None)


def visit(page: Path, hash_text: str = "", width: int = 1280, height: int = 900, dark: bool = False) -> Visit:
    """Load a page and return its DOM and the console messages."""
    done = _chromium(page, hash_text, width, height, dark, ["--dump-dom"])
    return Visit(done.stdout, [line for line in done.stderr.splitlines() if "CONSOLE" in line])


def picture_of(svg: Path, content: str, scale: int = 2) -> Path:
    """Save an SVG document as a PNG beside it, in twice its own size."""
    size = re.search(r'<svg[^>]* width="(\d+)" height="(\d+)"', content)
    width, height = (int(size[1]), int(size[2])) if size else (1280, 900)
    png = svg.with_suffix(".png").resolve()
    flags = [f"--force-device-scale-factor={scale}", f"--screenshot={png}"]
    done = _chromium(svg, "", width, height, False, flags)
    if not png.is_file():
        raise UserError(f"Chromium wrote no picture {png}: {' '.join(done.stderr.split())[-300:]}")
    return png


def screenshot(page: Path, png: Path, width: int = 1280, height: int = 900, dark: bool = False) -> Path:
    """Save a picture of the upper `height` pixels of a page."""
    png = Path(png).resolve()
    done = _chromium(page, "", width, height, dark, [f"--screenshot={png}"])
    if not png.is_file():
        raise UserError(f"Chromium wrote no picture {png}: {' '.join(done.stderr.split())[-300:]}")
    return png


def _chromium(
    page: Path, hash_text: str, width: int, height: int, dark: bool, action: list[str], timeout_seconds: float = 60
) -> subprocess.CompletedProcess[str]:
    binary = find_chromium()
    if binary is None:
        raise UserError(f"No Chromium found (tried {', '.join(NAMES)}): install one, or set CHROMIUM=<its path>")
    address = Path(page).resolve().as_uri() + hash_text
    with tempfile.TemporaryDirectory(prefix="golf-chromium-", ignore_cleanup_errors=True) as profile:
        command = [
            binary,
            *(f"--{flag}" for flag in FLAGS.split()),
            f"--user-data-dir={profile}",
            f"--window-size={width},{height}",
        ]
        command += [f"--blink-settings=preferredColorScheme={0 if dark else 1}", *action, address]
        try:
            return subprocess.run(command, capture_output=True, text=True, timeout=timeout_seconds, check=False)
        except subprocess.TimeoutExpired as error:
            raise UserError(f"Chromium did not finish {page} within {timeout_seconds:g} seconds") from error


if __name__ == "__main__":
    if len(sys.argv) < 3:
        sys.exit("python -m golf.report.screenshot <page.html> <picture.png> [width] [height] [dark]")
    sizes = [int(word) for word in sys.argv[3:] if word.isdigit()] or [1280, 900]
    print(screenshot(Path(sys.argv[1]), Path(sys.argv[2]), *sizes, dark="dark" in sys.argv[3:]))
