"""A fault: who is slow, from when to when, why, and how much of the job's speed it costs."""

from dataclasses import dataclass

from .cluster import GPUS_PER_NODE
from .draw import chance, log_uniform, uniform
from .kinds import CAUSES

OF_A_NODE = {"power_brake", "network_slow", "cpu_contention"}
# 20 s on, 100 s off (facts, section 4).
INTERMITTENT_PERIOD_SECONDS = 120
INTERMITTENT_ON_SECONDS = 20
# A board heats for some half a minute until it has slowed down as far as it will.
THERMAL_RAMP_SECONDS = 30.0


@dataclass
class Fault:
    cause: str
    # Index of the job.
    job: int
    node: int
    # None: the whole node.
    gpu: int | None
    # What it shall cost the job: 1 - speed with it / speed without.
    target_slowdown: float
    start: float = 0.0
    end: float = 0.0
    # It has been there since the job began.
    from_begin: bool = False
    intermittent: bool = False
    # Two ways in which links are slow. pcie_degraded: 0 lengthens the collective, 1 starves the GPU before it computes. network_slow: in the
    # collective the victims 0 finish and then spin, 1 move data at the culprit's mean rate all along.
    variant: int = 0
    # hbm_degraded, nvlink_errors and unknown: tensor and DRAM activity fall with the speed, or stay where they are.
    activity_falls: bool = False
    # 0, 1, 2: which of the facts of its cause show (symptom.py).
    facts: int = 0

    @property
    def lengthens_collective(self):
        return self.cause == "network_slow" or (self.cause == "pcie_degraded" and self.variant == 0)

    def since_onset(self, at):
        """Seconds since it last set in."""
        return (at - self.start) % INTERMITTENT_PERIOD_SECONDS if self.intermittent else at - self.start

    def active(self, at):
        if not self.start <= at < self.end:
            return False
        return not self.intermittent or self.since_onset(at) < INTERMITTENT_ON_SECONDS

    def heat(self, at):
        """0 to 1: how far a thermal fault has got."""
        return min(1.0, self.since_onset(at) / THERMAL_RAMP_SECONDS) if self.active(at) else 0.0


def draw_faults(rng, jobs, scenario_seconds, cause, count):
    """`cause` and `count` where they are given; else any, and one in three scenarios of four, else two."""
    drawn = int(rng.choice([1, 1, 1, 2]))
    count = count or drawn
    faults, taken = [], []
    for index in range(count):
        fault = draw_fault(rng, jobs, cause, taken)
        taken.append(fault.node)
        draw_times(rng, fault, jobs[fault.job].begin, scenario_seconds, is_second=count == 2 and index == 1)
        fault.variant = int(rng.integers(2))
        fault.activity_falls = chance(rng, 0.7)
        fault.facts = int(rng.integers(3))
        faults.append(fault)
    return faults


def draw_fault(rng, jobs, cause, taken):
    cause = cause or str(rng.choice(CAUSES))
    index = int(rng.integers(len(jobs)))
    job = jobs[index]
    nodes = [node for node in range(job.first_node, job.end_node) if node not in taken]
    # Rather in the stage that paces the job: elsewhere a fault has to eat up the slack first.
    work = job.stage_work[job.stage_of_node]
    pacing = [node for node in nodes if work[node - job.first_node] > work.max() * 0.97]
    node = int(rng.choice(pacing if pacing and chance(rng, 0.75) else nodes))
    gpu = None if cause in OF_A_NODE else int(rng.integers(GPUS_PER_NODE))
    # Published gates are at 10 and 20 %, the facts aim at 3 %: from below that to beyond.
    return Fault(cause, index, node, gpu, target_slowdown=log_uniform(rng, 0.015, 0.25))


def draw_times(rng, fault, begin, scenario_seconds, is_second):
    if rng.random() < 0.15:
        fault.start, fault.from_begin = begin, True
    else:
        fault.start = begin + uniform(rng, 90, scenario_seconds * 0.55)
    # Of two, mostly one after the other's onset.
    if is_second and chance(rng, 0.6):
        fault.start, fault.from_begin = begin + uniform(rng, scenario_seconds * 0.5, scenario_seconds * 0.7), False
    lasts = chance(rng, 0.7)
    fault.end = min(scenario_seconds, fault.start + log_uniform(rng, 60, scenario_seconds)) if lasts else float(scenario_seconds)
    if fault.end > scenario_seconds - 40:
        fault.end = float(scenario_seconds)
    fault.start, fault.end = float(round(fault.start)), float(round(fault.end))
    fault.intermittent = chance(rng, 0.1) and fault.end - fault.start > 240
