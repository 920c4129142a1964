"""What a fault does to the steps of its job: how deep it must be to cost what it shall, and what it has cost."""

import numpy as np

from .cluster import GPUS_PER_NODE

# The slowest of many ranks, against their mean.
SLOWEST_RATIO = 1.012
# They slow a board by its clock, and so lower its watts by the clock's cube; the others leave the clock alone.
BY_CLOCK = {"thermal", "power_cap", "power_brake", "clock_lock"}
AT_FULL_CLOCK = {"hbm_degraded", "nvlink_errors", "unknown"}


class Effect:
    """Of T = max(C + o) + M (facts, section 2) a fault lengthens one term: the computing C of those whom it hits by their speed, the host's gap o
    before it, or the collective M of all."""

    def __init__(self, fault, job, node_of_gpu, gpu_in_node, compute_seconds):
        """The arrays are of the job's GPUs; `compute_seconds` as if nothing were wrong."""
        self.fault = fault
        self.members = node_of_gpu == fault.node
        if fault.gpu is not None:
            self.members = self.members & (gpu_in_node == fault.gpu)
        own = compute_seconds[self.members].max()
        slowest = compute_seconds.max() * SLOWEST_RATIO
        # A job that loses a share s of its speed takes 1 / (1 - s) as long.
        longer = (slowest + job.communicate_seconds) * fault.target_slowdown / (1 - fault.target_slowdown)
        # Who is done early costs nobody anything at first.
        self.extra_seconds = longer + max(slowest - own, 0)
        # Share of speed that is left.
        self.speed = 1.0
        # Of the collective.
        self.stretch = 1.0
        if fault.lengthens_collective:
            self.stretch = 1 + longer / job.communicate_seconds
            self.depth = 1 - 1 / self.stretch
        elif fault.cause in ("cpu_contention", "pcie_degraded"):
            self.depth = self.extra_seconds / own
        else:
            self.speed = own / (own + self.extra_seconds)
            self.depth = 1 - self.speed
        # Of all steps that it was part of: how long they took, and how long they would have taken without it.
        self.seconds_with = 0.0
        self.seconds_without = 0.0

    def speed_at(self, at):
        if self.fault.cause != "thermal":
            return self.speed
        return 1 - (1 - self.speed) * self.fault.heat(at)

    @property
    def job_slowdown(self):
        """As the contract of incidents defines it: 1 - speed with it / speed without."""
        return 1 - self.seconds_without / self.seconds_with if self.seconds_with else 0.0


def effects_of(faults, job, compute_seconds):
    gpus = np.arange(job.first_gpu, job.end_gpu)
    return [Effect(fault, job, gpus // GPUS_PER_NODE, gpus % GPUS_PER_NODE, compute_seconds) for fault in faults]
