"""The cluster: 16 nodes of 8 H100 SXM, as the given recordings have, and how its boards and clocks differ for good."""

from dataclasses import dataclass

import numpy as np

from .draw import chance, uniform

NODES = 16
GPUS_PER_NODE = 8
GPUS = NODES * GPUS_PER_NODE
NODES_PER_RACK = 4
NODES_PER_FEEDER = 8
# Unix seconds of a scenario's second 0, as in the given recordings.
STARTED_AT = 1760000000.0

# NVIDIA's data sheet of the H100 SXM.
MAX_CLOCK_MHZ = 1980.0
POWER_LIMIT_WATTS = 700.0
# No process: 74 to 78 W (facts, section 2).
IDLE_WATTS = 77.0
# An H100 at its power limit computes below its highest clock. The given recordings have medians of 640 W and 1785 MHz.
COMPUTE_CLOCK_MHZ = 1800.0
COMPUTE_WATTS = 638.0
# Efficient nodes draw less for good: 2.5 % in all three runs of MLPerf's nodes 44 and 55 (facts, section 2); here rather more.
EFFICIENT_SHARE = 0.96

NODE_OF_GPU = np.arange(GPUS) // GPUS_PER_NODE


def node_name(node):
    return f"node{node:05d}"


def gpus_of(node):
    return slice(node * GPUS_PER_NODE, (node + 1) * GPUS_PER_NODE)


@dataclass
class Boards:
    """What differs between healthy boards and stays so: the same SKU varies, and the difference is stable (facts, finding 4; SC'22 variability)."""

    # Of the clock under the same load; a board computes as much faster or slower.
    clock_ratio: np.ndarray
    # While computing at full clock.
    compute_watts: np.ndarray
    # Clock left when an operator lowers the application clocks of a job, and when one lowers its power limits.
    lowered_clock_ratio: float
    lowered_limit_ratio: float

    @classmethod
    def draw(cls, rng, scenario):
        clock_ratio = 1 + 0.0085 * rng.standard_normal(GPUS)
        # Nothing depends on these draws; without them all later ones would be others.
        rng.random(GPUS)
        boards = cls(
            clock_ratio=np.clip(clock_ratio, 0.972, 1.02),
            compute_watts=COMPUTE_WATTS * (1 + 0.028 * rng.standard_normal(GPUS)) * (1 + 0.009 * rng.standard_normal(NODES))[NODE_OF_GPU],
            lowered_clock_ratio=uniform(rng, 0.6, 0.88),
            lowered_limit_ratio=uniform(rng, 0.75, 0.95),
        )
        if efficient := scenario.harmless.get("efficient_node"):
            boards.compute_watts[gpus_of(efficient.node)] *= EFFICIENT_SHARE
        return boards


@dataclass
class Clocks:
    """When each node reads, once a second at a phase of its own, and how wrong its clock is."""

    # [second, node]: the true centres of the windows that GPUs are read in.
    centres: np.ndarray
    # What a node's stamps are off by.
    skew_seconds: np.ndarray

    @classmethod
    def draw(cls, rng, scenario):
        phase = rng.uniform(-0.5, 0.5, NODES)
        skew_seconds = np.zeros(NODES)
        if skewed := scenario.harmless.get("skew"):
            skew_seconds[skewed.node] = uniform(rng, 0.3, 2.5) * (1 if chance(rng, 0.5) else -1)
        return cls(np.arange(scenario.seconds)[:, None] + phase[None], skew_seconds)

    @property
    def gpu_centres(self):
        """[second, GPU]: a node's eight GPUs are read at the same instants."""
        return self.centres[:, NODE_OF_GPU]

    @property
    def node_centres(self):
        """[second, node]: counters of the host are read when the window ends."""
        return self.centres + 0.5
