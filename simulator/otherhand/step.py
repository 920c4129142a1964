"""One step of a job: what each rank takes, how faults change that, and the pieces of activity that it is made of."""

from dataclasses import dataclass

import numpy as np

from .activity import (
    COLLECTIVE_DRAM_ACTIVE,
    COLLECTIVE_SM_ACTIVE,
    COLLECTIVE_WATTS,
    SPIN_SM_ACTIVE,
    SPIN_WATTS,
    WATTS_CUBED,
    WATTS_FIXED,
    communicating,
    computing,
    copying_from_host,
    host_busy,
    spinning,
)
from .cluster import IDLE_WATTS, MAX_CLOCK_MHZ
from .effect import AT_FULL_CLOCK, BY_CLOCK

# Of a PCIe link that starves its GPU: what it still brings.
NARROW_LINK_BYTES_PER_SECOND = 12e9


@dataclass
class Load:
    """What a step asks of each rank, before any fault."""

    # At the clock that the job is given.
    compute_seconds: np.ndarray
    # Of that clock, 1 is a board's own.
    clock_share: np.ndarray
    # Somebody lowered clocks, so watts go by them.
    watts_by_clock: bool
    # Before it computes, as its host is late.
    gap_seconds: np.ndarray
    communicate_seconds: float

    @property
    def seconds(self):
        return (self.gap_seconds + self.compute_seconds / self.clock_share).max() + self.communicate_seconds


class Step:
    """A load under those faults that are active."""

    def __init__(self, load, at, effects, host_delays, busy_clock_mhz):
        """`host_delays`: by effect, in units of its extra seconds, for those of the host."""
        gpus = len(load.compute_seconds)
        self.gpus = gpus
        self.work_rate = load.clock_share.copy()
        self.tensor_ratio = np.ones(gpus)
        self.watts_ratio = WATTS_FIXED + WATTS_CUBED * load.clock_share**3 if load.watts_by_clock else np.ones(gpus)
        self.gap_seconds = load.gap_seconds.copy()
        self.copy_seconds = np.zeros(gpus)
        # Of the collective, by who lengthens it.
        self.stretch = np.ones(gpus)
        self.clock_mhz = busy_clock_mhz * load.clock_share
        for effect in effects:
            self.suffer(effect, at, host_delays.get(id(effect)))
        self.compute_seconds = load.compute_seconds / self.work_rate
        self.arrivals = self.gap_seconds + self.copy_seconds + self.compute_seconds
        self.last_arrival = self.arrivals.max()
        self.communicate_seconds = load.communicate_seconds
        # The first of several.
        self.lengthener = next((effect.fault for effect in effects if effect.fault.lengthens_collective), None)

    @property
    def seconds(self):
        return self.last_arrival + self.communicate_seconds * self.stretch.max()

    def suffer(self, effect, at, host_delay):
        fault, hit = effect.fault, effect.members
        if fault.cause in BY_CLOCK:
            speed = effect.speed_at(at)
            self.work_rate[hit] *= speed
            self.watts_ratio[hit] *= WATTS_FIXED + WATTS_CUBED * speed**3
            # A lock holds one clock, whatever the board could do; others lower what it does.
            self.clock_mhz[hit] = MAX_CLOCK_MHZ * effect.speed if fault.cause == "clock_lock" else self.clock_mhz[hit] * speed
        elif fault.cause in AT_FULL_CLOCK:
            # The GB10 of the facts (finding 10): clocks and reasons perfect, the only outside sign is power.
            self.work_rate[hit] *= effect.speed
            self.watts_ratio[hit] *= 0.7 + 0.3 * effect.speed
            if fault.activity_falls:
                self.tensor_ratio[hit] = effect.speed
        elif fault.cause == "cpu_contention":
            self.gap_seconds[hit] += effect.extra_seconds * host_delay
        elif fault.lengthens_collective:
            self.stretch[hit] = effect.stretch
        else:
            self.copy_seconds[hit] += effect.extra_seconds

    def write(self, timeline, compute_watts, waiting_clock_mhz):
        """Gap, copy, compute, wait for the last one, communicate."""
        clock_mhz = waiting_clock_mhz
        if self.gap_seconds.any():
            timeline.add(self.gap_seconds, host_busy(self.gpus, clock_mhz))
        if self.copy_seconds.any():
            pcie = np.where(self.copy_seconds > 0, NARROW_LINK_BYTES_PER_SECOND, 0)
            timeline.add(self.copy_seconds, copying_from_host(self.gpus, clock_mhz, pcie))
        watts = IDLE_WATTS + (compute_watts - IDLE_WATTS) * self.watts_ratio
        # Activities are cycles of the unit: of one that waits for memory the tensor cores' fall, DRAM's go with the work.
        dram_ratio = np.where(self.tensor_ratio < 1, self.tensor_ratio, self.work_rate)
        timeline.add(self.compute_seconds, computing(self.gpus, watts, self.clock_mhz, self.work_rate, self.tensor_ratio, dram_ratio))
        timeline.add(self.last_arrival - self.arrivals, spinning(self.gpus, clock_mhz))
        self.write_collective(timeline, clock_mhz)

    def write_collective(self, timeline, clock_mhz):
        moving_seconds = self.communicate_seconds
        longest = self.stretch.max()
        if longest == 1:
            moving = communicating(self.gpus, COLLECTIVE_WATTS, COLLECTIVE_SM_ACTIVE, COLLECTIVE_DRAM_ACTIVE, clock_mhz, rate=1)
            timeline.add(moving_seconds, moving)
        elif self.lengthener.variant == 0:
            # Victims finish at their own rate, and then spin.
            own_seconds = moving_seconds * self.stretch
            rate = 1 / self.stretch
            watts = COLLECTIVE_WATTS - 60 * (1 - rate)
            moving = communicating(self.gpus, watts, COLLECTIVE_SM_ACTIVE, COLLECTIVE_DRAM_ACTIVE * rate, clock_mhz, rate)
            timeline.add(own_seconds, moving)
            timeline.add(moving_seconds * longest - own_seconds, spinning(self.gpus, clock_mhz))
        else:
            # All move at the culprit's rate: victims wait amid it, the culprit does not.
            rate = 1 / longest
            culprit = self.stretch > 1
            watts = SPIN_WATTS + (COLLECTIVE_WATTS - SPIN_WATTS) * np.where(culprit, 0.75, rate)
            sm = SPIN_SM_ACTIVE + (COLLECTIVE_SM_ACTIVE - SPIN_SM_ACTIVE) * np.where(culprit, 1, rate)
            timeline.add(moving_seconds * longest, communicating(self.gpus, watts, sm, 0.02 + 0.118 * rate, clock_mhz, rate))
