"""Where files are: the data that ships with the course, and the reader's own folder."""

import os
from pathlib import Path

import platformdirs

_package = Path(__file__).resolve().parent.parent


def checkout() -> Path | None:
    """The folder of the repository, if this package runs from one."""
    root = _package.parent
    return root if (root / "pyproject.toml").is_file() and (root / "notebooks").is_dir() else None


def shipped() -> Path:
    """The shipped data: ``data/`` of a checkout, or the copy inside an installed package."""
    root = checkout()
    return root / "data" if root else _package / "_data"


def recorded_runs(chapter: str) -> Path:
    """Where the recorded training runs of a chapter lie."""
    return shipped() / "runs" / chapter


def reader() -> Path:
    """The reader's own folder, for runs and progress; ``POCOURSE_HOME`` moves it. Nothing in it is sent anywhere."""
    home = os.environ.get("POCOURSE_HOME")
    return Path(home).expanduser() if home else platformdirs.user_data_path("pocourse", appauthor=False)


def reader_runs(chapter: str) -> Path:
    """Where the reader's own training runs of a chapter are written."""
    return reader() / "runs" / chapter
