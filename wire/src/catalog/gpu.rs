//! Metrics of one GPU.

use super::catalog;

catalog! {
    /// Metrics of one GPU.
    GPU;

    power_watts "W" Gauge -3 Power:
        "board power, instantaneous (the sensor's last window)",
        from "NVML_FI_DEV_POWER_INSTANT";
    power_average_watts "W" Gauge -3 Sweep:
        "board power, the driver's average over one second",
        from "NVML_FI_DEV_POWER_AVERAGE";
    energy_joules_total "J" Counter -3 Sweep:
        "energy of the board since the driver was loaded",
        from "nvmlDeviceGetTotalEnergyConsumption";
    temperature_celsius "Cel" Gauge 0 Sweep:
        "temperature of the GPU core",
        from "nvmlDeviceGetTemperature";
    memory_temperature_celsius "Cel" Gauge 0 Sweep:
        "temperature of the HBM",
        from "NVML_FI_DEV_MEMORY_TEMP";
    hbm_used_bytes "By" Gauge 0 Sweep:
        "HBM in use",
        from "nvmlDeviceGetMemoryInfo_v2";
    hbm_total_bytes "By" Gauge 0 Sweep:
        "HBM of the board",
        from "nvmlDeviceGetMemoryInfo_v2";
    sm_clock_mhz "MHz" Gauge 0 Sweep:
        "clock of the streaming multiprocessors",
        from "nvmlDeviceGetClockInfo";
    memory_clock_mhz "MHz" Gauge 0 Sweep:
        "clock of the HBM",
        from "nvmlDeviceGetClockInfo";
    gpu_utilization_ratio "1" Gauge -2 Sweep:
        "share of the driver's last sample period in which a kernel was resident",
        from "nvmlDeviceGetUtilizationRates";
    sm_active_ratio "1" Gauge -4 Sweep:
        "share of SM cycles with work since the sweep before (GPM)",
        from "NVML_GPM_METRIC_SM_UTIL";
    tensor_active_ratio "1" Gauge -4 Sweep:
        "share of tensor-core cycles with work since the sweep before (GPM)",
        from "NVML_GPM_METRIC_ANY_TENSOR_UTIL";
    dram_active_ratio "1" Gauge -4 Sweep:
        "share of the HBM's bandwidth in use since the sweep before (GPM)",
        from "NVML_GPM_METRIC_DRAM_BW_UTIL";
    clocks_event_reasons "1" State 0 Sweep:
        "bits of what limits the clocks now (nvml.h, nvmlClocksEventReason*)",
        from "nvmlDeviceGetCurrentClocksThrottleReasons";
    limited_power_seconds_total "s" Counter -9 Sweep:
        "time with the clocks held down by the power cap",
        from "NVML_FI_DEV_CLOCKS_EVENT_REASON_SW_POWER_CAP";
    limited_thermal_seconds_total "s" Counter -9 Sweep:
        "time with the clocks held down by heat",
        from "NVML_FI_DEV_CLOCKS_EVENT_REASON_SW_THERM_SLOWDOWN + …_HW_THERM_SLOWDOWN";
    limited_brake_seconds_total "s" Counter -9 Sweep:
        "time with the clocks held down by the power brake",
        from "NVML_FI_DEV_CLOCKS_EVENT_REASON_HW_POWER_BRAKE_SLOWDOWN";
    power_limit_watts "W" State -3 Sweep:
        "power limit that is enforced",
        from "nvmlDeviceGetEnforcedPowerLimit";
    pcie_link_generation "1" State 0 Sweep:
        "generation of the PCIe link now",
        from "nvmlDeviceGetCurrPcieLinkGeneration";
    pcie_link_width "1" State 0 Sweep:
        "lanes of the PCIe link now",
        from "nvmlDeviceGetCurrPcieLinkWidth";
    pcie_bytes_per_second "By/s" Gauge 0 Sweep:
        "PCIe traffic of both directions since the sweep before (GPM)",
        from "NVML_GPM_METRIC_PCIE_TX_PER_SEC + …_RX_PER_SEC";
    nvlink_bytes_per_second "By/s" Gauge 0 Sweep:
        "traffic of all NVLinks, both directions, since the sweep before (GPM)",
        from "NVML_GPM_METRIC_NVLINK_TOTAL_TX_PER_SEC + …_RX_PER_SEC";
    pcie_replays_total "1" Counter 0 Sweep:
        "PCIe packets sent again",
        from "nvmlDeviceGetPcieReplayCounter";
    nvlink_errors_total "1" Counter 0 Sweep:
        "replays (also those after CRC errors) and recoveries of all NVLinks",
        from "NVML_FI_DEV_NVLINK_ERROR_DL_REPLAY + …_RECOVERY of all links";
    ecc_corrected_total "1" Counter 0 Sweep:
        "corrected memory errors in the board's life",
        from "nvmlDeviceGetTotalEccErrors";
    ecc_uncorrected_total "1" Counter 0 Sweep:
        "uncorrected memory errors in the board's life",
        from "nvmlDeviceGetTotalEccErrors";
    remapped_rows_total "1" Counter 0 Sweep:
        "HBM rows remapped after corrected or uncorrected errors",
        from "NVML_FI_DEV_REMAPPED_COR + …_UNC";
    remap_pending "1" State 0 Sweep:
        "1: a row remapping waits for a reset of the GPU",
        from "NVML_FI_DEV_REMAPPED_PENDING";
    nvlink_links_up "1" State 0 Sweep:
        "NVLinks that are up",
        from "NVML_FI_DEV_NVLINK_GET_STATE of all links";
    up "1" State 0 Sweep:
        "1: the GPU answers; 0: its driver has lost it or a call hangs",
        from "whether calls for it return";
    job "1" State 0 Sweep:
        "the job that has the GPU; 0: idle",
        from "cgroup of its processes";
    xids_total "1" Counter 0 Sweep:
        "XIDs that the driver told since the agent started",
        from "nvmlEventSetWait_v2";
    memory_utilization_ratio "1" Gauge -2 Sweep:
        "share of the driver's last sample period in which memory was read or written",
        from "nvmlDeviceGetUtilizationRates";
    encoder_utilization_ratio "1" Gauge -2 Sweep:
        "use of the video encoders",
        from "nvmlDeviceGetEncoderUtilization";
    decoder_utilization_ratio "1" Gauge -2 Sweep:
        "use of the video decoders",
        from "nvmlDeviceGetDecoderUtilization";
    hbm_free_bytes "By" Gauge 0 Sweep:
        "HBM that is free",
        from "nvmlDeviceGetMemoryInfo_v2";
    hbm_reserved_bytes "By" Gauge 0 Sweep:
        "HBM that the driver keeps for itself",
        from "nvmlDeviceGetMemoryInfo_v2";
    engine_active_ratio "1" Gauge -4 Sweep:
        "share of the time since the sweep before in which a compute or graphics engine worked (GPM)",
        from "NVML_GPM_METRIC_GRAPHICS_UTIL";
    sm_occupancy_ratio "1" Gauge -4 Sweep:
        "warps on the SMs, of those that there is room for, since the sweep before (GPM)",
        from "NVML_GPM_METRIC_SM_OCCUPANCY";
    pcie_sent_bytes_per_second "By/s" Gauge 0 Sweep:
        "PCIe traffic from the GPU since the sweep before (GPM)",
        from "NVML_GPM_METRIC_PCIE_TX_PER_SEC";
    pcie_received_bytes_per_second "By/s" Gauge 0 Sweep:
        "PCIe traffic to the GPU since the sweep before (GPM)",
        from "NVML_GPM_METRIC_PCIE_RX_PER_SEC";
    nvlink_bytes_total "By" Counter 0 Sweep:
        "data over all NVLinks, both directions",
        from "NVML_FI_DEV_NVLINK_THROUGHPUT_DATA_TX + …_RX of all links";
    remapped_rows_corrected_total "1" Counter 0 Sweep:
        "HBM rows remapped after corrected errors",
        from "NVML_FI_DEV_REMAPPED_COR";
    remapped_rows_uncorrected_total "1" Counter 0 Sweep:
        "HBM rows remapped after uncorrected errors",
        from "NVML_FI_DEV_REMAPPED_UNC";
    remap_failed "1" State 0 Sweep:
        "1: a row could not be remapped",
        from "NVML_FI_DEV_REMAPPED_FAILURE";
    recovery_action "1" State 0 Sweep:
        "what the driver asks for: 0 nothing, 1 reset of the GPU, 2 reboot, 3 drain peer to peer, 4 drain and reset",
        from "NVML_FI_DEV_GET_GPU_RECOVERY_ACTION";
    xid_last "1" State 0 Sweep:
        "the last XID that the driver told since the agent started; none: no series",
        from "nvmlEventSetWait_v2";
    xid_last_timestamp_seconds "s" State -6 Sweep:
        "when the driver told the last XID, Unix time",
        from "nvmlEventSetWait_v2";
}
