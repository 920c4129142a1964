"""What a GPU does at a moment, as its sensors would see it if they had neither noise nor a window.

Where no other source is named, levels are medians of the given recordings: computing at SM .91, tensor .46, DRAM .38, utilisation .94; communicating
at 308 W, SM .24, DRAM .138 and 139 GB/s of NVLink; spinning at 154 W.
"""

import numpy as np

# What a timeline integrates, in this order.
CHANNELS = (
    "power_watts",
    "sm_active",
    "tensor_active",
    "dram_active",
    "clock_mhz",
    "utilization",
    "pcie_bytes_per_second",
    "nvlink_bytes_per_second",
    "network_bytes_per_second",
    "computing",
)
CHANNEL = {name: index for index, name in enumerate(CHANNELS)}

IDLE_CLOCK_MHZ = 350.0
# A read below this is of a board without a process.
IDLE_BELOW_MHZ = 360.0

# Busily waiting in a collective: 150 to 157 W at a utilisation of 95 % and more (facts, section 2); a collective's 24 blocks occupy 18 % of 132 SMs.
SPIN_WATTS = 154.0
SPIN_SM_ACTIVE = 0.172
# Moving data in a collective: no published figure by GPU.
COLLECTIVE_WATTS = 308.0
COLLECTIVE_SM_ACTIVE = 0.24
COLLECTIVE_DRAM_ACTIVE = 0.138
# Watts above idle by clock: a third does not depend on it, two thirds by its cube (voltage falls with frequency).
WATTS_FIXED = 1 / 3
WATTS_CUBED = 2 / 3


def activity(gpus, watts, sm, tensor, dram, clock_mhz, utilization, pcie=0.0, nvlink=0.0, network=0.0, computing=0.0):
    """[GPU, channel]; each argument is one figure or one a GPU. Bytes are per second, in both directions."""
    values = (watts, sm, tensor, dram, clock_mhz, utilization, pcie, nvlink, network, computing)
    return np.stack([np.broadcast_to(value, (gpus,)).astype(float) for value in values], axis=1)


def idle(gpus):
    """No process."""
    return activity(gpus, 77.0, 0, 0, 0, IDLE_CLOCK_MHZ, 0)


def host_busy(gpus, clock_mhz):
    """A process whose host has not launched a kernel. The facts' node reads 142 W then; the given recordings little more than idle, as here."""
    return activity(gpus, 77.0, 0, 0, 0, clock_mhz, 0.02)


def writing(gpus, clock_mhz):
    """The host saves a checkpoint: utilisation of 5 % and less."""
    return activity(gpus, 75.0, 0, 0, 0, clock_mhz, 0.01)


def waiting_for_writer(gpus, clock_mhz):
    return activity(gpus, 152.0, SPIN_SM_ACTIVE, 0, 0.02, clock_mhz, 0.985)


def spinning(gpus, clock_mhz):
    return activity(gpus, SPIN_WATTS, SPIN_SM_ACTIVE, 0, 0.021, clock_mhz, 0.99)


def evaluating(gpus, boards_watts, clock_mhz):
    return activity(gpus, boards_watts * 0.72, 0.6, 0.28, 0.3, clock_mhz, 0.9, pcie=0.5e9, nvlink=30e9)


def copying_from_host(gpus, clock_mhz, pcie):
    return activity(gpus, 160.0, 0.05, 0, 0.05, clock_mhz, 0.6, pcie=pcie)


def computing(gpus, watts, clock_mhz, work_rate, tensor_ratio, dram_ratio):
    """`work_rate`: by wall time, against a healthy board; what is moved goes with it."""
    moved = {"pcie": 2.0e9 * work_rate, "nvlink": 60e9 * work_rate}
    return activity(gpus, watts, 0.91, 0.46 * tensor_ratio, 0.38 * dram_ratio, clock_mhz, 0.94, **moved, computing=1.0)


def communicating(gpus, watts, sm, dram, clock_mhz, rate):
    """`rate`: of moving, against a healthy collective."""
    return activity(gpus, watts, sm, 0.003, dram, clock_mhz, 0.97, pcie=22e9 * rate, nvlink=140e9 * rate, network=24e9 * rate)
