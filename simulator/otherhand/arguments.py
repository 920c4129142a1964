"""The command line."""

import argparse
import sys
from pathlib import Path

from .commands import generate, one, score
from .failure import WRONG_USAGE
from .kinds import FAULTS, KINDS
from .sets import SETS

PROGRAM = "python3 -m simulator.otherhand"
FAULT_HELP = "any (one or two), none, two, or a cause as incidents have it (thermal, …); default: none in a third of the seeds, else any"

DESCRIPTION = """\
Makes labelled recordings of a fleet of 16 nodes with 8 H100s each, in which GPUs or nodes slow their job down (or nobody does), and scores a
collector on them. To be run in the repository's folder. docs/evaluation.md says what is simulated, what is not, and how the detector does.
"""
EXAMPLES = f"""\
examples:
  # the 200 scenarios of docs/evaluation.md (650 MB, some five minutes), and how a collector does on them
  {PROGRAM} generate --set fresh --out /tmp/fresh
  {PROGRAM} score --collector target/release/gridstep-collector /tmp/fresh

  # scenarios that nobody has looked at
  {PROGRAM} generate --kind mixed --seeds 90001-90040 --out /tmp/unseen

  # a single one: GPU too hot, nothing else unusual; what was done is in its truth.json
  {PROGRAM} one --kind plain --seed 7 --fault thermal --out /tmp/hot
  target/release/gridstep-collector replay /tmp/hot

exit codes: 0 done, whatever the score; 1 failed, or the collector crashed; 64 wrong usage; 69 a Python package is missing
"""
KINDS_HELP = """\
mixed: uneven work (sequence lengths, experts, late ranks), restarts, and harmless events that look like a fault;
plain: one or two jobs with pauses and a fault, steps of 2.2 to 9 s; plain-clipped: the same, steps of 2 to 9 s, many of them exactly 2 or 9"""


class Parser(argparse.ArgumentParser):
    def error(self, message):
        self.print_usage(sys.stderr)
        self.exit(WRONG_USAGE, f"{self.prog}: {message}\n")


def parse(arguments=None):
    parser = Parser(prog=PROGRAM, description=DESCRIPTION, epilog=EXAMPLES, formatter_class=argparse.RawDescriptionHelpFormatter)
    commands = parser.add_subparsers(title="commands", required=True, metavar="COMMAND")
    add_generate(commands)
    add_one(commands)
    add_score(commands)
    parsed = parser.parse_args(arguments)
    if parsed.run is generate and (parsed.set is None) == (parsed.seeds is None):
        parser.error("generate: give either --set, or --kind and --seeds")
    if parsed.run is generate and parsed.set and (parsed.kind or parsed.fault):
        parser.error("generate: a set has its own kinds and faults")
    if parsed.run is generate and parsed.seeds and not parsed.kind:
        parser.error("generate: --seeds needs a --kind")
    return parsed


def add_generate(commands):
    about = "Makes many scenarios, each a folder in DIR. What is there already is kept."
    command = commands.add_parser("generate", help="make many scenarios", description=about)
    sizes = ", ".join(f"{name} has {len(named)}" for name, named in SETS.items())
    command.add_argument("--set", choices=SETS, help=f"those of docs/evaluation.md; {sizes}")
    command.add_argument("--kind", choices=KINDS, help=KINDS_HELP)
    command.add_argument("--seeds", type=seeds, metavar="FIRST-LAST", help="instead of --set, with --kind")
    add_what(command)
    command.add_argument("--out", type=Path, required=True, metavar="DIR", help="made where it is not there")
    command.add_argument("--again", action="store_true", help="make anew what is there already")
    add_processes(command)
    command.set_defaults(run=generate)


def add_one(commands):
    about = "Makes one scenario: DIR itself is the recording. A scenario that is there is replaced."
    command = commands.add_parser("one", help="make one scenario", description=about)
    command.add_argument("--kind", choices=KINDS, default="mixed", help=KINDS_HELP + "; default mixed")
    command.add_argument("--seed", type=seed, required=True, metavar="N")
    add_what(command)
    command.add_argument("--out", type=Path, required=True, metavar="DIR")
    command.set_defaults(run=one)


def add_score(commands):
    about = "Replays each scenario with a collector, and prints what it found, what it missed, and what it said of nobody's fault."
    command = commands.add_parser("score", help="replay scenarios and score what the collector says", description=about)
    command.add_argument("--collector", required=True, metavar="BINARY", help="gridstep-collector; of a release build it takes a second a scenario")
    command.add_argument("scenarios", type=Path, nargs="+", metavar="DIR", help="a scenario, or a folder of them")
    command.add_argument("--incidents", type=Path, metavar="DIR", help="keep the incidents here, a file a scenario")
    command.add_argument("--verbose", action="store_true", help="also a line for each scenario in which something is wrong")
    command.add_argument("--json", action="store_true", help="print the score of each scenario as a line of JSON instead")
    add_processes(command)
    command.set_defaults(run=score)


def add_what(command):
    command.add_argument("--fault", choices=FAULTS, metavar="FAULT", help=FAULT_HELP)
    command.add_argument("--unnamed", action="store_true", help="the recording does not say whose job a GPU works for; all else is the same")


def add_processes(command):
    command.add_argument("--processes", type=processes, default=2, metavar="N", help="at once; default 2")


def seed(text):
    value = int(text) if text.isdigit() else -1
    if value < 0:
        raise argparse.ArgumentTypeError(f"{text!r} is no whole number from 0 on")
    return value


def seeds(text):
    first, dash, last = text.partition("-")
    first, last = seed(first), seed(last if dash else first)
    if first > last:
        raise argparse.ArgumentTypeError(f"{text!r} ends before it begins")
    return range(first, last + 1)


def processes(text):
    if not text.isdigit() or int(text) == 0:
        raise argparse.ArgumentTypeError(f"{text!r} is no whole number from 1 on")
    return int(text)
