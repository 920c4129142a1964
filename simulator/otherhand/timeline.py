"""What the GPUs of a job did, piece after piece, and its means over any window."""

import numpy as np

from .activity import CHANNELS, idle

# The timeline begins so long before the recording, and ends so long after the job.
LEAD_SECONDS = 200.0
TAIL_SECONDS = 5000.0


class Timeline:
    """Pieces of constant activity. All GPUs go through the same pieces, each for as long as it takes itself."""

    def __init__(self, gpus):
        self.gpus = gpus
        self.durations = []
        self.activities = []

    def add(self, seconds, activity):
        """`seconds`: one figure, or one a GPU."""
        self.durations.append(np.broadcast_to(seconds, (self.gpus,)).astype(float))
        self.activities.append(activity)

    def add_idle(self, seconds):
        self.add(seconds, idle(self.gpus))

    def integrate(self):
        """Call it once all pieces are there, before means are asked for."""
        durations = np.array(self.durations)
        activities = np.array(self.activities)
        self.edges = np.concatenate([np.full((1, self.gpus), -LEAD_SECONDS), -LEAD_SECONDS + np.cumsum(durations, 0)])
        integrals = np.cumsum(durations[:, :, None] * activities, 0)
        self.integrals = np.concatenate([np.zeros((1, self.gpus, len(CHANNELS))), integrals])

    def means(self, gpu, centres):
        """[window, channel] over the second around each centre."""
        start = centres - 0.5
        end = start + 1
        edges, integrals = self.edges[:, gpu], self.integrals[:, gpu]
        return np.stack([np.interp(end, edges, integral) - np.interp(start, edges, integral) for integral in integrals.T], axis=1)
