"""Facts that slow nobody: errors here and there, bursts of them, bits that flicker, a lower limit, a narrow link.

The given recordings have some of each, which is where numbers and rates come from. A fact without waiting peers is no straggler (contract of
incidents).
"""

import numpy as np

from .cluster import COMPUTE_WATTS, GPUS, GPUS_PER_NODE, IDLE_WATTS, NODES, gpus_of
from .activity import WATTS_CUBED, WATTS_FIXED
from .draw import log_uniform, uniform
from .sensors import APPLICATION_CLOCKS, HARDWARE_SLOWDOWN, POWER_BRAKE, SOFTWARE_POWER_CAP, SOFTWARE_THERMAL

# A lower limit that is above what the board draws.
LOW_LIMIT_WATTS = 680
NARROW_WIDTH = 8


def flicker(telemetry, fleet, extra_warmth, rng):
    """Some GPUs are warm, and their thermal bit flickers while they compute. Gives these GPUs."""
    gpus = [int(gpu) for gpu in rng.choice(GPUS, int(rng.integers(1, 4)), replace=False)]
    seconds = len(telemetry.clocks_event_reasons)
    for gpu in gpus:
        extra_warmth[gpu] += uniform(rng, 8, 14)
        # Two seconds each time.
        flickers = np.convolve(rng.random(seconds) < 0.03, [1, 1])[:seconds] > 0
        telemetry.clocks_event_reasons[fleet.busy[:, gpu] & flickers, gpu] |= SOFTWARE_THERMAL
    return gpus


def add(telemetry, scenario, boards, clocks, rng):
    add_errors(telemetry, rng)
    add_bursts(telemetry, scenario.seconds, rng)
    add_brakes(telemetry, scenario.seconds, rng)
    add_host_load(telemetry, scenario.seconds, rng)
    add_settings(telemetry, scenario, rng)
    show_harmless(telemetry, scenario, boards, clocks)


def add_errors(telemetry, rng):
    """Some have errors all along, by the second."""
    trickle(telemetry.pcie_replays, int(rng.integers(4, 8)), 0.01, 0.15, rng)
    trickle(telemetry.nvlink_errors, int(rng.integers(1, 6)), 0.03, 1.5, rng)
    trickle(telemetry.ecc_corrected, int(rng.integers(5, 8)), 0.003, 0.7, rng)
    trickle(telemetry.network_errors, int(rng.integers(1, 4)), 0.3, 6, rng)


def trickle(errors, count, low_per_second, high_per_second, rng):
    seconds, members = errors.shape
    for member in rng.choice(members, count, replace=False):
        errors[:, member] += rng.poisson(log_uniform(rng, low_per_second, high_per_second), seconds)


def add_bursts(telemetry, scenario_seconds, rng):
    """One of each kind that GPUs count, on any GPU at any time: also in a pause, or beside another's fault."""
    for errors, per_second, seconds in ((telemetry.pcie_replays, 2.2, 60), (telemetry.nvlink_errors, 41, 40), (telemetry.ecc_corrected, 3.3, 60)):
        gpu = int(rng.integers(GPUS))
        start = int(rng.integers(60, scenario_seconds - seconds - 10))
        errors[start : start + seconds, gpu] += rng.poisson(per_second, seconds)


def add_brakes(telemetry, scenario_seconds, rng):
    """A power brake of two seconds slows nobody that one could see."""
    for node in rng.choice(NODES, 2, replace=False):
        start = int(rng.integers(60, scenario_seconds - 20))
        telemetry.clocks_event_reasons[start : start + 2, gpus_of(node)] |= POWER_BRAKE | HARDWARE_SLOWDOWN


def add_host_load(telemetry, scenario_seconds, rng):
    for node in rng.choice(NODES, int(rng.integers(1, 4)), replace=False):
        start = int(rng.integers(60, scenario_seconds - 70))
        seconds = int(rng.integers(20, 60))
        telemetry.cpu_utilization_ratio[start : start + seconds, node] = np.clip(0.6 + 0.1 * rng.standard_normal(seconds), 0.3, 1)


def add_settings(telemetry, scenario, rng):
    capped = {fault.node for fault in scenario.faults if fault.cause == "power_cap"}
    for _ in range(4 if "lowlimit_more" in scenario.harmless else 1):
        node = int(rng.integers(NODES))
        if node not in capped:
            telemetry.power_limit_watts[:, gpus_of(node)] = LOW_LIMIT_WATTS
    for _ in range(4 if "narrow_more" in scenario.harmless else 1):
        gpu = int(rng.integers(GPUS))
        telemetry.pcie_link_width[:, gpu] = np.minimum(telemetry.pcie_link_width[:, gpu], NARROW_WIDTH)


def show_harmless(telemetry, scenario, boards, clocks):
    """What tells of clocks and limits that an operator has lowered."""
    centres = clocks.gpu_centres
    if lowered := scenario.harmless.get("limit_all"):
        # A little above what the boards draw then.
        watts = IDLE_WATTS + (COMPUTE_WATTS * 1.06 - IDLE_WATTS) * (WATTS_FIXED + WATTS_CUBED * boards.lowered_limit_ratio**3)
        telemetry.power_limit_watts[of_job(scenario, lowered, centres)] = np.round(watts)
    if early := scenario.harmless.get("noncritical"):
        gpu = early.node * GPUS_PER_NODE + early.gpu
        telemetry.clocks_event_reasons[early.holds(centres[:, gpu]), gpu] |= APPLICATION_CLOCKS
    if lowered := scenario.harmless.get("appclk_all"):
        hit = of_job(scenario, lowered, centres)
        telemetry.clocks_event_reasons[hit] = (telemetry.clocks_event_reasons[hit] & ~SOFTWARE_POWER_CAP) | APPLICATION_CLOCKS


def of_job(scenario, harmless, centres):
    """[second, GPU]: it befalls the whole job."""
    job = scenario.jobs[harmless.job]
    members = np.zeros(GPUS, bool)
    members[job.first_gpu : job.end_gpu] = True
    return harmless.holds(centres) & members
