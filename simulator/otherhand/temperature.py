"""GPU temperatures: they follow power with a lag, above air of their own. Constants fit the given recordings."""

import numpy as np

from .cluster import GPUS, IDLE_WATTS, NODES, NODE_OF_GPU, gpus_of
from .draw import uniform

IDLE_CELSIUS = 28
CELSIUS_PER_WATT = 0.064
LAG_SECONDS = 22.0
# HBM is so much warmer.
MEMORY_ABOVE_CELSIUS = 9


def draw_warmth(scenario, rng):
    """By GPU: by how much it is warmer than the mean, under load. Returned in two parts, as what comes later adds to the second."""
    air = IDLE_CELSIUS + 1.5 * rng.standard_normal(GPUS) + 0.8 * rng.standard_normal(NODES)[NODE_OF_GPU]
    extra = np.zeros(GPUS)
    if hot := scenario.harmless.get("hot_node"):
        extra[gpus_of(hot.node)] += uniform(rng, 6, 14)
    return air, extra


def temperatures(watts, air, extra):
    """[second, GPU]"""
    offset = air - IDLE_CELSIUS + extra
    # Of an idle board less shows.
    shows = np.clip((watts - IDLE_WATTS) / 300, 0.2, 1)
    target = IDLE_CELSIUS + (watts - IDLE_WATTS) * CELSIUS_PER_WATT + offset * shows
    now = IDLE_CELSIUS + offset * 0.3 + (watts[0] - IDLE_WATTS) * CELSIUS_PER_WATT
    celsius = np.empty(watts.shape)
    for second in range(len(watts)):
        now = now + (target[second] - now) / LAG_SECONDS
        celsius[second] = now
    return celsius
