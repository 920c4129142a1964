"""Calls the simulated library as C does, without any binding, and prints the codes that it answers as JSON.

usage: abi.py EXPORTS.txt
"""

import ctypes as c
import json
import sys

lib = c.CDLL("libnvidia-ml.so.1")
names = open(sys.argv[1]).read().split()
nulls = [c.c_void_p(0)] * 8
# They answer without initialisation, or initialise.
always = {"nvmlErrorString", "nvmlSystemGetNVMLVersion", "nvmlInit", "nvmlInit_v2", "nvmlInitWithFlags", "nvmlShutdown", "nvmlInternalGetExportTable"}
found = {"missing": [name for name in names if not hasattr(lib, name)]}


def codes(arguments):
    """By code: the functions that answer it."""
    answers = {}
    for name in names:
        if name not in always:
            answers.setdefault(getattr(lib, name)(*arguments), []).append(name)
    return answers


found["uninitialised"] = {str(code): len(of) for code, of in codes(nulls).items()}
found["version"] = lib.nvmlSystemGetNVMLVersion(c.create_string_buffer(80), 80)
lib.nvmlInit_v2()
# Their first argument is no handle.
others = ("Count", "HandleBy", "DiscoverGpus", "DrainState", "RemoveGpu")
devices = [name for name in names if name.startswith("nvmlDevice") and not any(other in name for other in others)]
found["null"] = {name: code for code, of in codes(nulls).items() for name in of if name in devices}
forged = c.c_void_p(0x1234)
found["forged"] = {name: getattr(lib, name)(forged, *nulls) for name in devices}

gpu = c.c_void_p()
found["handle"] = lib.nvmlDeviceGetHandleByIndex_v2(0, c.byref(gpu))
found["beyond"] = lib.nvmlDeviceGetHandleByIndex_v2(64, c.byref(c.c_void_p()))
found["unknown_uuid"] = lib.nvmlDeviceGetHandleByUUID(b"GPU-none", c.byref(c.c_void_p()))
name = c.create_string_buffer(96)
found["name"] = [lib.nvmlDeviceGetName(gpu, name, length) for length in (4, 21, 22)]
found["first_argument_only"] = {n: getattr(lib, n)(gpu, *nulls) for n in devices if n.startswith("nvmlDeviceGet")}


class V1(c.Structure):
    _fields_ = [("pid", c.c_uint), ("memory", c.c_ulonglong)]


class V2(c.Structure):
    _fields_ = [("pid", c.c_uint), ("memory", c.c_ulonglong), ("gpu_instance", c.c_uint), ("compute_instance", c.c_uint)]


class Detail(c.Structure):
    _fields_ = V2._fields_ + [("protected", c.c_ulonglong)]


class DetailList(c.Structure):
    _fields_ = [("version", c.c_uint), ("mode", c.c_uint), ("count", c.c_uint), ("list", c.POINTER(Detail))]


def row(entry):
    return [getattr(entry, field) for field, _ in entry._fields_]


found["processes"] = {}
for suffix, layout in (("", V1), ("_v2", V2), ("_v3", V2)):
    function = getattr(lib, "nvmlDeviceGetComputeRunningProcesses" + suffix)
    count = c.c_uint(0)
    asked = function(gpu, c.byref(count), None)
    entries = (layout * 2)()
    room = c.c_uint(1)
    small = function(gpu, c.byref(room), entries)
    room = c.c_uint(2)
    full = function(gpu, c.byref(room), entries)
    found["processes"][suffix] = {"codes": [asked, small, full], "counts": [count.value, room.value], "rows": [row(e) for e in entries]}

details = (Detail * 2)()
request = DetailList(0x1000018, 0, 2, details)
found["details"] = {
    "code": lib.nvmlDeviceGetRunningProcessDetailList(gpu, c.byref(request)),
    "rows": [row(e) for e in details[: request.count]],
    "version": lib.nvmlDeviceGetRunningProcessDetailList(gpu, c.byref(DetailList(0x2000018, 0, 2, details))),
}

flushed, took = c.c_ulonglong(), c.c_ulong()
nodes = (c.c_ulong * 2)()
protected = (c.c_ulonglong * 3)(9, 9, 9)
sizes = (c.c_ulonglong * 2)()
linked = c.c_uint(9)
found["features"] = {
    "mig": [lib.nvmlDeviceGetMigDeviceHandleByIndex(gpu, index, c.byref(c.c_void_p())) for index in (0, 7)],
    "inforom": lib.nvmlDeviceValidateInforom(gpu),
    "flush": [lib.nvmlDeviceGetLastBBXFlushTime(gpu, c.byref(flushed), c.byref(took)), flushed.value, took.value],
    "affinity": [lib.nvmlDeviceGetMemoryAffinity(gpu, 2, nodes, 0), list(nodes)],
    "protected": [lib.nvmlDeviceGetConfComputeProtectedMemoryUsage(gpu, protected), list(protected)],
    "sizes": [lib.nvmlDeviceGetConfComputeMemSizeInfo(gpu, sizes), list(sizes)],
    "c2c": [lib.nvmlDeviceGetC2cModeInfoV(gpu, c.byref(linked)), linked.value],
}
lib.nvmlShutdown()
found["after_shutdown"] = lib.nvmlDeviceGetName(gpu, name, 96)
json.dump(found, sys.stdout)
