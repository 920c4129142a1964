//! Metrics of the node itself.

use super::catalog;

catalog! {
    /// Metrics of the node itself (entity 0).
    NODE;

    power_watts "W" Gauge -3 Sweep:
        "power of the whole node, averaged over the meter's interval",
        from "/sys/class/hwmon/*/power1_average of an ACPI power meter";
    cpu_power_watts "W" Gauge -3 Sweep:
        "power of the CPU packages, averaged since the reading before",
        from "/sys/class/powercap/intel-rapl:*/energy_uj";
    cpu_utilization_ratio "1" Gauge -4 Sweep:
        "share of the CPU time that was used since the reading before",
        from "/proc/stat";
    cpu_pressure_ratio "1" Gauge -4 Sweep:
        "share of the time since the reading before that some task waited for a CPU",
        from "/proc/pressure/cpu";
    memory_used_bytes "By" Gauge 0 Sweep:
        "main memory in use",
        from "/proc/meminfo";
    network_bytes_per_second "By/s" Gauge 0 Sweep:
        "traffic of all network interfaces that have hardware, and of RDMA beside them, both directions",
        from "/proc/net/dev, /sys/class/infiniband/*/ports/*/counters";
    network_link_bits_per_second "bit/s" State 0 Sweep:
        "rate of all network links that are up",
        from "/sys/class/net/*/speed, /sys/class/infiniband/*/ports/*/rate";
    network_errors_total "1" Counter 0 Sweep:
        "packets damaged, not sent, or (RDMA) missed by who was to get them, of all network interfaces and ports",
        from "/proc/net/dev, /sys/class/infiniband/*/ports/*";
    clock_error_seconds "s" Gauge -6 Sweep:
        "bound on the error of the node's clock; 16 s where nothing keeps it synchronised",
        from "adjtimex(2)";
    job "1" State 0 Sweep:
        "the job that has the node; 0: idle",
        from "cgroup of the processes on its GPUs";
    clock_offset_seconds "s" Gauge -9 Sweep:
        "what the kernel still has to correct the clock by",
        from "adjtimex(2)";
    clock_estimated_error_seconds "s" Gauge -6 Sweep:
        "error of the node's clock as its time daemon estimates it",
        from "adjtimex(2)";
    clock_synchronised "1" State 0 Sweep:
        "1: something keeps the clock synchronised; 0: nothing does",
        from "adjtimex(2)";
    memory_total_bytes "By" State 0 Sweep:
        "main memory that there is",
        from "/proc/meminfo";
    memory_available_bytes "By" Gauge 0 Sweep:
        "main memory that could be had without swapping",
        from "/proc/meminfo";
    swap_total_bytes "By" State 0 Sweep:
        "swap space that there is",
        from "/proc/meminfo";
    swap_used_bytes "By" Gauge 0 Sweep:
        "swap space in use",
        from "/proc/meminfo";
    load_1m "1" Gauge -2 Sweep:
        "tasks that ran or wanted to, on average over 1 minute",
        from "/proc/loadavg";
    load_5m "1" Gauge -2 Sweep:
        "tasks that ran or wanted to, on average over 5 minutes",
        from "/proc/loadavg";
    load_15m "1" Gauge -2 Sweep:
        "tasks that ran or wanted to, on average over 15 minutes",
        from "/proc/loadavg";
    memory_pressure_ratio "1" Gauge -4 Sweep:
        "share of the time since the reading before that some task waited for memory",
        from "/proc/pressure/memory";
    memory_pressure_full_ratio "1" Gauge -4 Sweep:
        "share of the time since the reading before that every task waited for memory",
        from "/proc/pressure/memory";
    io_pressure_ratio "1" Gauge -4 Sweep:
        "share of the time since the reading before that some task waited for a disk",
        from "/proc/pressure/io";
    io_pressure_full_ratio "1" Gauge -4 Sweep:
        "share of the time since the reading before that every task waited for a disk",
        from "/proc/pressure/io";
    cpu_clock_mhz "MHz" Gauge 0 Slow:
        "clock of the CPUs, the mean over all",
        from "/sys/devices/system/cpu/cpu*/cpufreq/scaling_cur_freq";
    cpu_package_throttles_total "1" Counter 0 Slow:
        "times that a CPU package was slowed down by its heat, all packages",
        from "/sys/devices/system/cpu/cpu*/thermal_throttle/package_throttle_count";
    root_filesystem_size_bytes "By" State 0 Slow:
        "size of the root file system",
        from "statvfs(3)";
    root_filesystem_free_bytes "By" Gauge 0 Slow:
        "what users may still write to the root file system",
        from "statvfs(3)";
    state_filesystem_size_bytes "By" State 0 Slow:
        "size of the file system that the agent's spool is on",
        from "statvfs(3)";
    state_filesystem_free_bytes "By" Gauge 0 Slow:
        "what users may still write to the file system that the agent's spool is on",
        from "statvfs(3)";
}
