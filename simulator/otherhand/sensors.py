"""What sensors read of a fleet: noise, rounding, and what a healthy board shows of its settings and limiters.

Sizes of noise are those of the given recordings, second by second."""

from dataclasses import dataclass

import numpy as np

from .cluster import GPUS, GPUS_PER_NODE, MAX_CLOCK_MHZ, NODES, POWER_LIMIT_WATTS
from .draw import noise

# Bits of NVML's clocks event reasons (nvml.h, facts section 2).
GPU_IDLE = 0x1
APPLICATION_CLOCKS = 0x2
SOFTWARE_POWER_CAP = 0x4
HARDWARE_SLOWDOWN = 0x8
SOFTWARE_THERMAL = 0x20
POWER_BRAKE = 0x80

CLOCK_STEP_MHZ = 15
PCIE_GENERATION = 5
PCIE_WIDTH = 16
NETWORK_LINK_BITS_PER_SECOND = 400e9
# An idle link falls to its first generation after some seconds; what has been moved in them decides.
LINK_IDLE_SECONDS = 8
LINK_MOVING_BYTES_PER_SECOND = 1e6
HBM_USED_BYTES = 71.0e9
HBM_FREE_BYTES = 0.5965e9


@dataclass
class Telemetry:
    """GPUs' are [second, GPU], nodes' are [second, node]. Errors are those of each second until `recording.py` sums them up."""

    power_watts: np.ndarray
    sm_active_ratio: np.ndarray
    tensor_active_ratio: np.ndarray
    dram_active_ratio: np.ndarray
    gpu_utilization_ratio: np.ndarray
    pcie_bytes_per_second: np.ndarray
    nvlink_bytes_per_second: np.ndarray
    sm_clock_mhz: np.ndarray
    clocks_event_reasons: np.ndarray
    power_limit_watts: np.ndarray
    pcie_link_width: np.ndarray
    # Of a link that moves something.
    pcie_link_generation: np.ndarray
    pcie_replays: np.ndarray
    nvlink_errors: np.ndarray
    ecc_corrected: np.ndarray
    remapped_rows: np.ndarray
    cpu_utilization_ratio: np.ndarray
    network_bytes_per_second: np.ndarray
    network_link_bits_per_second: np.ndarray
    network_errors: np.ndarray
    # Set by what follows.
    temperature_celsius: np.ndarray = None
    hbm_used_bytes: np.ndarray = None


def read(scenario, fleet, rng):
    shape = (scenario.seconds, GPUS)
    seconds = scenario.seconds
    watts = fleet.channel("power_watts")
    power_watts = watts + noise(rng, shape, 5.0) + (watts / 640) * noise(rng, shape, 2.0)
    sm_active_ratio = read_sm_active(fleet.channel("sm_active"), rng)
    tensor_active_ratio = read_active(fleet, "tensor_active", rng)
    dram_active_ratio = read_active(fleet, "dram_active", rng)
    utilization = fleet.channel("utilization")
    utilization = np.clip(np.round(utilization + (utilization > 0) * noise(rng, shape, 0.028), 2), 0, 1)
    pcie = np.maximum(0, fleet.channel("pcie_bytes_per_second") * (1 + noise(rng, shape, 0.04)))
    nvlink = np.maximum(0, fleet.channel("nvlink_bytes_per_second") * (1 + noise(rng, shape, 0.021)))
    return Telemetry(
        power_watts,
        sm_active_ratio,
        tensor_active_ratio,
        dram_active_ratio,
        utilization,
        pcie,
        nvlink,
        sm_clock_mhz=read_clock(fleet, rng),
        clocks_event_reasons=healthy_reasons(scenario, fleet),
        power_limit_watts=np.full(shape, POWER_LIMIT_WATTS),
        pcie_link_width=np.full(shape, PCIE_WIDTH, np.int64),
        pcie_link_generation=np.full(shape, PCIE_GENERATION, np.int64),
        pcie_replays=np.zeros(shape),
        nvlink_errors=np.zeros(shape),
        ecc_corrected=np.zeros(shape),
        remapped_rows=np.zeros(shape),
        cpu_utilization_ratio=read_cpu(fleet, seconds, rng),
        network_bytes_per_second=read_network(fleet, seconds, rng),
        network_link_bits_per_second=np.full((seconds, NODES), NETWORK_LINK_BITS_PER_SECOND),
        network_errors=np.zeros((seconds, NODES)),
    )


def read_sm_active(sm_active, rng):
    """Each board's has a gain of its own, for good."""
    shape = sm_active.shape
    running = (sm_active > 0.02) * noise(rng, shape, 0.0077)
    resting = (sm_active <= 0.02) * np.maximum(0, noise(rng, shape, 0.004))
    read = np.clip(sm_active + running + resting, 0, 1)
    gain = 1 + 0.003 * rng.standard_normal(GPUS)
    return np.clip(read * gain, 0, 1)


def read_active(fleet, name, rng):
    active = fleet.channel(name)
    running = fleet.channel("sm_active") > 0.005
    return np.clip(active + running * noise(rng, active.shape, 0.006), 0, 1)


def read_clock(fleet, rng):
    clock_mhz = fleet.channel("clock_mhz")
    read = np.round((clock_mhz + noise(rng, clock_mhz.shape, 8.0)) / CLOCK_STEP_MHZ) * CLOCK_STEP_MHZ
    read = np.minimum(read, MAX_CLOCK_MHZ)
    resting = fleet.without_process
    read[resting] = np.where(rng.random(resting.sum()) < 0.8, 345, 360)
    return read


def healthy_reasons(scenario, fleet):
    """The software power cap alone is normal at full load (facts, section 2)."""
    reasons = np.where(fleet.without_process, GPU_IDLE, 0).astype(np.int64)
    if scenario.application_clocks_shown:
        reasons |= np.where(fleet.without_process, 0, APPLICATION_CLOCKS)
    return reasons | np.where(fleet.busy, SOFTWARE_POWER_CAP, 0)


def read_cpu(fleet, seconds, rng):
    cpu = 0.2 + 0.012 * rng.standard_normal((seconds, NODES))
    cpu[fleet.without_process[:, ::GPUS_PER_NODE]] *= 0.17
    return cpu


def read_network(fleet, seconds, rng):
    by_node = fleet.channel("network_bytes_per_second").reshape(seconds, NODES, GPUS_PER_NODE).sum(2)
    return by_node * (1 + 0.03 * rng.standard_normal(by_node.shape))


def read_hbm(fleet, rng):
    held = np.where(fleet.without_process, HBM_FREE_BYTES, HBM_USED_BYTES)
    return held + 1e6 * rng.standard_normal(held.shape)


def idle_links(fleet, generation):
    """The generation that links show: the first where nothing has moved for a while."""
    moved = np.cumsum(fleet.channel("pcie_bytes_per_second") > LINK_MOVING_BYTES_PER_SECOND, 0)
    at_first = fleet.without_process[:LINK_IDLE_SECONDS]
    later = moved[LINK_IDLE_SECONDS:] == moved[:-LINK_IDLE_SECONDS]
    return np.where(np.concatenate([at_first, later]), 1, generation)
