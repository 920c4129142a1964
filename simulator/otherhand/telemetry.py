"""All that is told of a scenario: sensors, then what faults and decoys change in it, totals of errors, and what of it is lost on its way."""

import numpy as np

from . import decoy, sensors, symptom
from .cluster import GPUS, NODES, gpus_of
from .draw import chance
from .temperature import draw_warmth, temperatures

# Of all samples, lost one by one.
LOST_SHARE = 5e-4
LOST_SHARE_WHERE_MISSING = 0.05
SILENT_SECONDS = 60


def tell(scenario, fleet, boards, clocks, rng):
    """Telemetry with totals of errors; which GPUs have a thermal bit that flickers."""
    telemetry = sensors.read(scenario, fleet, rng)
    air, extra_warmth = draw_warmth(scenario, rng)
    flickering = decoy.flicker(telemetry, fleet, extra_warmth, rng)
    telemetry.temperature_celsius = temperatures(fleet.channel("power_watts"), air, extra_warmth)
    for effect in fleet.effects:
        symptom.show(telemetry, effect, boards, clocks, rng)
    decoy.add(telemetry, scenario, boards, clocks, rng)
    telemetry.pcie_link_generation = sensors.idle_links(fleet, telemetry.pcie_link_generation)
    telemetry.pcie_replays = totals(telemetry.pcie_replays, 300, rng)
    telemetry.nvlink_errors = totals(telemetry.nvlink_errors, 5000, rng)
    telemetry.ecc_corrected = totals(telemetry.ecc_corrected, 300, rng)
    telemetry.remapped_rows = totals(telemetry.remapped_rows, 3, rng)
    telemetry.network_errors = np.cumsum(telemetry.network_errors, 0) + 1000
    telemetry.hbm_used_bytes = sensors.read_hbm(fleet, rng)
    return telemetry, flickering


def totals(errors, most_before, rng):
    """Counters; of one member in twelve it did not begin at zero."""
    before = np.where(rng.random(errors.shape[1]) < 0.08, rng.integers(1, most_before, errors.shape[1]), 0)
    return np.cumsum(errors, 0) + before


def arriving(scenario, rng):
    """[second, GPU]: which samples there are. In one scenario of three a node is silent for a minute."""
    arrives = rng.random((scenario.seconds, GPUS)) > LOST_SHARE
    if missing := scenario.harmless.get("missing"):
        if missing.strength < 0.5:
            arrives &= rng.random(arrives.shape) > LOST_SHARE_WHERE_MISSING
        else:
            start = int(missing.start)
            arrives[start : start + int(40 + 100 * (missing.strength - 0.5)), gpus_of(missing.node)] = False
    if chance(rng, 0.35):
        node = int(rng.integers(NODES))
        start = int(rng.integers(60, scenario.seconds - 70))
        arrives[start : start + SILENT_SECONDS, gpus_of(node)] = False
    return arrives
