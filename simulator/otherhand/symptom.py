"""What shows of a fault beside the slowness itself: limiter bits, limits, links, error totals, the host's load.

By cause as the contract of incidents and the table of signals (facts, section 2) have it. Rates of errors have no published figure: they are drawn
widely, above and below those of the decoys. "unknown" shows nothing.
"""

import numpy as np

from .cluster import GPUS_PER_NODE, IDLE_WATTS, gpus_of
from .activity import WATTS_CUBED, WATTS_FIXED
from .draw import log_uniform, noise
from .sensors import HARDWARE_SLOWDOWN, POWER_BRAKE, SOFTWARE_POWER_CAP, SOFTWARE_THERMAL

# Software thermal slowdown, from where on it shows, mostly.
HOT_CELSIUS = 73
# How much warmer a failing cooling makes it, and how fast that shows.
COOLING_LOST_CELSIUS = 30
COOLING_LOST_PER_SECOND = 0.12


def show(telemetry, effect, boards, clocks, rng):
    fault = effect.fault
    if fault.gpu is None:
        show_of_node(telemetry, fault, clocks, rng)
        return
    gpu = fault.node * GPUS_PER_NODE + fault.gpu
    centres = clocks.gpu_centres[:, gpu]
    on = np.array([fault.active(at) for at in centres])
    if fault.cause == "thermal":
        show_heat(telemetry, fault, gpu, centres, on, rng)
    elif fault.cause == "power_cap":
        telemetry.power_limit_watts[on, gpu] = limit_watts(effect, boards.compute_watts[gpu])
    elif fault.cause == "clock_lock":
        # At a low clock a board does not reach its power limit.
        telemetry.clocks_event_reasons[on, gpu] &= ~SOFTWARE_POWER_CAP
    elif fault.cause == "hbm_degraded":
        telemetry.ecc_corrected[:, gpu] += errors(rng, on, 4, 40)
        if fault.facts:
            telemetry.remapped_rows[np.where(on)[0][:1], gpu] += int(rng.integers(1, 4))
    elif fault.cause == "nvlink_errors":
        telemetry.nvlink_errors[:, gpu] += errors(rng, on, 30, 400)
    elif fault.cause == "pcie_degraded":
        if fault.facts == 1:
            telemetry.pcie_link_generation[on, gpu] = int(rng.choice([2, 3]))
        else:
            telemetry.pcie_link_width[on, gpu] = int(rng.choice([4, 8]))
        telemetry.pcie_replays[:, gpu] += errors(rng, on, 0.5, 10)


def show_of_node(telemetry, fault, clocks, rng):
    if fault.cause == "power_brake":
        on = np.array([fault.active(at) for at in clocks.centres[:, fault.node]])
        telemetry.clocks_event_reasons[on, gpus_of(fault.node)] |= POWER_BRAKE | HARDWARE_SLOWDOWN
        return
    on = np.array([fault.active(at) for at in clocks.node_centres[:, fault.node]])
    if fault.cause == "network_slow":
        if fault.facts != 1:
            telemetry.network_errors[:, fault.node] += errors(rng, on, 15, 150)
        if fault.facts != 0:
            telemetry.network_link_bits_per_second[on, fault.node] = float(rng.choice([100e9, 200e9]))
    elif fault.cause == "cpu_contention":
        load = 0.6 + noise(rng, (len(on), 1), 0.13, 0.4)[:, 0]
        telemetry.cpu_utilization_ratio[on, fault.node] = np.clip(load, 0.25, 1)[on]


def errors(rng, on, low_per_second, high_per_second):
    """Of each second in which it is on."""
    return on * rng.poisson(log_uniform(rng, low_per_second, high_per_second), len(on))


def limit_watts(effect, compute_watts):
    """What a board draws at the clock that is left, in steps of 5 W; sometimes a step more, so that it is not quite reached."""
    drawn = IDLE_WATTS + (compute_watts - IDLE_WATTS) * (WATTS_FIXED + WATTS_CUBED * effect.speed**3)
    return np.ceil(drawn / 5) * 5 + (0 if effect.fault.facts else 5)


def show_heat(telemetry, fault, gpu, centres, on, rng):
    celsius = telemetry.temperature_celsius[:, gpu]
    warmer = 0.0
    for second, at in enumerate(centres):
        heat = fault.heat(at)
        warmer = warmer + (heat * COOLING_LOST_CELSIUS - warmer) * COOLING_LOST_PER_SECOND if heat > 0 else 0
        celsius[second] += warmer
    shown = on & (celsius > HOT_CELSIUS) & (rng.random(len(on)) < 0.75)
    telemetry.clocks_event_reasons[shown, gpu] |= SOFTWARE_THERMAL
