"""What the command line asks for."""

import json
import signal
import sys
import tempfile
from concurrent.futures import ProcessPoolExecutor, ThreadPoolExecutor, as_completed
from contextlib import ExitStack
from pathlib import Path

from . import folder as folders
from . import table
from .failure import FAILED, NOT_THERE, Failure
from .progress import Progress
from .replay import check_collector, replay
from .score import score as score_incidents
from .sets import SCENARIO_BYTES, SETS, Named, span
from .tally import Tally, by_cause


def generate(arguments):
    wanted = SETS[arguments.set] if arguments.set else span(arguments.kind, arguments.seeds[0], arguments.seeds[-1], arguments.fault)
    check_packages()
    out = arguments.out
    missing = [named for named in wanted if arguments.again or not folders.is_scenario(out / named.name)]
    for named in missing:
        folders.check_replaceable(out / named.name)
    folders.prepare(out, len(missing) * SCENARIO_BYTES)
    progress = Progress("generated", len(missing))
    with ProcessPoolExecutor(arguments.processes, initializer=leave_interrupts_to_parent) as pool:
        work = {pool.submit(make, out / named.name, named, arguments.unnamed): named for named in missing}
        try:
            for done in as_completed(work):
                check_made(done, work[done], out)
                progress.advance()
        except BaseException:
            pool.shutdown(cancel_futures=True)
            raise
    kept = len(wanted) - len(missing)
    print(f"{len(missing)} scenarios are in {out}" + (f", beside {kept} that were there already" if kept else ""))
    return 0


def one(arguments):
    check_packages()
    out = Path(arguments.out)
    folders.check_replaceable(out)
    folders.prepare(out.parent, SCENARIO_BYTES)
    make(out, Named(arguments.kind, arguments.seed, arguments.fault), arguments.unnamed)
    truth = json.loads((out / folders.TRUTH).read_text())
    harmless = ", ".join(truth["harmless"]) or "nothing"
    print(f"{out}: {truth['seconds']} s of {truth['gpus']} GPUs, faults: {len(truth['stragglers'])}, harmless: {harmless}")
    for fault in truth["stragglers"]:
        who = table.subject(fault["node"], fault["gpu"])
        cost = f"costs {fault['job']} {100 * fault['job_slowdown']:.1f} % of its speed"
        print(f"  {who} {fault['cause']}, {fault['start']:.0f} to {fault['end']:.0f} s, {cost}")
    return 0


def make(folder, named, unnamed):
    from .generator import generate

    generate(folder, named.kind, named.seed, named.fault, unnamed)


def check_made(done, named, out):
    try:
        done.result()
    except OSError as error:
        raise Failure(f"write {out / named.name}: {error.strerror or error}") from error


def leave_interrupts_to_parent():
    signal.signal(signal.SIGINT, signal.SIG_IGN)


def check_packages():
    missing = []
    for package in ("numpy", "pyarrow"):
        try:
            __import__(package)
        except ImportError:
            missing.append(package)
    if missing:
        raise Failure(f"import {' and '.join(missing)}: `make deps` installs them into .venv; or `pip install {' '.join(missing)}`", NOT_THERE)


def score(arguments):
    found = [scenario for folder in arguments.scenarios for scenario in folders.scenarios(folder)]
    print(f"{check_collector(arguments.collector)}, {len(found)} scenarios", file=sys.stderr)
    with ExitStack() as stack:
        incidents = arguments.incidents or Path(stack.enter_context(tempfile.TemporaryDirectory()))
        folders.prepare(incidents, 0)
        replayed = replay_all(arguments, found, incidents)
    scores = [(one, None if one.crash else score_incidents(one.truth, one.incidents)) for one in replayed]
    crashes = [f"{one.truth['name']}: the collector crashed, {one.crash}" for one in replayed if one.crash]
    if arguments.json:
        print_lines(scores)
    else:
        print_tables(scores, arguments.verbose)
    for crash in crashes:
        print(crash, file=sys.stderr)
    return FAILED if crashes else 0


def replay_all(arguments, scenarios, incidents):
    """In the order of the scenarios."""
    progress = Progress("replayed", len(scenarios))

    def run(numbered):
        number, scenario = numbered
        # Two folders may have scenarios of one name.
        done = replay(arguments.collector, scenario, incidents / f"{number:04d}-{scenario.name}.jsonl")
        progress.advance()
        return done

    with ThreadPoolExecutor(arguments.processes) as pool:
        return list(pool.map(run, enumerate(scenarios)))


def print_lines(scores):
    for one, score in scores:
        line = {"name": one.truth["name"], "crash": one.crash}
        if score:
            counted = [finding for finding in score.findings if finding.counts]
            line |= {
                "faults": len(counted),
                "found": sum(finding.found for finding in counted),
                "cause_right": sum(finding.cause_right for finding in counted),
                "duplicates": sum(finding.duplicates for finding in score.findings),
                "false": len(score.false),
                "delays_s": sorted(round(finding.delay_seconds, 1) for finding in counted if finding.found),
            }
        print(json.dumps(line))


def print_tables(scores, verbose):
    kinds, together = {}, Tally()
    for one, score in scores:
        kind = one.truth["name"].rsplit("-", 1)[0]
        for tally in (kinds.setdefault(kind, Tally()), together):
            tally.add(score) if score else tally.add_crash()
    judged = [score for _, score in scores if score]
    print(table.kinds({**kinds, "all": together}))
    print(f"\nFaults that cost less than 1 % are in none of these: {together.optional}.\n")
    print(table.shares(together), table.causes(by_cause(judged)), sep="\n\n")
    if verbose:
        lines = [table.wrong(score, one.truth) for one, score in scores if score]
        print("", *[line for line in lines if line], sep="\n")
