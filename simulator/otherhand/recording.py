"""The folder that a collector replays, in the format of ../shared/contracts/recording.md."""

import numpy as np
import pyarrow as pa
import pyarrow.parquet as parquet

from .cluster import GPUS_PER_NODE, NODE_OF_GPU, NODES, NODES_PER_FEEDER, NODES_PER_RACK, STARTED_AT, node_name
from .temperature import MEMORY_ABOVE_CELSIUS


def write(folder, telemetry, job_names, arrives, clocks):
    write_gpus(folder / "gpu-000.parquet", telemetry, job_names, arrives, clocks)
    write_nodes(folder / "node-000.parquet", telemetry, clocks)
    lines = [f"{node_name(node)},rack{node // NODES_PER_RACK:04d},feeder{node // NODES_PER_FEEDER}\n" for node in range(NODES)]
    (folder / "topology.csv").write_text("node,rack,feeder\n" + "".join(lines))


def write_gpus(path, telemetry, job_names, arrives, clocks):
    stamps = clocks.gpu_centres + clocks.skew_seconds[NODE_OF_GPU]
    seconds, gpus = np.where(arrives)
    order = np.argsort(stamps[seconds, gpus], kind="stable")
    rows = seconds[order], gpus[order]

    def column(values, kind):
        return pa.array(values[rows].astype(kind))

    celsius = np.round(telemetry.temperature_celsius)
    columns = {
        "ts": timestamps(stamps[rows]),
        "node": node_column(NODE_OF_GPU[rows[1]]),
        "gpu": pa.array((rows[1] % GPUS_PER_NODE).astype("uint8")),
        "job": pa.array(list(job_names[rows]), pa.string()),
        "power_watts": column(np.round(telemetry.power_watts, 1), "float32"),
        "temperature_celsius": column(celsius, "float32"),
        "memory_temperature_celsius": column(celsius + MEMORY_ABOVE_CELSIUS, "float32"),
        "hbm_used_bytes": column(telemetry.hbm_used_bytes, "uint64"),
        "sm_clock_mhz": column(telemetry.sm_clock_mhz, "float32"),
        "gpu_utilization_ratio": column(telemetry.gpu_utilization_ratio, "float32"),
        "sm_active_ratio": column(telemetry.sm_active_ratio, "float32"),
        "tensor_active_ratio": column(telemetry.tensor_active_ratio, "float32"),
        "dram_active_ratio": column(telemetry.dram_active_ratio, "float32"),
        "clocks_event_reasons": column(telemetry.clocks_event_reasons, "uint64"),
        "power_limit_watts": column(telemetry.power_limit_watts, "float32"),
        "pcie_link_generation": column(telemetry.pcie_link_generation, "uint8"),
        "pcie_link_width": column(telemetry.pcie_link_width, "uint8"),
        "pcie_bytes_per_second": column(telemetry.pcie_bytes_per_second, "float32"),
        "nvlink_bytes_per_second": column(telemetry.nvlink_bytes_per_second, "float32"),
        "pcie_replays_total": column(telemetry.pcie_replays, "uint64"),
        "nvlink_errors_total": column(telemetry.nvlink_errors, "uint64"),
        "ecc_corrected_total": column(telemetry.ecc_corrected, "uint64"),
        "remapped_rows_total": column(telemetry.remapped_rows, "uint64"),
    }
    parquet.write_table(pa.table(columns), path, compression="zstd")


def write_nodes(path, telemetry, clocks):
    stamps = clocks.node_centres + clocks.skew_seconds
    order = np.argsort(stamps.ravel(), kind="stable")

    def column(values, kind):
        return pa.array(values.ravel()[order].astype(kind))

    columns = {
        "ts": timestamps(stamps.ravel()[order]),
        "node": node_column(np.tile(np.arange(NODES), len(stamps))[order]),
        "cpu_utilization_ratio": column(telemetry.cpu_utilization_ratio.clip(0, 1), "float32"),
        "network_bytes_per_second": column(telemetry.network_bytes_per_second, "float32"),
        "network_link_bits_per_second": column(telemetry.network_link_bits_per_second, "float64"),
        "network_errors_total": column(telemetry.network_errors, "uint64"),
    }
    parquet.write_table(pa.table(columns), path, compression="zstd")


def timestamps(seconds):
    microseconds = np.round((seconds + STARTED_AT) * 1e6).astype("int64")
    return pa.array(microseconds).cast(pa.timestamp("us", tz="UTC"))


def node_column(nodes):
    return pa.DictionaryArray.from_arrays(pa.array(nodes.astype("int32")), pa.array([node_name(node) for node in range(NODES)]))
