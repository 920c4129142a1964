"""All agents come back at once: docs/performance.md has the result.

A fleet of OUTAGE_NODES (512) nodes with eight GPUs over loopback, power at 10 Hz and 30 metrics at 1 Hz of each, and a collector with recorder, store
and history. After a minute the collector is killed (-9), for OUTAGE_SECONDS (600) nothing listens while the nodes keep what they measure, and then
it is started again over the same state. Says after how long every node is connected, the judging is as near to real time as before, and all
that was kept has been taken; the collector's CPU and the most memory meanwhile; and what was lost. Exit code 1: something was, or it did not
come to real time. "not_judged" are values that came too late or too early for it, of what is new. The nodes keep a batch each quarter of a second: 512 of them hold 3 GB after ten minutes. What they kept goes beside what is new, as
agents send it where they were away for more than half a minute; with OUTAGE_BACKLOG_AFTER=0 before it, in order.
"""

import json
import os
import re
import shutil
import signal
import subprocess
import sys
import tempfile
import time
import urllib.error
import urllib.request

from process import cpu_seconds, free_port, rss_mib

ROOT = os.path.dirname(os.path.dirname(os.path.dirname(os.path.abspath(__file__))))
BINARIES = os.environ.get("BENCH_BINARIES", f"{ROOT}/target/release")
NODES = int(os.environ.get("OUTAGE_NODES", "512"))
OUTAGE = float(os.environ.get("OUTAGE_SECONDS", "600"))
BACKLOG_AFTER = os.environ.get("OUTAGE_BACKLOG_AFTER", "30")
WARM = float(os.environ.get("OUTAGE_WARM", "60"))
PATIENCE = float(os.environ.get("OUTAGE_PATIENCE", "900"))
# The gauge is set once a second: the judging is where it was before, if it is no more than so much further behind, seconds.
BEHIND = 0.5


class Collector:
    def __init__(self, folder):
        self.folder, self.grpc, self.http = folder, free_port(), free_port()
        config = f'state_dir = "{folder}/state"\n[grpc]\nlisten = "127.0.0.1:{self.grpc}"\n[http]\nlisten = "127.0.0.1:{self.http}"\n'
        open(f"{folder}/collector.toml", "w").write(config + "[recorder]\nenabled = true\n")

    def start(self):
        log = open(f"{self.folder}/collector.log", "a")
        command = [f"{BINARIES}/gridstep-collector", "run", "--config", f"{self.folder}/collector.toml"]
        self.process = subprocess.Popen(command, stdout=log, stderr=log)

    def metric(self, name):
        """None: it does not answer."""
        try:
            with urllib.request.urlopen(f"http://127.0.0.1:{self.http}/metrics", timeout=10) as answer:
                found = re.search(rf"^gridstep_collector_{name} (\S+)", answer.read().decode(), re.M)
        except (urllib.error.URLError, OSError):
            return None
        return float(found[1]) if found else None

    def lag(self):
        """How far the judging is behind, seconds; None: it does not answer."""
        until = self.metric("judged_until_timestamp_seconds")
        return None if until is None else time.time() - until


def counts(log):
    """Of the fleet's last line: streams, batches made, received, durable, lost."""
    lines = [line for line in open(log).read().splitlines() if " streams, " in line]
    if not lines:
        return None
    numbers = re.search(r"(\d+) streams.* sent, (\d+) batches made, (\d+) received, (\d+) durable, (\d+) lost", lines[-1])
    return [int(number) for number in numbers.groups()] if numbers else None


def main():
    folder = tempfile.mkdtemp(prefix="gridstep-outage-")
    collector = Collector(folder)
    collector.start()
    keep = int((OUTAGE + 120) * 4)
    log = f"{folder}/fleet.log"
    command = [f"{BINARIES}/gridstep-fleet", "--collector", f"http://127.0.0.1:{collector.grpc}", "--nodes", str(NODES)]
    command += ["--keep", str(keep), "--tell-every", "1", "--backlog-after", BACKLOG_AFTER]
    fleet = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=open(log, "w"))
    try:
        time.sleep(WARM)
        print(f"{NODES * 8:,} GPUs; warm: {rss_mib(collector.process.pid):.0f} MiB; killed for {OUTAGE:.0f} s", file=sys.stderr)
        lags = []
        for _ in range(20):
            time.sleep(0.25)
            lags.append(collector.lag() or 0.0)
        usual = max(lags)
        collector.process.kill()
        collector.process.wait()
        time.sleep(OUTAGE)
        collector.start()
        begun, most, told = time.monotonic(), 0.0, {}
        while time.monotonic() - begun < PATIENCE and not {"live", "taken"} <= told.keys():
            time.sleep(0.25)
            since = time.monotonic() - begun
            most = max(most, rss_mib(collector.process.pid))
            lag, now = collector.lag(), counts(log)
            if now is None or lag is None:
                continue
            streams, made, received, _, _ = now
            if streams == NODES:
                told.setdefault("connected", since)
            if "connected" in told and lag <= usual + BEHIND:
                told.setdefault("live", since)
            # Two seconds of batches are on their way.
            if "connected" in told and made - received <= 8 * NODES and "taken" not in told:
                told["taken"], told["cpu"] = since, cpu_seconds(collector.process.pid)
        lost = counts(log)[4]
        late = (collector.metric("late_samples_total") or 0) + (collector.metric("ahead_samples_total") or 0)
        row = {"gpus": NODES * 8, "outage_seconds": OUTAGE, **told, "rss_mib": most, "lost": lost, "not_judged": late, "fleet_rss_mib": rss_mib(fleet.pid)}
        print(json.dumps({key: round(value, 2) for key, value in row.items()}))
        sys.exit(0 if lost == 0 and {"live", "taken"} <= told.keys() else 1)
    finally:
        for process in (fleet, collector.process):
            process.send_signal(signal.SIGTERM)
            process.wait(timeout=60)
        shutil.rmtree(folder, ignore_errors=True)


main()
