"""What a whole fleet costs the collector, beside two databases that take the same samples: docs/performance.md has the result.

One after the other, each over loopback from `gridstep-fleet`: power at 10 Hz and 30 metrics at 1 Hz of every GPU, for BENCH_SECONDS (60) after
a warm-up. The collector judges all the while, and from each step that the fleet makes it is seen how long it takes until the API shows an
incident. BENCH_NODES (256,2048) are the fleets' sizes, of eight GPUs a node; the BENCH_PEERS get the first of them. Prints a table and
writes it to target/bench/fleet.md.
"""

import datetime
import json
import os
import platform
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import time
import urllib.request

from process import cpu_seconds, free_port, rss_mib

ROOT = os.path.dirname(os.path.dirname(os.path.dirname(os.path.abspath(__file__))))
SECONDS = float(os.environ.get("BENCH_SECONDS", "60"))
NODES = [int(n) for n in os.environ.get("BENCH_NODES", "256,2048").split(",")]
BINARIES = os.environ.get("BENCH_BINARIES", f"{ROOT}/target/release")
PEERS = os.environ.get("BENCH_PEERS", "victoria-metrics,prometheus").split(",")
SETTLE = float(os.environ.get("BENCH_SETTLE", "45"))
STEP_EVERY = 20.0


def wait_for(port):
    deadline = time.monotonic() + 60
    while time.monotonic() < deadline:
        with socket.socket() as s:
            if s.connect_ex(("127.0.0.1", port)) == 0:
                return
        time.sleep(0.1)
    sys.exit(f"nobody listens on {port} within 60 s")


class Subject:
    """A program that takes samples."""

    def __init__(self, name, folder):
        self.name, self.folder, self.http = name, f"{folder}/{name}", free_port()
        os.makedirs(self.folder)
        command, self.load, port = getattr(self, name.replace("-", "_"))()
        log = open(f"{self.folder}/log", "w")
        self.process = subprocess.Popen(command, stdout=log, stderr=log, cwd=self.folder)
        wait_for(port)

    def gridstep_collector(self):
        grpc = free_port()
        config = f'state_dir = "{self.folder}/state"\n[grpc]\nlisten = "127.0.0.1:{grpc}"\n[http]\nlisten = "127.0.0.1:{self.http}"\n'
        config += os.environ.get("BENCH_COLLECTOR_CONFIG", "").replace("{folder}", self.folder)
        open(f"{self.folder}/collector.toml", "w").write(config)
        command = [f"{BINARIES}/gridstep-collector", "run", "--config", f"{self.folder}/collector.toml"]
        return command, ["--collector", f"http://127.0.0.1:{grpc}", "--step-every", str(STEP_EVERY)], grpc

    def victoria_metrics(self):
        command = ["victoria-metrics", f"-storageDataPath={self.folder}/data", f"-httpListenAddr=127.0.0.1:{self.http}"]
        return command, ["--remote-write", f"http://127.0.0.1:{self.http}/api/v1/write"], self.http

    def prometheus(self):
        open(f"{self.folder}/prometheus.yml", "w").write("")
        command = ["prometheus", f"--config.file={self.folder}/prometheus.yml", f"--storage.tsdb.path={self.folder}/data"]
        command += [f"--web.listen-address=127.0.0.1:{self.http}", "--web.enable-remote-write-receiver"]
        return command, ["--remote-write", f"http://127.0.0.1:{self.http}/api/v1/write"], self.http

    def incidents(self):
        with urllib.request.urlopen(f"http://127.0.0.1:{self.http}/api/v1/incidents", timeout=10) as answer:
            found = json.load(answer)
        return found["incidents"] if isinstance(found, dict) else found


def unix(text):
    return datetime.datetime.fromisoformat(text.replace("Z", "+00:00")).timestamp()


def measure(subject, nodes):
    command = [f"{BINARIES}/gridstep-fleet", "--nodes", str(nodes), *subject.load]
    started = time.monotonic()
    fleet = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=open(f"{subject.folder}/fleet.log", "w"), text=True)
    time.sleep(SETTLE)
    begun, cpu, fleet_cpu = time.monotonic(), cpu_seconds(subject.process.pid), cpu_seconds(fleet.pid)
    seen = {incident["id"] for incident in subject.incidents()} if subject.name == "gridstep-collector" else set()
    delays, rss = [], 0.0
    while time.monotonic() - begun < SECONDS:
        if subject.name == "gridstep-collector":
            now = time.time()
            for incident in subject.incidents():
                if incident["id"] not in seen:
                    seen.add(incident["id"])
                    onset = round(unix(incident["started_at"]) / STEP_EVERY) * STEP_EVERY
                    if incident["cause"].startswith("step"):
                        delays.append(now - onset)
            time.sleep(0.1)
        else:
            time.sleep(1)
        rss = max(rss, rss_mib(subject.process.pid))
    wall = time.monotonic() - begun
    cpu, fleet_cpu = cpu_seconds(subject.process.pid) - cpu, cpu_seconds(fleet.pid) - fleet_cpu
    fleet.send_signal(signal.SIGINT)
    counts = json.loads(fleet.communicate(timeout=60)[0].strip().splitlines()[-1])
    # Of what was sent: on a busy machine less than was to be.
    values = counts["values"] * wall / (time.monotonic() - started)
    return {
        "name": subject.name, "gpus": nodes * 8, "cpu": cpu / wall, "us": 1e6 * cpu / values, "rss": rss, "fleet": fleet_cpu / wall,
        "bytes": counts["bytes"] / max(counts["values"], 1), "lost": counts["lost"], "late": counts["behind"], "delays": sorted(delays),
    }


def main():
    folder = tempfile.mkdtemp(prefix="gridstep-bench-")
    runs = [("gridstep-collector", nodes) for nodes in NODES]
    peers = [peer for peer in PEERS if shutil.which(peer)]
    runs += [(peer, NODES[0]) for peer in peers]
    rows = []
    for name, nodes in runs:
        print(f"{name}, {nodes * 8} GPUs: {SETTLE:.0f} + {SECONDS:.0f} s", file=sys.stderr)
        shutil.rmtree(f"{folder}/{name}", ignore_errors=True)
        subject = Subject(name, folder)
        try:
            rows.append(measure(subject, nodes))
        finally:
            subject.process.terminate()
            subject.process.wait(timeout=60)
    ours = rows[0]["us"]
    lines = [
        "| | GPUs | CPU, cores | CPU a sample, µs | of ours | RSS, MiB | bytes a sample on the wire | step to incident, s | the load itself, cores |",
        "|---|---|---|---|---|---|---|---|---|",
    ]
    for row in rows:
        delays = f"{row['delays'][len(row['delays']) // 2]:.2f} ({row['delays'][-1]:.2f} at most, of {len(row['delays'])})" if row["delays"] else ""
        lines.append(
            f"| {row['name']} | {row['gpus']:,} | {row['cpu']:.2f} | {row['us']:.2f} | {row['us'] / ours:.1f} | {row['rss']:.0f} "
            f"| {row['bytes']:.1f} | {delays} | {row['fleet']:.2f} |"
        )
    table = "\n".join(lines)
    print(table)
    os.makedirs(f"{ROOT}/target/bench", exist_ok=True)
    open(f"{ROOT}/target/bench/fleet.md", "w").write(f"{table}\n\n{platform.processor()} {os.cpu_count()} cores, {SECONDS:.0f} s\n")
    shutil.rmtree(folder, ignore_errors=True)


main()
