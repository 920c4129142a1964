"""What looks like a straggler's doing and is nobody's fault: the hard negatives of the facts (section 2), one or more a scenario."""

from dataclasses import dataclass

from .cluster import GPUS_PER_NODE
from .draw import chance, uniform

# In a scenario without a fault one to three of these.
KINDS = [
    "appclk_all",  # application clocks of a whole job are lowered
    "limit_all",  # power limits of a whole job are lowered
    "congestion",  # the network is slow for all of a job
    "stage_slow",  # a pipeline stage gets more to do
    "hot_node",  # a node is warmer than the others, and no slower
    "efficient_node",  # a node draws less for the same work
    "skew",  # a node's clock is off by up to 2.5 s, and it does not say so
    "missing",  # samples are lost here and there, or all of a node for a minute
    "none",
    "lowlimit_more",  # four nodes rather than one have a slightly lower power limit that they never reach
    "narrow_more",  # four GPUs rather than one have had a narrow PCIe link for ever, and never fill it
    "idle_spin_node",  # meant to be a spare node that spins; it was never made, and is as "none"
    "diurnal",  # speed drifts by 2 % (Llama 3: 1 to 2 % over a day)
    "noncritical",  # a GPU that is done early anyway has a lower clock, within its slack
]
# Beside a fault, each in one scenario of ten.
BESIDE_A_FAULT = ["skew", "missing", "hot_node", "efficient_node", "congestion"]


@dataclass
class Harmless:
    """Where and when, for those kinds that have a place or a time."""

    # Index of the job.
    job: int
    start: float
    end: float
    # 0 to 1.
    strength: float
    node: int
    gpu: int

    def holds(self, at):
        return (self.start <= at) & (at < self.end)


def draw_kinds(rng, with_fault):
    if with_fault:
        return [kind for kind in BESIDE_A_FAULT if chance(rng, 0.1)]
    count = int(rng.integers(1, 4))
    return [str(kind) for kind in rng.choice(KINDS, size=count, replace=False)]


def draw_harmless(rng, jobs, scenario_seconds):
    index = int(rng.integers(len(jobs)))
    job = jobs[index]
    start = uniform(rng, 0.25, 0.6) * scenario_seconds
    seconds = uniform(rng, 60, 200)
    if chance(rng, 0.4):
        seconds = scenario_seconds
    return Harmless(
        job=index,
        start=start,
        end=start + seconds,
        strength=uniform(rng, 0, 1),
        node=int(rng.integers(job.first_node, job.end_node)),
        gpu=int(rng.integers(GPUS_PER_NODE)),
    )
