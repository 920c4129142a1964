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
        from "NVML_FI_DEV_TOTAL_ENERGY_CONSUMPTION, else nvmlDeviceGetTotalEnergyConsumption";
    temperature_celsius "Cel" Gauge 0 Sweep:
        "temperature of the GPU core",
        from "nvmlDeviceGetTemperatureV, else nvmlDeviceGetTemperature";
    memory_temperature_celsius "Cel" Gauge 0 Sweep:
        "temperature of the HBM",
        from "NVML_FI_DEV_MEMORY_TEMP";
    hbm_used_bytes "By" Gauge 0 Sweep:
        "HBM in use",
        from "nvmlDeviceGetMemoryInfo_v2";
    hbm_total_bytes "By" Gauge 0 Slow:
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
        from "nvmlDeviceGetCurrentClocksEventReasons, else …ThrottleReasons";
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
        from "NVML_FI_DEV_POWER_CURRENT_LIMIT, else nvmlDeviceGetEnforcedPowerLimit";
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
        from "NVML_FI_DEV_PCIE_REPLAY_COUNTER, else nvmlDeviceGetPcieReplayCounter";
    nvlink_errors_total "1" Counter 0 Sweep:
        "replays (also those after CRC errors) and recoveries of all NVLinks",
        from "NVML_FI_DEV_NVLINK_ERROR_DL_REPLAY + …_RECOVERY of all links";
    ecc_corrected_total "1" Counter 0 Sweep:
        "corrected memory errors in the board's life",
        from "NVML_FI_DEV_ECC_SBE_AGG_TOTAL, else nvmlDeviceGetTotalEccErrors";
    ecc_uncorrected_total "1" Counter 0 Sweep:
        "uncorrected memory errors in the board's life",
        from "NVML_FI_DEV_ECC_DBE_AGG_TOTAL, else nvmlDeviceGetTotalEccErrors";
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
    encoder_utilization_ratio "1" Gauge -2 Slow:
        "use of the video encoders",
        from "nvmlDeviceGetEncoderUtilization";
    decoder_utilization_ratio "1" Gauge -2 Slow:
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
    remapped_rows_corrected_total "1" Counter 0 Slow:
        "HBM rows remapped after corrected errors",
        from "NVML_FI_DEV_REMAPPED_COR";
    remapped_rows_uncorrected_total "1" Counter 0 Slow:
        "HBM rows remapped after uncorrected errors",
        from "NVML_FI_DEV_REMAPPED_UNC";
    remap_failed "1" State 0 Slow:
        "1: a row could not be remapped",
        from "NVML_FI_DEV_REMAPPED_FAILURE";
    recovery_action "1" State 0 Slow:
        "what the driver asks for: 0 nothing, 1 reset of the GPU, 2 reboot, 3 drain peer to peer, 4 drain and reset",
        from "NVML_FI_DEV_GET_GPU_RECOVERY_ACTION";
    xid_last "1" State 0 Sweep:
        "the last XID that the driver told since the agent started; none: no series",
        from "nvmlEventSetWait_v2";
    xid_last_timestamp_seconds "s" State -6 Sweep:
        "when the driver told the last XID, Unix time",
        from "nvmlEventSetWait_v2";
    fp64_active_ratio "1" Gauge -4 Sweep:
        "share of the FP64 pipe's cycles with work since the sweep before (GPM)",
        from "NVML_GPM_METRIC_FP64_UTIL";
    fp32_active_ratio "1" Gauge -4 Sweep:
        "share of the FP32 pipe's cycles with work since the sweep before (GPM)",
        from "NVML_GPM_METRIC_FP32_UTIL";
    fp16_active_ratio "1" Gauge -4 Sweep:
        "share of the FP16 pipe's cycles with work since the sweep before (GPM)",
        from "NVML_GPM_METRIC_FP16_UTIL";
    nvlink_sent_bytes_per_second "By/s" Gauge 0 Sweep:
        "traffic of all NVLinks from the GPU since the sweep before (GPM)",
        from "NVML_GPM_METRIC_NVLINK_TOTAL_TX_PER_SEC";
    nvlink_received_bytes_per_second "By/s" Gauge 0 Sweep:
        "traffic of all NVLinks to the GPU since the sweep before (GPM)",
        from "NVML_GPM_METRIC_NVLINK_TOTAL_RX_PER_SEC";
    gpm_state "1" State 0 Sweep:
        "performance monitoring (GPM): 0 the board has none or it is switched off, 1 it is read, 2 the driver refuses it, as where another profiler holds it",
        from "whether nvmlGpmSampleGet and nvmlGpmMetricsGet succeed";
    gpm_refusals_total "1" Counter 0 Slow:
        "times that the driver refused performance monitoring since the reader started; it is tried again every tenth sweep",
        from "whether nvmlGpmSampleGet and nvmlGpmMetricsGet succeed";
    pcie_sent_bytes_total "By" Counter 0 Sweep:
        "data over PCIe from the GPU since the reader started; the driver counts to 4 GiB, how often it began anew follows from GPM",
        from "NVML_FI_DEV_PCIE_COUNT_TX_BYTES";
    pcie_received_bytes_total "By" Counter 0 Sweep:
        "data over PCIe to the GPU since the reader started; the driver counts to 4 GiB, how often it began anew follows from GPM",
        from "NVML_FI_DEV_PCIE_COUNT_RX_BYTES";
    temperature_margin_celsius "Cel" Gauge 0 Sweep:
        "degrees left until heat holds the clocks down",
        from "nvmlDeviceGetMarginTemperature";
    processes "1" State 0 Sweep:
        "compute processes on the GPU",
        from "nvmlDeviceGetComputeRunningProcesses_v3";
    process_memory_bytes "By" Gauge 0 Sweep:
        "HBM that compute processes have",
        from "nvmlDeviceGetComputeRunningProcesses_v3";
    power_limit_min_watts "W" State -3 Slow:
        "lowest power limit that can be set",
        from "NVML_FI_DEV_POWER_MIN_LIMIT";
    power_limit_max_watts "W" State -3 Slow:
        "highest power limit that can be set",
        from "NVML_FI_DEV_POWER_MAX_LIMIT";
    power_limit_default_watts "W" State -3 Slow:
        "power limit that the board starts with",
        from "NVML_FI_DEV_POWER_DEFAULT_LIMIT";
    power_limit_requested_watts "W" State -3 Slow:
        "power limit that an operator asked for",
        from "NVML_FI_DEV_POWER_REQUESTED_LIMIT";
    temperature_shutdown_celsius "Cel" State 0 Slow:
        "temperature of the core at which the board shuts down",
        from "nvmlDeviceGetTemperatureThreshold, NVML_TEMPERATURE_THRESHOLD_SHUTDOWN";
    temperature_slowdown_celsius "Cel" State 0 Slow:
        "temperature of the core at which hardware slows the clocks down",
        from "nvmlDeviceGetTemperatureThreshold, NVML_TEMPERATURE_THRESHOLD_SLOWDOWN";
    temperature_max_celsius "Cel" State 0 Slow:
        "temperature of the core at which software begins to slow the clocks down",
        from "nvmlDeviceGetTemperatureThreshold, NVML_TEMPERATURE_THRESHOLD_GPU_MAX";
    memory_temperature_max_celsius "Cel" State 0 Slow:
        "temperature of the HBM at which software begins to slow the clocks down",
        from "nvmlDeviceGetTemperatureThreshold, NVML_TEMPERATURE_THRESHOLD_MEM_MAX";
    temperature_shutdown_margin_celsius "Cel" State 0 Slow:
        "margin (temperature_margin_celsius) at which the board shuts down; negative: beyond the rated temperature",
        from "NVML_FI_DEV_TEMPERATURE_SHUTDOWN_TLIMIT";
    temperature_slowdown_margin_celsius "Cel" State 0 Slow:
        "margin (temperature_margin_celsius) at which hardware slows the clocks down; negative: beyond the rated temperature",
        from "NVML_FI_DEV_TEMPERATURE_SLOWDOWN_TLIMIT";
    temperature_max_margin_celsius "Cel" State 0 Slow:
        "margin (temperature_margin_celsius) at which software begins to slow the clocks down; negative: beyond the rated temperature",
        from "NVML_FI_DEV_TEMPERATURE_GPU_MAX_TLIMIT";
    memory_temperature_max_margin_celsius "Cel" State 0 Slow:
        "margin (temperature_margin_celsius) at which software begins to slow the clocks down for the HBM; negative: beyond the rated temperature",
        from "NVML_FI_DEV_TEMPERATURE_MEM_MAX_TLIMIT";
    graphics_clock_mhz "MHz" Gauge 0 Slow:
        "clock of the graphics engines",
        from "nvmlDeviceGetClockInfo";
    video_clock_mhz "MHz" Gauge 0 Slow:
        "clock of the video engines",
        from "nvmlDeviceGetClockInfo";
    sm_clock_max_mhz "MHz" State 0 Slow:
        "highest clock of the streaming multiprocessors",
        from "nvmlDeviceGetMaxClockInfo";
    memory_clock_max_mhz "MHz" State 0 Slow:
        "highest clock of the HBM",
        from "nvmlDeviceGetMaxClockInfo";
    graphics_clock_max_mhz "MHz" State 0 Slow:
        "highest clock of the graphics engines",
        from "nvmlDeviceGetMaxClockInfo";
    video_clock_max_mhz "MHz" State 0 Slow:
        "highest clock of the video engines",
        from "nvmlDeviceGetMaxClockInfo";
    performance_state "1" State 0 Slow:
        "performance state, 0 the highest to 15; 32: unknown",
        from "nvmlDeviceGetPerformanceState";
    limited_sync_boost_seconds_total "s" Counter -9 Slow:
        "time with the clocks held to those of a sync-boost group",
        from "NVML_FI_DEV_CLOCKS_EVENT_REASON_SYNC_BOOST";
    ecc_enabled "1" State 0 Slow:
        "1: error correction is on",
        from "NVML_FI_DEV_ECC_CURRENT";
    ecc_sram_corrected_total "1" Counter 0 Slow:
        "corrected errors of caches and registers (SRAM) in the board's life",
        from "nvmlDeviceGetMemoryErrorCounter, NVML_AGGREGATE_ECC, NVML_MEMORY_LOCATION_SRAM";
    ecc_sram_uncorrected_total "1" Counter 0 Slow:
        "uncorrected errors of caches and registers (SRAM) in the board's life",
        from "nvmlDeviceGetMemoryErrorCounter, NVML_AGGREGATE_ECC, NVML_MEMORY_LOCATION_SRAM";
    ecc_dram_corrected_total "1" Counter 0 Slow:
        "corrected errors of HBM (DRAM) in the board's life",
        from "nvmlDeviceGetMemoryErrorCounter, NVML_AGGREGATE_ECC, NVML_MEMORY_LOCATION_DRAM";
    ecc_dram_uncorrected_total "1" Counter 0 Slow:
        "uncorrected errors of HBM (DRAM) in the board's life",
        from "nvmlDeviceGetMemoryErrorCounter, NVML_AGGREGATE_ECC, NVML_MEMORY_LOCATION_DRAM";
    ecc_volatile_sram_corrected_total "1" Counter 0 Slow:
        "corrected errors of caches and registers (SRAM) since the driver was loaded",
        from "nvmlDeviceGetMemoryErrorCounter, NVML_VOLATILE_ECC, NVML_MEMORY_LOCATION_SRAM";
    ecc_volatile_sram_uncorrected_total "1" Counter 0 Slow:
        "uncorrected errors of caches and registers (SRAM) since the driver was loaded",
        from "nvmlDeviceGetMemoryErrorCounter, NVML_VOLATILE_ECC, NVML_MEMORY_LOCATION_SRAM";
    ecc_volatile_dram_corrected_total "1" Counter 0 Slow:
        "corrected errors of HBM (DRAM) since the driver was loaded",
        from "nvmlDeviceGetMemoryErrorCounter, NVML_VOLATILE_ECC, NVML_MEMORY_LOCATION_DRAM";
    ecc_volatile_dram_uncorrected_total "1" Counter 0 Slow:
        "uncorrected errors of HBM (DRAM) since the driver was loaded",
        from "nvmlDeviceGetMemoryErrorCounter, NVML_VOLATILE_ECC, NVML_MEMORY_LOCATION_DRAM";
    remap_banks_max "1" State 0 Slow:
        "banks of the HBM with all spare rows left",
        from "nvmlDeviceGetRowRemapperHistogram";
    remap_banks_high "1" State 0 Slow:
        "banks of the HBM with most spare rows left",
        from "nvmlDeviceGetRowRemapperHistogram";
    remap_banks_partial "1" State 0 Slow:
        "banks of the HBM with some spare rows left",
        from "nvmlDeviceGetRowRemapperHistogram";
    remap_banks_low "1" State 0 Slow:
        "banks of the HBM with few spare rows left",
        from "nvmlDeviceGetRowRemapperHistogram";
    remap_banks_none "1" State 0 Slow:
        "banks of the HBM with no spare row left",
        from "nvmlDeviceGetRowRemapperHistogram";
    pcie_link_generation_max "1" State 0 Slow:
        "highest PCIe generation that board and slot both have",
        from "nvmlDeviceGetMaxPcieLinkGeneration";
    pcie_link_width_max "1" State 0 Slow:
        "most PCIe lanes that board and slot both have",
        from "nvmlDeviceGetMaxPcieLinkWidth";
    pcie_replay_rollovers_total "1" Counter 0 Slow:
        "times that the PCIe replay number began anew",
        from "NVML_FI_DEV_PCIE_REPLAY_ROLLOVER_COUNTER";
    pcie_recoveries_total "1" Counter 0 Slow:
        "times that the PCIe link had to recover",
        from "NVML_FI_DEV_PCIE_L0_TO_RECOVERY_COUNTER";
    pcie_correctable_errors_total "1" Counter 0 Slow:
        "PCIe errors that were corrected",
        from "NVML_FI_DEV_PCIE_COUNT_CORRECTABLE_ERRORS";
    pcie_non_fatal_errors_total "1" Counter 0 Slow:
        "PCIe errors that cost a transaction",
        from "NVML_FI_DEV_PCIE_COUNT_NON_FATAL_ERROR";
    pcie_fatal_errors_total "1" Counter 0 Slow:
        "PCIe errors that cost the link",
        from "NVML_FI_DEV_PCIE_COUNT_FATAL_ERROR";
    pcie_naks_received_total "1" Counter 0 Slow:
        "PCIe packets that the other side refused",
        from "NVML_FI_DEV_PCIE_COUNT_NAKS_RECEIVED";
    pcie_naks_sent_total "1" Counter 0 Slow:
        "PCIe packets that the GPU refused",
        from "NVML_FI_DEV_PCIE_COUNT_NAKS_SENT";
    fabric_state "1" State 0 Slow:
        "the GPU's place in the NVLink fabric: 0 not supported, 1 not begun, 2 being set up, 3 complete",
        from "nvmlDeviceGetGpuFabricInfoV, else nvmlDeviceGetGpuFabricInfo";
    fabric_status "1" State 0 Slow:
        "what came of setting it up, once complete: nvmlReturn_t, 0 success",
        from "nvmlDeviceGetGpuFabricInfoV, else nvmlDeviceGetGpuFabricInfo";
    fabric_clique "1" State 0 Slow:
        "the GPUs of one fabric that reach each other",
        from "nvmlDeviceGetGpuFabricInfoV, else nvmlDeviceGetGpuFabricInfo";
    fabric_health_mask "1" State 0 Slow:
        "bits of what is wrong with the fabric (nvml.h, NVML_GPU_FABRIC_HEALTH_MASK_*)",
        from "nvmlDeviceGetGpuFabricInfoV";
    fabric_health "1" State 0 Slow:
        "the fabric's health in one: 0 not supported, 1 healthy, 2 unhealthy, 3 limited capacity",
        from "nvmlDeviceGetGpuFabricInfoV, version 3";
    mig_enabled "1" State 0 Slow:
        "1: the GPU is split (MIG)",
        from "nvmlDeviceGetMigMode";
    power_smoothing_enabled "1" State 0 Slow:
        "1: power smoothing is on",
        from "NVML_FI_PWR_SMOOTHING_ENABLED";
    power_smoothing_privilege_level "1" State 0 Slow:
        "what may be set of power smoothing from the host",
        from "NVML_FI_PWR_SMOOTHING_PRIV_LVL";
    power_smoothing_immediate_ramp_down "1" State 0 Slow:
        "1: power may fall at once",
        from "NVML_FI_PWR_SMOOTHING_IMM_RAMP_DOWN_ENABLED";
    power_smoothing_ceiling_watts "W" State 0 Slow:
        "power that smoothing holds the board below",
        from "NVML_FI_PWR_SMOOTHING_APPLIED_TMP_CEIL";
    power_smoothing_floor_watts "W" State 0 Slow:
        "power that smoothing holds the board above",
        from "NVML_FI_PWR_SMOOTHING_APPLIED_TMP_FLOOR";
    power_smoothing_lifetime_ratio "1" Gauge -2 Slow:
        "life that the smoothing circuit has left",
        from "NVML_FI_PWR_SMOOTHING_HW_CIRCUITRY_PERCENT_LIFETIME_REMAINING";
    power_smoothing_profile "1" State 0 Slow:
        "profile of power smoothing that is active",
        from "NVML_FI_PWR_SMOOTHING_ACTIVE_PRESET_PROFILE";
}
