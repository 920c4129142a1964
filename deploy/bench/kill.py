"""kill -9 of the collector and of agents at random, under load: nothing acknowledged is lost, nothing is there twice, an incident is one.

For KILL_SECONDS (600): a collector with everything on, KILL_FLEETS (3) processes of `gridstep-fleet` with KILL_NODES (32) nodes of eight GPUs
each, whose power steps every 20 s, and two real agents over the simulated driver, one GPU of which overheats; an Alertmanager, if there is one,
that notifies this program. The collector is killed every 3 to 40 s, one of the others every 5 to 20 s, and each is started again within 3 s.
Meanwhile and afterwards it is seen that

* every reading of which a fleet heard that it is durable (its ledger) is in the recorder's files, and no reading is there twice;
* every incident that the API once showed is there ever after, under its id, and never in an older revision;
* no two incidents are one condition: of the same kind, cause and subject, with an onset within five seconds;
* every step of the fleets' power beyond twice the limit is told, once, whether or not the collector was away (but for one that comes while a
  fleet is away or has just come back: what has been filled in for so many nodes hides a step);
* nobody was notified twice that an incident fires.

Exit code 1: something of this is not so. KILL_SEED repeats the instants.
"""

import datetime
import glob
import http.server
import json
import os
import random
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import threading
import time
import urllib.request

import duckdb

ROOT = os.path.dirname(os.path.dirname(os.path.dirname(os.path.abspath(__file__))))
BINARIES = os.environ.get("KILL_BINARIES", f"{ROOT}/target/debug")
SECONDS = float(os.environ.get("KILL_SECONDS", "600"))
FLEETS = int(os.environ.get("KILL_FLEETS", "3"))
NODES = int(os.environ.get("KILL_NODES", "32"))
SEED = int(os.environ.get("KILL_SEED", str(int(time.time()))))
AGENTS = 2
# gridstep-fleet --step-every.
STEP_EVERY = 20
AFTER = 12.0
WATTS = FLEETS * NODES * 8 * 700.0
# Of the restart's hold, the last files, and an agent's pause between two tries.
SETTLE = 60.0
COLLECTOR_EVERY = (3.0, 40.0)
OTHERS_EVERY = (5.0, 20.0)
AWAY = (0.0, 3.0)
SCENARIO = """
seed = 405
nodes = 2
gpus_per_node = 16
[[job]]
name = "llama3-405b"
node_count = 2
start = 4.0
[[job.phase]]
kind = "compute"
seconds = 2.25
watts = 580.0
sm_active = 0.92
[[job.phase]]
kind = "communicate"
seconds = 0.75
watts = 240.0
sm_active = 0.2
[[fault]]
kind = "thermal"
node = 1
gpu = 3
start = 60.0
depth = 0.2
"""


def free_port():
    with socket.socket() as s:
        s.bind(("127.0.0.1", 0))
        return s.getsockname()[1]


class Program:
    """One that is killed and started again."""

    def __init__(self, name, folder, command, environment=None):
        self.name, self.command, self.kills, self.killed_at = name, command, 0, []
        self.log = open(f"{folder}/{name}.log", "a")
        self.environment = {**os.environ, **(environment or {})}
        self.start()

    def start(self):
        self.process = subprocess.Popen(self.command, stdout=self.log, stderr=self.log, env=self.environment)

    def kill(self):
        if self.process.poll() is not None:
            raise SystemExit(f"{self.name} has ended by itself with {self.process.returncode}: see its log")
        self.process.kill()
        self.process.wait()
        self.kills += 1
        self.killed_at.append(time.time())

    def end(self, sign):
        self.process.send_signal(sign)
        self.process.wait(timeout=60)


class Watch(threading.Thread):
    """Asks for the incidents, again and again, and keeps in mind what it was told."""

    def __init__(self, port):
        super().__init__(daemon=True)
        self.url, self.known, self.faults, self.polls = f"http://127.0.0.1:{port}/api/v1/incidents", {}, [], 0

    def run(self):
        while True:
            self.look()
            time.sleep(0.05)

    def look(self):
        try:
            with urllib.request.urlopen(self.url, timeout=5) as answer:
                told = {incident["id"]: incident for incident in json.load(answer)}
        except (OSError, ValueError):
            return
        self.polls += 1
        for id, before in self.known.items():
            if id not in told:
                self.faults.append(f"{id} is gone")
            elif told[id]["revision"] < before["revision"]:
                self.faults.append(f"{id} went back from revision {before['revision']} to {told[id]['revision']}")
        self.known |= told


class Receiver(http.server.BaseHTTPRequestHandler):
    """Alertmanager's notifications."""

    firing, opened, pages, faults = set(), {}, 0, []

    def do_POST(self):
        body = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
        for alert in body["alerts"]:
            mark = alert["fingerprint"]
            if alert["status"] == "resolved":
                Receiver.firing.discard(mark)
            elif mark not in Receiver.firing:
                Receiver.firing.add(mark)
                Receiver.pages += 1
                key = (mark, alert["annotations"]["incident"])
                if key in Receiver.opened:
                    Receiver.faults.append(f"{key[1]} fires a second time, as {alert['labels']}")
                Receiver.opened[key] = True
        self.send_response(200)
        self.end_headers()

    def log_message(self, *_):
        pass


def alertmanager(folder):
    """Its address, and its process."""
    if not shutil.which("prometheus-alertmanager"):
        print("no prometheus-alertmanager: notifications are not looked at", file=sys.stderr)
        return None, None
    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Receiver)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    text = open(f"{ROOT}/deploy/alertmanager/alertmanager.yml").read()
    text = text.replace("receiver.example", f"127.0.0.1:{server.server_port}")
    text = text.replace("group_wait: 10s", "group_wait: 1s").replace("group_interval: 5m", "group_interval: 5s")
    open(f"{folder}/alertmanager.yml", "w").write(text)
    port = free_port()
    command = ["prometheus-alertmanager", f"--config.file={folder}/alertmanager.yml", f"--storage.path={folder}/alertmanager"]
    command += [f"--web.listen-address=127.0.0.1:{port}", "--cluster.listen-address="]
    return f"http://127.0.0.1:{port}", Program("alertmanager", folder, command)


def collector(folder, grpc, http_port, alerts):
    config = f'state_dir = "{folder}/state"\n[grpc]\nlisten = "127.0.0.1:{grpc}"\n[http]\nlisten = "127.0.0.1:{http_port}"\n'
    config += f"[power.limits]\ncontracted_watts = {WATTS}\n"
    config += '[recorder]\nenabled = true\nroll_interval = "5s"\n'
    if alerts:
        config += f'[alerts]\nresend_interval = "1s"\n[[alerts.alertmanager]]\nurl = "{alerts}"\n'
    open(f"{folder}/collector.toml", "w").write(config)
    return Program("collector", folder, [f"{BINARIES}/gridstep-collector", "run", "--config", f"{folder}/collector.toml"])


def fleets(folder, grpc):
    for index in range(FLEETS):
        command = [f"{BINARIES}/gridstep-fleet", "--collector", f"http://127.0.0.1:{grpc}", "--nodes", str(NODES)]
        command += ["--first", str(1000 * (index + 1)), "--step-every", str(STEP_EVERY), "--ledger", f"{folder}/ledger{index}"]
        yield Program(f"fleet{index}", folder, command)


def agents(folder, grpc):
    open(f"{folder}/scenario.toml", "w").write(SCENARIO)
    start = time.time() + 1
    for node in range(AGENTS):
        config = f'node = "node{node:05}"\n[uplink]\nendpoint = "http://127.0.0.1:{grpc}"\n[reader]\n'
        config += f'nvml_library = "{BINARIES}/libgridstep_simulator.so"\n'
        config += f'[jobs]\ncommand = ["{BINARIES}/gridstep-demo", "job"]\nperiod = "1s"\n[http]\nlisten = "127.0.0.1:{free_port()}"\n'
        config += f'[spool]\ndirectory = "{folder}/spool{node}"\n'
        open(f"{folder}/agent{node}.toml", "w").write(config)
        simulated = {"GRIDSTEP_SIM_SCENARIO": f"{folder}/scenario.toml", "GRIDSTEP_SIM_NODE": str(node), "GRIDSTEP_SIM_START": str(start)}
        yield Program(f"agent{node}", folder, [f"{BINARIES}/gridstep-agent", "run", "--config", f"{folder}/agent{node}.toml"], simulated)


def at_random(chance, programs, every, until):
    """Kills one of the programs now and then."""
    while True:
        time.sleep(max(0.0, min(chance.uniform(*every), until - time.monotonic())))
        if time.monotonic() >= until:
            return
        program = chance.choice(programs)
        program.kill()
        time.sleep(chance.uniform(*AWAY))
        program.start()


def check_recording(folder):
    """Of the ledgers: readings, those that are missing; of the recording: rows, those that are there twice."""
    database = duckdb.connect()
    files = glob.glob(f"{folder}/state/recording/power-*.parquet") + glob.glob(f"{folder}/state/recording/late-power-*.parquet")
    database.execute("CREATE TABLE readings AS SELECT node, gpu, epoch_us(ts) AS stamp, count(*) AS n FROM read_parquet(?) GROUP BY ALL", [files])
    rows, doubled = database.sql("SELECT sum(n), count(*) FILTER (n > 1) FROM readings").fetchall()[0]
    with open(f"{folder}/expected.csv", "w") as expected:
        for ledger in glob.glob(f"{folder}/ledger*"):
            for line in open(ledger):
                node, gpus, *stamps = line.split()
                expected.writelines(f"{node},{gpus},{stamp}\n" for stamp in stamps)
    database.execute(
        f"CREATE TABLE expected AS SELECT * FROM read_csv('{folder}/expected.csv', header = false, "
        "columns = {'node': 'VARCHAR', 'gpus': 'INTEGER', 'stamp': 'BIGINT'})"
    )
    acknowledged, missing = database.sql(
        "SELECT sum(gpus), sum(gpus - coalesce(there, 0)) FROM (SELECT DISTINCT * FROM expected) AS wanted "
        "LEFT JOIN (SELECT node, stamp, count(*) AS there FROM readings GROUP BY ALL) AS found USING (node, stamp)"
    ).fetchall()[0]
    return int(acknowledged or 0), int(missing or 0), int(rows or 0), int(doubled or 0)


def level(period):
    """Watts of a GPU in a period between two steps: as gridstep-fleet has it (SplitMix64)."""
    mask = 2**64 - 1
    state = (period * 0x9E3779B97F4A7C15 + 0x9E3779B97F4A7C15) & mask
    state = ((state ^ (state >> 30)) * 0xBF58476D1CE4E5B9) & mask
    state = ((state ^ (state >> 27)) * 0x94D049BB133111EB) & mask
    return 400 + 250 * ((state ^ (state >> 31)) >> 11) / 2**53


def onset(incident):
    return datetime.datetime.fromisoformat(incident["started_at"].replace("Z", "+00:00")).timestamp()


def check_steps(incidents, begin, end, killed_at):
    """How many large steps there were, and those that were not told once. When fleets were killed."""
    faults, steps = [], 0
    for period in range(int(begin // STEP_EVERY) + 1, int(end // STEP_EVERY) + 1):
        delta = (level(period) - level(period - 1)) * FLEETS * NODES * 8
        since = min((period * STEP_EVERY - at for at in killed_at if at < period * STEP_EVERY + 5), default=AFTER)
        if abs(delta) < 2 * 0.05 * WATTS or since < AFTER:
            continue
        steps += 1
        cause = "step_up" if delta > 0 else "step_down"
        found = [one["id"] for one in incidents if one["cause"] == cause and abs(onset(one) - period * STEP_EVERY) < 3]
        if len(found) != 1:
            faults.append(f"a {cause} of {delta:.0f} W at {period * STEP_EVERY} is told {len(found)} times: {found}")
    return steps, faults


def doubled_incidents(incidents):
    faults, last = [], {}
    for incident in sorted(incidents, key=onset):
        key = json.dumps([incident["kind"], incident["cause"], incident["subject"]], sort_keys=True)
        if key in last and onset(incident) - onset(last[key]) < 5:
            faults.append(f"{incident['id']} and {last[key]['id']} are one condition")
        last[key] = incident
    return faults


def main():
    folder = tempfile.mkdtemp(prefix="gridstep-kill-")
    chance = random.Random(SEED)
    print(f"seed {SEED}, {SECONDS:.0f} s, {FLEETS * NODES * 8} GPUs of {FLEETS} fleets and {16 * AGENTS} of {AGENTS} agents, in {folder}", file=sys.stderr)
    grpc, port = free_port(), free_port()
    alerts, notifier = alertmanager(folder)
    subject = collector(folder, grpc, port, alerts)
    load = [*fleets(folder, grpc), *agents(folder, grpc)]
    watch = Watch(port)
    watch.start()
    until, begin = time.monotonic() + SECONDS, time.time() + 30
    killers = [
        threading.Thread(target=at_random, args=(random.Random(chance.random()), [subject], COLLECTOR_EVERY, until)),
        threading.Thread(target=at_random, args=(random.Random(chance.random()), load, OTHERS_EVERY, until)),
    ]
    try:
        for killer in killers:
            killer.start()
        for killer in killers:
            killer.join()
        end = time.time()
        time.sleep(SETTLE)
        watch.look()
        with urllib.request.urlopen(f"http://127.0.0.1:{port}/api/v1/gaps", timeout=5) as answer:
            gaps = json.load(answer)
        for program in load:
            program.end(signal.SIGINT)
        subject.end(signal.SIGTERM)
    finally:
        for program in [subject, *load, *([notifier] if notifier else [])]:
            program.process.kill()
            program.process.wait()
    acknowledged, missing, rows, doubled = check_recording(folder)
    steps, untold = check_steps(watch.known.values(), begin, end, [at for program in load[:FLEETS] for at in program.killed_at])
    faults = untold + watch.faults[:20] + doubled_incidents(watch.known.values()) + Receiver.faults
    faults += [f"{missing} acknowledged readings are not recorded"] * (missing > 0) + [f"{doubled} readings are there twice"] * (doubled > 0)
    kinds = {}
    for incident in watch.known.values():
        name = f"{incident['kind']} {incident['cause']}"
        kinds[name] = kinds.get(name, 0) + 1
    print(f"kills: {subject.kills} of the collector, {sum(program.kills for program in load)} of {len(load)} fleets and agents")
    print(f"readings of power: {acknowledged} acknowledged, {missing} of them missing; {rows} recorded, {doubled} of them twice")
    print(f"steps of the fleets' power beyond twice the limit: {steps}, {len(untold)} of them not told once")
    print(f"incidents: {len(watch.known)} over {watch.polls} looks, {json.dumps(kinds)}; {Receiver.pages} notifications that one fires")
    settled = [gap for gap in gaps if gap["settled_at"]]
    seconds = sum(gap["unseen_seconds"] or 0 for gap in settled)
    print(f"restarts: {len(gaps)}, {len(settled)} of them long enough to tell what was missed, {seconds:.1f} s in all")
    for fault in faults:
        print(f"NOT SO: {fault}")
    if not acknowledged or not watch.known:
        faults.append("nothing happened")
        print("NOT SO: nothing happened")
    if not faults:
        shutil.rmtree(folder, ignore_errors=True)
    sys.exit(1 if faults else 0)


if __name__ == "__main__":
    main()
