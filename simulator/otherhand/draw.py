"""Draws from the one stream of random numbers."""

import math

import numpy as np


def uniform(rng, low, high):
    return float(rng.uniform(low, high))


def log_uniform(rng, low, high):
    """Each octave between the two is as likely as any other: for durations and rates, whose order of size is what is not known."""
    return float(np.exp(rng.uniform(np.log(low), np.log(high))))


def chance(rng, probability):
    return bool(rng.random() < probability)


def noise(rng, shape, deviation, correlation=0.24, freedom=5):
    """Noise along the first axis that remembers a little (AR 1) and has heavy tails (Student's t).

    Residuals of real nodes exceed five sigma in 1.2e-3 of all samples and have a lag-1 autocorrelation of .1 to .46 (facts, finding 5 and section
    3.1); .24 and five degrees of freedom are what the given recordings show second by second.
    """
    innovations = rng.standard_t(freedom, shape) * deviation * np.sqrt((freedom - 2) / freedom)
    fresh = math.sqrt(1 - correlation * correlation)
    noise = np.empty(shape)
    noise[0] = innovations[0]
    for second in range(1, shape[0]):
        noise[second] = correlation * noise[second - 1] + fresh * innovations[second]
    return noise
