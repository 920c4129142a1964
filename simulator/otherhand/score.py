"""Straggler incidents against the truth, by the rules of ../shared/eval/score.py, said again as the repository must run without it.

An incident is right if it names the node at fault (and the GPU where one is, and none where the node is) and was opened between the onset and a
minute after the end, five minutes after the onset at the latest. The first right one is the fault's detection, further ones are duplicates; any
other is false, one for the record as well. A fault that is marked optional (it costs less than 1 %) counts neither way.
`collector/tests/it/otherhand.rs` compares the two.
"""

from dataclasses import dataclass, field
from datetime import datetime

AFTER_END_SECONDS = 60
AFTER_ONSET_SECONDS = 300


@dataclass
class Finding:
    fault: dict
    incident: dict | None = None
    duplicates: int = 0
    # From the onset to where the incident was opened, event time.
    delay_seconds: float | None = None

    @property
    def counts(self):
        return not self.fault.get("optional", False)

    @property
    def found(self):
        return self.incident is not None

    @property
    def cause_right(self):
        return self.found and self.incident["cause"] == self.fault["cause"]


@dataclass
class Score:
    name: str
    findings: list[Finding]
    false: list[dict] = field(default_factory=list)

    @property
    def healthy(self):
        return not self.findings


def score(truth, incidents):
    result = Score(truth["name"], [Finding(fault) for fault in truth["stragglers"]])
    stragglers = [incident for incident in incidents if incident["kind"] == "straggler"]
    for incident in sorted(stragglers, key=lambda incident: incident["opened_at"]):
        opened = seconds(incident["opened_at"]) - truth["t0"]
        right = [finding for finding in result.findings if matches(finding.fault, incident, opened)]
        first = next((finding for finding in right if not finding.found), None)
        if first:
            first.incident = incident
            first.delay_seconds = opened - first.fault["start"]
        elif right:
            right[-1].duplicates += 1
        else:
            result.false.append(incident)
    return result


def matches(fault, incident, opened):
    subject = incident["subject"]
    if subject.get("node") != fault["node"] or subject.get("gpu") != fault["gpu"]:
        return False
    return fault["start"] <= opened <= min(fault["end"] + AFTER_END_SECONDS, fault["start"] + AFTER_ONSET_SECONDS)


def seconds(stamp):
    return datetime.fromisoformat(stamp.replace("Z", "+00:00")).timestamp()
