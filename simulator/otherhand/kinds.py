"""The words by which a scenario is asked for."""

KINDS = ("mixed", "plain", "plain-clipped")
# The causes of ../shared/contracts/incidents.md. Their order is part of what a seed means.
CAUSES = (
    "thermal",
    "power_cap",
    "power_brake",
    "clock_lock",
    "hbm_degraded",
    "pcie_degraded",
    "nvlink_errors",
    "network_slow",
    "cpu_contention",
    "unknown",
)
FAULTS = ("any", "none", "two", *CAUSES)
