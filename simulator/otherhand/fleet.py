"""What all GPUs did in each second: the jobs' timelines in the windows that each node reads."""

from dataclasses import dataclass

import numpy as np

from .activity import CHANNEL, CHANNELS, IDLE_BELOW_MHZ, idle
from .cluster import GPUS, NODE_OF_GPU
from .effect import Effect
from .training import Training

# Of a window, from which it shows as computing.
COMPUTING_SHARE = 0.5


@dataclass
class Fleet:
    # [second, GPU, channel]
    means: np.ndarray
    # [second, GPU], None where it is idle.
    job_names: np.ndarray
    # In the order of the scenario's faults.
    effects: list[Effect]

    def channel(self, name):
        return self.means[:, :, CHANNEL[name]]

    @property
    def without_process(self):
        return self.channel("clock_mhz") < IDLE_BELOW_MHZ

    @property
    def busy(self):
        return self.channel("computing") > COMPUTING_SHARE


def run_jobs(scenario, boards, clocks, rng):
    means = np.zeros((scenario.seconds, GPUS, len(CHANNELS)))
    means[:, :] = idle(1)
    job_names = np.full((scenario.seconds, GPUS), None, object)
    effects = []
    for index, job in enumerate(scenario.jobs):
        training = Training(scenario, index, boards, rng)
        timeline = training.run()
        effects += training.effects
        for gpu in range(job.first_gpu, job.end_gpu):
            centres = clocks.centres[:, NODE_OF_GPU[gpu]]
            means[:, gpu] = timeline.means(gpu - job.first_gpu, centres)
            job_names[job.holds(centres), gpu] = job.name
    effects.sort(key=lambda effect: scenario.faults.index(effect.fault))
    return Fleet(means, job_names, effects)
