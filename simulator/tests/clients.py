"""Reads the simulated library with NVIDIA's own Python binding and prints what it found as JSON."""

import json
import sys

import pynvml as n


def text(value):
    return value.decode() if isinstance(value, bytes) else value


n.nvmlInit()
gpus = []
handles = [n.nvmlDeviceGetHandleByIndex(index) for index in range(n.nvmlDeviceGetCount())]
before = []
for h in handles:
    before.append(n.nvmlGpmSampleAlloc())
    n.nvmlGpmSampleGet(h, before[-1])
# Long enough for the energy counter, and so for two samples of activity.
energy = n.nvmlDeviceGetTotalEnergyConsumption(handles[-1])
while n.nvmlDeviceGetTotalEnergyConsumption(handles[-1]) == energy:
    pass
for h, first in zip(handles, before):
    fields = n.nvmlDeviceGetFieldValues(h, [n.NVML_FI_DEV_POWER_INSTANT, n.NVML_FI_DEV_TOTAL_ENERGY_CONSUMPTION, 9999])
    kind, samples = n.nvmlDeviceGetSamples(h, n.NVML_TOTAL_POWER_SAMPLES, 0)
    second = n.nvmlGpmSampleAlloc()
    n.nvmlGpmSampleGet(h, second)
    request = n.c_nvmlGpmMetricsGet_t()
    request.version = n.NVML_GPM_METRICS_GET_VERSION
    request.numMetrics = 1
    request.sample1, request.sample2 = first, second
    request.metrics[0].metricId = n.NVML_GPM_METRIC_SM_UTIL
    n.nvmlGpmMetricsGet(request)
    n.nvmlGpmSampleFree(first)
    n.nvmlGpmSampleFree(second)
    gpus.append(
        {
            "name": text(n.nvmlDeviceGetName(h)),
            "uuid": text(n.nvmlDeviceGetUUID(h)),
            "watts": n.nvmlDeviceGetPowerUsage(h) / 1000,
            "instant_watts": fields[0].value.uiVal / 1000,
            "unknown_field": fields[2].nvmlReturn,
            "samples": len(samples),
            "value_type": kind,
            "sm": request.metrics[0].value,
            "remapped": list(n.nvmlDeviceGetRemappedRows(h)),
            "temperature": n.nvmlDeviceGetTemperatureV(h, n.NVML_TEMPERATURE_GPU),
            "margin": n.nvmlDeviceGetMarginTemperature(h),
            "slowdown": n.nvmlDeviceGetTemperatureThreshold(h, n.NVML_TEMPERATURE_THRESHOLD_SLOWDOWN),
            "slowdown_margin": n.nvmlDeviceGetFieldValues(h, [n.NVML_FI_DEV_TEMPERATURE_SLOWDOWN_TLIMIT])[0].value.siVal,
            "video": n.nvmlDeviceGetClockInfo(h, n.NVML_CLOCK_VIDEO),
            "processes": [p.pid for p in n.nvmlDeviceGetComputeRunningProcesses(h)],
            "memory": n.nvmlDeviceGetMemoryInfo(h, version=n.nvmlMemory_v2).total,
        }
    )
n.nvmlShutdown()
json.dump({"gpus": gpus}, sys.stdout)
