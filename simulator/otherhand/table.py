"""Tallies for a reader, in Markdown that is legible as it is."""

from .score import seconds


def markdown(heads, rows):
    cells = [heads, *[[show(cell) for cell in row] for row in rows]]
    widths = [max(len(row[column]) for row in cells) for column in range(len(heads))]
    lines = ["| " + " | ".join(cell.ljust(width) for cell, width in zip(row, widths)) + " |" for row in cells]
    lines.insert(1, "|" + "|".join("-" * (width + 2) for width in widths) + "|")
    return "\n".join(lines)


def show(cell):
    return "" if cell is None else cell if isinstance(cell, str) else f"{cell:.3f}" if isinstance(cell, float) else str(cell)


def of(share):
    return f"{share.part} of {share.of}"


def by_severity(tally):
    return " / ".join(str(count) for count in tally.false.values())


def kinds(tallies):
    heads = ["scenarios", "", "faults found", "below 4 %", "from 4 % on", "cause right"]
    heads += ["false: info / warning / critical", "twice", "healthy with any", "crashes"]
    rows = []
    for kind, tally in tallies.items():
        found = [of(tally.found), of(tally.found_small), of(tally.found_large), of(tally.cause_right)]
        rows.append([kind, tally.scenarios, *found, by_severity(tally), tally.duplicates, of(tally.healthy_raised), tally.crashes])
    return markdown(heads, rows)


def shares(tally):
    named = {
        "recall": tally.found,
        "recall below 4 %": tally.found_small,
        "recall from 4 % on": tally.found_large,
        "precision": tally.raised,
        "cause right, of those found": tally.cause_right,
        "healthy scenarios with anything raised": tally.healthy_raised,
    }
    rows = [[name, of(share), share.ratio, between(share.interval())] for name, share in named.items()]
    return markdown(["all together", "", "", "95 % (Wilson)"], [*rows, ["F1", "", tally.f1, ""]])


def between(interval):
    return f"{interval[0]:.3f} to {interval[1]:.3f}" if interval else ""


def causes(tallies):
    heads = ["cause", "found", "cause right", "said falsely", "twice", "delay p50, s", "p95, s"]
    rows = []
    for cause, tally in tallies.items():
        delays = [f"{delay:.1f}" if delay is not None else "" for delay in (tally.delay_seconds(0.5), tally.delay_seconds(0.95))]
        rows.append([cause, of(tally.found), of(tally.cause_right), sum(tally.false.values()), tally.duplicates, *delays])
    return markdown(heads, rows)


def wrong(score, truth):
    """A line of what is wrong with a scenario; None where nothing is."""
    missed = [finding for finding in score.findings if finding.counts and (not finding.found or not finding.cause_right)]
    twice = any(finding.duplicates for finding in score.findings)
    if not missed and not score.false and not twice:
        return None
    parts = [tell_finding(finding) for finding in score.findings] + [tell_false(incident, truth["t0"]) for incident in score.false]
    harmless = ", ".join(truth.get("harmless", {}))
    return f"{score.name}{f' ({harmless})' if harmless else ''}: " + "; ".join(parts)


def tell_finding(finding):
    fault = finding.fault
    marks = "".join(f", {mark.replace('_', ' ')}" for mark in ("from_begin", "intermittent", "optional") if fault.get(mark))
    who = subject(fault["node"], fault["gpu"])
    said = f"{finding.incident['cause']} after {finding.delay_seconds:.0f} s" if finding.found else "missed"
    if finding.duplicates:
        said += f", and {finding.duplicates} times more"
    return f"{who} {fault['cause']} {100 * fault['job_slowdown']:.1f} % {fault['start']:.0f} to {fault['end']:.0f} s{marks} -> {said}"


def tell_false(incident, t0):
    of_subject = incident["subject"]
    who = subject(of_subject.get("node", of_subject.get("rack", of_subject.get("job"))), of_subject.get("gpu"))
    started, opened = (seconds(incident[stamp]) - t0 for stamp in ("started_at", "opened_at"))
    slowdown = incident["magnitude"].get("slowdown_ratio")
    cost = f", {100 * slowdown:.1f} %" if slowdown is not None else ""
    return f"FALSE {who} {incident['cause']} ({incident['severity']}) from {started:.0f} s, opened at {opened:.0f} s{cost}"


def subject(node, gpu):
    return f"{node}/{gpu}" if gpu is not None else str(node)
