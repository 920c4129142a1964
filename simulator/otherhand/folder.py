"""Folders of scenarios: where they may be written, and which are there. A scenario is a folder with a truth.json, which is written last."""

import shutil

from .failure import Failure, WRONG_USAGE

TRUTH = "truth.json"


def is_scenario(folder):
    return (folder / TRUTH).is_file()


def scenarios(folder):
    """The folder itself if it is one, else those in it."""
    if is_scenario(folder):
        return [folder]
    if not folder.is_dir():
        raise Failure(f"read {folder}: there is no such folder", WRONG_USAGE)
    found = sorted(path.parent for path in folder.glob(f"*/{TRUTH}") if not path.parent.name.startswith("."))
    if not found:
        raise Failure(f"read {folder}: neither it nor a folder in it has a {TRUTH}; `generate` makes some", WRONG_USAGE)
    return found


def prepare(folder, needed_bytes):
    """Finds out before the work whether its result will have a place."""
    try:
        folder.mkdir(parents=True, exist_ok=True)
        probe = folder / ".writable"
        probe.touch()
        probe.unlink()
    except OSError as error:
        raise Failure(f"write into {folder}: {error.strerror.lower()}") from error
    free_bytes = shutil.disk_usage(folder).free
    if free_bytes < needed_bytes:
        raise Failure(f"write into {folder}: it takes some {needed_bytes >> 20} MiB, {free_bytes >> 20} are free")


def check_replaceable(folder):
    """Only a scenario is ever replaced by one."""
    if folder.exists() and not is_scenario(folder) and not (folder.is_dir() and not any(folder.iterdir())):
        raise Failure(f"write {folder}: something that is no scenario is there already", WRONG_USAGE)
