"""A synchronous training job: who takes part, how long its step is, what makes it uneven, and when it pauses."""

from dataclasses import dataclass, field

import numpy as np

from .cluster import GPUS_PER_NODE
from .draw import chance, log_uniform, uniform

# Who does what in a pause. Rank 0 alone writing while all others spin in a collective is how the facts' public trace saves (section 2), so it is the
# most likely one; the others are: everybody writes, the first rank of each node writes, an evaluation.
PAUSES = ["rank0_writes", "rank0_writes", "all_write", "evaluation", "node_leads_write"]


@dataclass
class Pause:
    start: float
    seconds: float
    kind: str


@dataclass
class Job:
    name: str
    # It holds these nodes whole.
    first_node: int
    end_node: int
    # Pipeline: the stage of each of its nodes, and how much longer than the shortest a stage computes.
    stage_of_node: np.ndarray
    stage_work: np.ndarray
    step_seconds: float
    communicate_seconds: float
    # Of a stage with work 1, on a board of full clock.
    compute_seconds: float
    start: float
    end: float
    # From and until when it is gone and starts anew.
    restart: tuple | None = None
    # Deviation of each rank's time from step to step.
    jitter: float = 0.0
    # Log-deviation of a node's time by the lengths of its sequences, anew in each step.
    sequence_spread: float = 0.0
    # Log-deviation of a rank's time by its experts, for some eight steps.
    expert_spread: float = 0.0
    # Garbage collection: one rank is late, another one each time. Data loading: one node is.
    collection_seconds: float = 0.0
    collections_per_second: float = 0.0
    loading_seconds: float = 0.0
    loadings_per_second: float = 0.0
    pauses: list[Pause] = field(default_factory=list)

    @property
    def first_gpu(self):
        return self.first_node * GPUS_PER_NODE

    @property
    def end_gpu(self):
        return self.end_node * GPUS_PER_NODE

    @property
    def begin(self):
        """From when on it is seen to run."""
        return max(self.start, 0)

    def holds(self, at):
        """At which of these times its processes are there."""
        there = (at >= self.start) & (at < self.end)
        if self.restart:
            there &= ~((at >= self.restart[0]) & (at < self.restart[1]))
        return there

    def make_plain(self, step_seconds, scenario_seconds):
        """Takes away what makes it uneven, so that nothing but pauses and the fault is left, and gives its step another length."""
        ratio = step_seconds / self.step_seconds
        self.communicate_seconds *= ratio
        self.compute_seconds *= ratio
        self.step_seconds = step_seconds
        self.sequence_spread = self.expert_spread = self.collection_seconds = self.loading_seconds = 0.0
        self.restart = None
        self.start, self.end = 20.0, scenario_seconds + 100.0
        for pause in self.pauses:
            pause.kind = "rank0_writes"


def draw_job(rng, name, first_node, end_node, scenario_seconds):
    stage_of_node, stage_work = draw_stages(rng, end_node - first_node)
    # 0.3 to 20 s; more often near those of the given recordings.
    step = log_uniform(rng, 0.3, 20) if chance(rng, 0.6) else uniform(rng, 2, 9)
    communication = uniform(rng, 0.05, 0.45)
    job = Job(
        name,
        first_node,
        end_node,
        stage_of_node,
        stage_work,
        step_seconds=step,
        communicate_seconds=step * communication,
        # The slowest of many ranks takes some two percent longer than the mean.
        compute_seconds=step * (1 - communication) / stage_work.max() / 1.02,
        # Before the recording begins, or in it.
        start=float(rng.choice([-100, 20, 20, 20, 40])),
        end=scenario_seconds + 100.0,
    )
    if chance(rng, 0.06):
        job.end = uniform(rng, 0.75, 0.95) * scenario_seconds
    if chance(rng, 0.06):
        gone = uniform(rng, 0.3, 0.6) * scenario_seconds
        job.restart = (gone, gone + uniform(rng, 20, 60))
    draw_unevenness(rng, job)
    if chance(rng, 0.6):
        job.pauses = draw_pauses(rng, job, scenario_seconds)
    return job


def draw_stages(rng, nodes):
    """Pipeline stages of equal numbers of nodes. The last one computes 1.4 to 2 times as long in public traces (facts, finding 3); here mostly
    less, which is harder to tell from a straggler."""
    stages = int(rng.choice([1, 1, 1, 2, 2, 4]))
    while nodes // stages < 2:
        stages //= 2
    stage_of_node = np.array([min(stages - 1, (node * stages) // nodes) for node in range(nodes)])
    work = np.ones(stages)
    if stages == 1:
        return stage_of_node, work
    style = rng.integers(3)
    if style == 0:
        work[-1] = uniform(rng, 1.05, 1.5)
    elif style == 1:
        work = rng.uniform(0.85, 1.15, stages)
    else:
        work[0] = uniform(rng, 1.02, 1.15)
        work[-1] = uniform(rng, 1.05, 1.4)
    return stage_of_node, work


def draw_unevenness(rng, job):
    """The facts' false-positive sources (section 2) that belong to the work: sequence lengths (2 to 5 % within a stage), experts, garbage
    collection of some 100 ms on another rank each time, a slow loader on another node each time."""
    job.jitter = uniform(rng, 0.003, 0.012)
    which = rng.random()
    if which < 0.15:
        job.sequence_spread = uniform(rng, 0.02, 0.06)
    elif which < 0.27:
        job.expert_spread = uniform(rng, 0.01, 0.035)
    if chance(rng, 0.3):
        job.collection_seconds = uniform(rng, 0.1, 0.4)
        job.collections_per_second = 1 / uniform(rng, 15, 60)
    if chance(rng, 0.2):
        job.loading_seconds = uniform(rng, 0.5, 3)
        job.loadings_per_second = 1 / uniform(rng, 60, 200)


def draw_pauses(rng, job, scenario_seconds):
    """One kind of pause, every some minutes."""
    period = uniform(rng, 150, 400)
    start = job.begin + uniform(rng, 0.5, 1) * period
    seconds = uniform(rng, 5, 40)
    kind = str(rng.choice(PAUSES))
    pauses = []
    while start < scenario_seconds:
        pauses.append(Pause(start, seconds * uniform(rng, 0.9, 1.1), kind))
        start += period
    return pauses
