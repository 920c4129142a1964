"""Scenarios through a collector, as anybody would replay a recording."""

import json
import subprocess
from dataclasses import dataclass
from pathlib import Path

from .failure import Failure, WRONG_USAGE
from .folder import TRUTH

# A replay takes a second or two; one that takes so long hangs.
HANGS_AFTER_SECONDS = 600


@dataclass
class Replayed:
    truth: dict
    incidents: list[dict]
    # Why there are no incidents to be scored; None: all is well.
    crash: str | None = None


def check_collector(collector):
    """Asks it who it is, so that a wrong path is told once, at the beginning."""
    try:
        said = subprocess.run([collector, "--version"], capture_output=True, timeout=60, text=True)
    except OSError as error:
        hint = "`cargo build --release -p gridstep-collector` makes target/release/gridstep-collector"
        raise Failure(f"run the collector {collector}: {error.strerror.lower()}; {hint}", WRONG_USAGE) from error
    except subprocess.TimeoutExpired as error:
        raise Failure(f"ask {collector} for its version: no answer within a minute", WRONG_USAGE) from error
    if said.returncode != 0:
        raise Failure(f"ask {collector} for its version: exit code {said.returncode}; is it gridstep-collector?", WRONG_USAGE)
    return said.stdout.strip()


def read_truth(scenario: Path):
    try:
        truth = json.loads((scenario / TRUTH).read_text())
        return truth | {"stragglers": list(truth["stragglers"]), "name": str(truth["name"]), "t0": float(truth["t0"])}
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise Failure(f"read {scenario / TRUTH}: no truth of a scenario ({error})", WRONG_USAGE) from error


def replay(collector, scenario: Path, incidents: Path):
    """Writes the incidents into the file `incidents`."""
    truth = read_truth(scenario)
    incidents.unlink(missing_ok=True)
    try:
        run = subprocess.run(
            [collector, "replay", "--incidents", incidents, scenario],
            stdout=subprocess.DEVNULL,
            stderr=subprocess.PIPE,
            timeout=HANGS_AFTER_SECONDS,
        )
    except subprocess.TimeoutExpired:
        return Replayed(truth, [], f"hangs for {HANGS_AFTER_SECONDS} s")
    if run.returncode != 0:
        said = run.stderr.decode(errors="replace").strip().splitlines()
        return Replayed(truth, [], f"exit code {run.returncode}: {' '.join(said[-3:])}")
    return Replayed(truth, [json.loads(line) for line in incidents.read_text().splitlines() if line.strip()])
