"""From kind and seed to a scenario's folder."""

import json
import shutil

import numpy as np

from . import recording
from .cluster import Boards, Clocks
from .fleet import run_jobs
from .scenario import draw_scenario
from .telemetry import arriving, tell
from .truth import truth


def generate(folder, kind, seed, fault=None, unnamed=False):
    """Writes the scenario aside and then gives it its name, so that a folder that is there is whole. Replaces one that is there.

    `unnamed`: the recording names no jobs.
    """
    rng = np.random.default_rng(seed)
    scenario = draw_scenario(rng, kind, seed, fault)
    boards = Boards.draw(rng, scenario)
    clocks = Clocks.draw(rng, scenario)
    fleet = run_jobs(scenario, boards, clocks, rng)
    telemetry, flickering = tell(scenario, fleet, boards, clocks, rng)
    arrives = arriving(scenario, rng)

    aside = folder.with_name(f".{folder.name}.partial")
    shutil.rmtree(aside, ignore_errors=True)
    aside.mkdir(parents=True)
    job_names = np.full_like(fleet.job_names, None) if unnamed else fleet.job_names
    recording.write(aside, telemetry, job_names, arrives, clocks)
    found = truth(folder.name, scenario, fleet.effects, flickering)
    (aside / "truth.json").write_text(json.dumps(found, indent=1, default=float) + "\n")
    shutil.rmtree(folder, ignore_errors=True)
    aside.rename(folder)
