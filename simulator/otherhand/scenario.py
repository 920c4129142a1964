"""What happens in a scenario, by kind, seed and fault."""

from dataclasses import dataclass

import numpy as np

from .cluster import NODES
from .draw import chance
from .fault import Fault, draw_faults
from .harmless import Harmless, draw_harmless, draw_kinds
from .job import Job, draw_job
from .kinds import CAUSES

JOB_NAMES = ["llama3-405b", "mixtral-8x22b"]
PLAIN_STEP_SECONDS = (2.2, 9.0)
PLAIN_CLIPPED_STEP_SECONDS = (2.0, 9.0)


@dataclass
class Scenario:
    kind: str
    seed: int
    seconds: int
    jobs: list[Job]
    # The reason "application clocks setting" shows on every GPU of a process, as in some of the given recordings.
    application_clocks_shown: bool
    harmless_kinds: list[str]
    # By kind.
    harmless: dict[str, Harmless]
    faults: list[Fault]


def draw_scenario(rng, kind, seed, fault=None):
    """`fault` is one of `kinds.FAULTS`; None leaves it to chance whether there is one: a third of all scenarios have none."""
    seconds = int(rng.choice([600, 720, 900]))
    if fault is None:
        fault = "none" if chance(rng, 1 / 3) else "any"
    jobs = draw_jobs(rng, kind, seed, seconds)
    application_clocks_shown = chance(rng, 0.6)
    harmless_kinds = draw_kinds(rng, with_fault=fault != "none")
    if kind != "mixed":
        harmless_kinds = []
    harmless = {name: draw_harmless(rng, jobs, seconds) for name in harmless_kinds}
    faults = []
    if fault != "none":
        faults = draw_faults(rng, jobs, seconds, cause=fault if fault in CAUSES else None, count=2 if fault == "two" else None)
    return Scenario(kind, seed, seconds, jobs, application_clocks_shown, harmless_kinds, harmless, faults)


def draw_jobs(rng, kind, seed, scenario_seconds):
    """One job, or two side by side, on all but up to two nodes."""
    layout = rng.random()
    used = NODES - int(rng.choice([0, 0, 0, 1, 2]))
    spans = [(0, used)]
    if layout >= 0.65:
        border = int(rng.integers(4, used - 3))
        spans = [(0, border), (border, used)]
    jobs = []
    for index, (name, (first, end)) in enumerate(zip(JOB_NAMES, spans)):
        job = draw_job(rng, name, first, end, scenario_seconds)
        if kind != "mixed":
            job.make_plain(plain_step_seconds(kind, seed, index, job.step_seconds), scenario_seconds)
        jobs.append(job)
    return jobs


def plain_step_seconds(kind, seed, index, step_seconds):
    """A step that is neither shorter than two reads nor long against a window; of `plain` drawn apart, as clipping heaps them up at both ends."""
    if kind == "plain-clipped":
        return min(max(step_seconds, PLAIN_CLIPPED_STEP_SECONDS[0]), PLAIN_CLIPPED_STEP_SECONDS[1])
    return float(np.random.default_rng(seed * 7 + index).uniform(*PLAIN_STEP_SECONDS))
