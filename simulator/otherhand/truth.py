"""What was done, for whoever scores: truth.json, as the given recordings have it, and what else is good to know of a scenario."""

from dataclasses import asdict

from .cluster import GPUS, GPUS_PER_NODE, STARTED_AT, node_name

# What slows a job by less is no incident (contract of incidents): it counts neither way.
LEAST_SLOWDOWN = 0.01


def truth(name, scenario, effects, flickering):
    return {
        "name": name,
        "kind": scenario.kind,
        "seed": scenario.seed,
        "t0": STARTED_AT,
        "seconds": scenario.seconds,
        "gpus": GPUS,
        "stragglers": [straggler(effect, scenario.jobs) for effect in effects],
        # Power swings are not scored here.
        "swings": None,
        "harmless": {kind: asdict(harmless) for kind, harmless in scenario.harmless.items()},
        "flickering": [[gpu // GPUS_PER_NODE, gpu % GPUS_PER_NODE] for gpu in flickering],
        "jobs": [{**asdict(job), "stage_of_node": job.stage_of_node.tolist(), "stage_work": job.stage_work.tolist()} for job in scenario.jobs],
    }


def straggler(effect, jobs):
    fault = effect.fault
    found = {
        "node": node_name(fault.node),
        "gpu": fault.gpu,
        "start": fault.start,
        "end": fault.end,
        "cause": fault.cause,
        "depth": round(effect.depth, 4),
        "job_slowdown": round(effect.job_slowdown, 4),
        "job": jobs[fault.job].name,
        "from_begin": fault.from_begin,
        "intermittent": fault.intermittent,
        "variant": fault.variant,
        "activity_falls": fault.activity_falls,
        "facts": fault.facts,
    }
    if effect.job_slowdown < LEAST_SLOWDOWN:
        found["optional"] = True
    return found
