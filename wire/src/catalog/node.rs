//! Metrics of the node itself.

use super::catalog;

catalog! {
    /// Metrics of the node itself (entity 0).
    NODE;

    power_watts "W" Gauge -3 Sweep:
        "power of the whole node",
        from "";
    cpu_power_watts "W" Gauge -3 Sweep:
        "power of the CPU packages",
        from "";
    cpu_utilization_ratio "1" Gauge -4 Sweep:
        "share of the CPU time that was used",
        from "/proc/stat";
    cpu_pressure_ratio "1" Gauge -4 Sweep:
        "share of the time that some task waited for a CPU",
        from "/proc/pressure/cpu";
    memory_used_bytes "By" Gauge 0 Sweep:
        "main memory in use",
        from "/proc/meminfo";
    network_bytes_per_second "By/s" Gauge 0 Sweep:
        "traffic of all network interfaces that have hardware, both directions",
        from "/proc/net/dev";
    network_link_bits_per_second "bit/s" State 0 Sweep:
        "rate of all network links that are up",
        from "/sys/class/net/*/speed";
    network_errors_total "1" Counter 0 Sweep:
        "packets damaged or not sent, of all network interfaces",
        from "/proc/net/dev";
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
}
