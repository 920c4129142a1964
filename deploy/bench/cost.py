"""What the agent costs beside its peers, over the simulated driver: docs/performance.md has the result.

Runs twice for BENCH_SECONDS (300): with calls that cost nothing, and with calls that burn BENCH_CALL_US (100) microseconds of CPU
each. Everything runs at the same time. Prints tables, writes them to target/bench/cost.md, and fails where a target is missed.
"""

import glob
import json
import os
import platform
import re
import shutil
import signal
import socket
import struct
import subprocess
import sys
import tempfile
import time
import urllib.request

ROOT = os.path.dirname(os.path.dirname(os.path.dirname(os.path.abspath(__file__))))
SECONDS = float(os.environ.get("BENCH_SECONDS", "300"))
CALL_US = int(os.environ.get("BENCH_CALL_US", "100"))
SETTLE = 10.0
TICK = os.sysconf("SC_CLK_TCK")
MIB = 1 << 20
RSS_TARGET = 20.0

# For a try of this script: debug.
PROFILE = os.environ.get("BENCH_PROFILE", "release")
AGENT = f"{ROOT}/target/{PROFILE}/gridstep-agent"
LIBRARY = f"{ROOT}/target/{PROFILE}/libgridstep_simulator.so"
COLLECTOR = f"{ROOT}/target/debug/gridstep-collector"
NVITOP = f"{ROOT}/.venv/bin/nvitop-exporter"
ALL_SMI = f"{ROOT}/target/tools/bin/all-smi"
# all-smi asks it once whether there are NVIDIA GPUs.
NVIDIA_SMI = f"{ROOT}/target/nonfree/trixie/root/usr/lib/nvidia/current"

SCENARIO = open(f"{ROOT}/simulator/scenarios/single.toml").read()


def free_port():
    with socket.socket() as s:
        s.bind(("127.0.0.1", 0))
        return s.getsockname()[1]


def get(port, path="/metrics"):
    with urllib.request.urlopen(f"http://127.0.0.1:{port}{path}", timeout=5) as answer:
        return answer.read().decode()


def wait_for(port, wanted, what):
    deadline = time.monotonic() + 60
    while time.monotonic() < deadline:
        try:
            if wanted(get(port)):
                return
        except OSError:
            pass
        time.sleep(0.2)
    sys.exit(f"{what} shows nothing within 60 s")


def tree(pid):
    """The process and its living descendants."""
    found = [pid]
    for path in glob.glob(f"/proc/{pid}/task/*/children"):
        try:
            for child in open(path).read().split():
                found += tree(int(child))
        except OSError:
            pass
    return found


def cpu_seconds(pid):
    """utime + stime of the tree, and of what the process has reaped."""
    total = 0
    for index, process in enumerate(tree(pid)):
        try:
            fields = open(f"/proc/{process}/stat").read().rsplit(")", 1)[1].split()
        except OSError:
            continue
        total += int(fields[11]) + int(fields[12])
        if index == 0:
            total += int(fields[13]) + int(fields[14])
    return total / TICK


def memory_mib(pid, key):
    total = 0
    for process in tree(pid):
        try:
            text = open(f"/proc/{process}/smaps_rollup").read()
        except OSError:
            continue
        total += int(re.search(rf"^{key}:\s+(\d+) kB", text, re.M)[1])
    return total / 1024


def calls(folder, pid):
    """Calls into the simulated library, and nanoseconds inside them, of a tree."""
    total = [0, 0]
    for process in tree(pid):
        try:
            counted = struct.unpack("=QQ", open(f"{folder}/{process}", "rb").read())
        except OSError:
            continue
        total = [a + b for a, b in zip(total, counted)]
    return total


class Program:
    """One of those that are compared."""

    def __init__(self, name, port, command, env, folder, scraped):
        self.name, self.port, self.scraped = name, port, scraped
        log = open(f"{folder}/{name.split()[0]}-{port}.log", "w")
        self.log = log.name
        self.process = subprocess.Popen(command, env=env, stdout=log, stderr=log, stdin=subprocess.DEVNULL)
        self.calls_folder = env.get("GRIDSTEP_SIM_CALLS", "")
        self.rss, self.pss = [], []

    def begin(self):
        if self.process.poll() is not None:
            sys.exit(f"{self.name} has ended:\n{open(self.log).read()}")
        self.start = (time.monotonic(), cpu_seconds(self.process.pid), calls(self.calls_folder, self.process.pid), self.samples())

    def look(self):
        self.rss.append(memory_mib(self.process.pid, "Rss"))
        self.pss.append(memory_mib(self.process.pid, "Pss"))

    def samples(self):
        if "gridstep" in self.name:
            return float(re.search(r"^gridstep_agent_samples_total (\S+)$", get(self.port), re.M)[1])
        return None

    def end(self):
        if self.process.poll() is not None:
            sys.exit(f"{self.name} has ended:\n{open(self.log).read()}")
        now = (time.monotonic(), cpu_seconds(self.process.pid), calls(self.calls_folder, self.process.pid), self.samples())
        seconds = now[0] - self.start[0]
        if self.samples() is None:
            # Each series once a second; those that only name things are no readings.
            lines = [line for line in get(self.port).splitlines() if line and not line.startswith("#")]
            readings = sum(1 for line in lines if not re.match(r"\w*(_info|_created|python_\w*|process_virtual\w*)[{ ]", line))
        else:
            readings = (now[3] - self.start[3]) / seconds
        cpu = (now[1] - self.start[1]) / seconds
        made = [(b - a) / seconds for a, b in zip(self.start[2], now[2])]
        return {
            "name": self.name,
            "cpu_percent": cpu * 100,
            "readings_per_second": readings,
            "cpu_us_per_reading": cpu * 1e6 / readings,
            "rss_mib": max(self.rss),
            "pss_mib": max(self.pss),
            "calls_per_second": made[0],
            "driver_ms_per_second": made[1] / 1e6,
        }

    def stop(self):
        self.process.send_signal(signal.SIGTERM)
        try:
            self.process.wait(5)
        except subprocess.TimeoutExpired:
            self.process.kill()
            self.process.wait()


def run(call_us):
    folder = tempfile.mkdtemp(prefix="gridstep-bench-")
    running = []
    try:
        return measure(call_us, folder, running)
    finally:
        for program in running:
            program.stop()
        shutil.rmtree(folder, ignore_errors=True)


def measure(call_us, folder, running):
    os.mkdir(f"{folder}/calls")
    os.symlink(LIBRARY, f"{folder}/libnvidia-ml.so.1")
    open(f"{folder}/scenario.toml", "w").write(f"{SCENARIO}\n[cost]\ncpu_us = {call_us}\n")
    env = {
        **os.environ,
        "LD_LIBRARY_PATH": folder,
        "PATH": f"{NVIDIA_SMI}:{os.environ['PATH']}",
        "GRIDSTEP_SIM_SCENARIO": f"{folder}/scenario.toml",
        "GRIDSTEP_SIM_START": str(time.time() - 1000),
        "GRIDSTEP_SIM_CALLS": f"{folder}/calls",
    }

    def start(name, command, port, scraped=False):
        running.append(Program(name, port, command, env, folder, scraped))

    grpc, http = free_port(), free_port()
    open(f"{folder}/collector.toml", "w").write(
        f'state_dir = "{folder}/state"\n[grpc]\nlisten = "127.0.0.1:{grpc}"\n[http]\nlisten = "127.0.0.1:{http}"\n'
    )
    start("collector", [COLLECTOR, "run", "--config", f"{folder}/collector.toml"], http)
    wait_for(http, lambda text: "gridstep_" in text, "the collector")
    # Calls that cost something count against the agent's budget: at the same rates as the others it needs more of it.
    free = 'budget = "1s"\n' if call_us else ""
    agents = [
        ("gridstep-agent", f"[reader]\n{free}"),
        ("gridstep-agent, all at 1 Hz", f'[reader]\n{free}power_period = "1s"\n'),
    ]
    if call_us:
        agents.append(("gridstep-agent, within its budget", ""))
    for index, (name, more) in enumerate(agents):
        port = free_port()
        config = f"{folder}/agent{index}.toml"
        open(config, "w").write(
            f'node = "bench{index}"\n[uplink]\nendpoint = "http://127.0.0.1:{grpc}"\n[http]\nlisten = "127.0.0.1:{port}"\n{more}'
        )
        start(name, [AGENT, "run", "--config", config], port)
        wait_for(port, lambda text: re.search(r"^gridstep_agent_uplink_connected 1$", text, re.M), name)
    if os.path.exists(ALL_SMI):
        port = free_port()
        start("all-smi, 1 Hz", [ALL_SMI, "api", "--port", str(port), "--interval", "1"], port)
        wait_for(port, lambda text: text.count("all_smi_gpu_power_consumption_watts{") == 8, "all-smi")
    port = free_port()
    start("nvitop-exporter, 1 Hz", [NVITOP, "--hostname", "bench", "--port", str(port), "--interval", "1"], port, scraped=True)
    wait_for(port, lambda text: text.count("gpu_power_usage_W{") == 8, "nvitop-exporter")

    compared = running[1:]
    time.sleep(SETTLE)
    for program in compared:
        program.begin()
    end = time.monotonic() + SECONDS
    second = 0
    while time.monotonic() < end:
        for program in compared:
            if program.scraped:
                get(program.port)
            # Looking at a process' memory costs it nothing, but takes a while.
            if second % 10 == 0:
                program.look()
        second += 1
        time.sleep(max(0.0, min(end, end - SECONDS + second) - time.monotonic()))
    return [program.end() for program in compared]


def by_call():
    """What the agent's calls cost in a sweep, from its own probe."""
    with tempfile.TemporaryDirectory() as folder:
        open(f"{folder}/scenario.toml", "w").write(SCENARIO)
        env = {**os.environ, "GRIDSTEP_SIM_SCENARIO": f"{folder}/scenario.toml", "GRIDSTEP_SIM_START": str(time.time() - 1000)}
        out = subprocess.run([AGENT, "probe", "--json", "--nvml-library", LIBRARY], env=env, capture_output=True, check=True)
    return json.loads(out.stdout)["calls"]


def table(rows, base):
    yield "| | CPU, % of a core | readings a second | CPU a reading, µs | of ours | RSS, MiB | PSS, MiB | calls a second | in the driver, ms/s |"
    yield "|---|---|---|---|---|---|---|---|---|"
    for row in rows:
        ratio = row["cpu_us_per_reading"] / base["cpu_us_per_reading"]
        yield (
            f"| {row['name']} | {row['cpu_percent']:.2f} | {row['readings_per_second']:.0f} | {row['cpu_us_per_reading']:.2f} | "
            f"{ratio:.1f} | {row['rss_mib']:.1f} | {row['pss_mib']:.1f} | {row['calls_per_second']:.0f} | {row['driver_ms_per_second']:.2f} |"
        )


def machine():
    model = re.search(r"^model name\s*:\s*(.*)$", open("/proc/cpuinfo").read(), re.M)
    return f"{os.cpu_count()} cores, {model[1] if model else platform.machine()}, Linux {platform.release().split('-')[0]}, {platform.machine()}"


def main():
    for needed in (AGENT, LIBRARY, COLLECTOR, NVITOP, NVIDIA_SMI):
        if not os.path.exists(needed):
            sys.exit(f"{os.path.relpath(needed, ROOT)} is missing: run `make bench`")
    lines = [f"{SECONDS:.0f} s on {machine()}.", ""]
    free, dear = run(0), run(CALL_US)
    lines += ["Calls that cost nothing:", "", *table(free, free[0]), "", f"Calls that burn {CALL_US} µs of CPU each:", ""]
    lines += [*table(dear, dear[0]), "", "Calls of the agent, over the simulated driver (wall time, µs):", ""]
    lines += ["| call | median | largest |", "|---|---|---|"]
    lines += [f"| `{call['call']}` | {call['median_us']:.2f} | {call['max_us']:.2f} |" for call in by_call()]
    text = "\n".join(lines)
    print(text)
    os.makedirs(f"{ROOT}/target/bench", exist_ok=True)
    open(f"{ROOT}/target/bench/cost.md", "w").write(text + "\n")
    ours, peer = free[0], next((row for row in free if row["name"].startswith("all-smi")), None)
    missed = []
    if peer is None:
        missed.append("all-smi is not there to compare with: deploy/bench/all-smi.sh builds it")
    elif ours["cpu_percent"] > peer["cpu_percent"]:
        missed.append(f"CPU {ours['cpu_percent']:.2f} % is more than all-smi's {peer['cpu_percent']:.2f} %")
    if ours["rss_mib"] > RSS_TARGET:
        missed.append(f"RSS {ours['rss_mib']:.1f} MiB is more than {RSS_TARGET:.0f} MiB")
    sys.exit("\n".join(["", *("MISSED: " + what for what in missed)]) if missed else 0)


main()
