"""A program that runs a job as `newhope run-job` does, with work that the spec chooses: practice_job.py STATE ID."""

import hashlib
import json
import os
import sys
import time
from pathlib import Path

from engine.errors import NoSpace
from engine.jobs import Job, JobContext, JobResult, Journal, run, take_handed
from engine.jobs.pace import Pace

HANDED = take_handed()


def work(job: Job, context: JobContext) -> str | JobResult:
    spec = json.loads(job.spec)
    match spec["do"]:
        case "finish":
            context.plan(["read", "write"])
            with context.step("read", total_bytes=100) as step:
                step.advance(60)
                step.advance(40)
                step.note("all of it")
            with context.step("write"):
                pass
            context.log("everything written")
            return "Everything was written."
        case "warn":
            return JobResult("Written, but the guest was not frozen.", warn=True)
        case "fail":
            context.plan(["look for space", "write"])
            with context.step("look for space"):
                raise NoSpace("The pool is full.", next_step="free 3 GiB.")
        case "defect":
            with context.step("divide"):
                return str(1 // 0)
        case "tell what was handed":
            digest = hashlib.sha256(HANDED).hexdigest()
            return f"{len(HANDED)} bytes, {digest}, then {os.readlink('/proc/self/fd/0')}"
        case "wait":
            pace = Pace(context)
            with context.step("wait", total_bytes=10**9) as step:
                Path(spec["began"]).write_text(str(os.getpid()))
                while not Path(spec["until"]).exists():
                    pace.take(1000)
                    step.advance(1000)
                    time.sleep(0.02)
            return "Waited until the end."
    raise AssertionError(spec)


if __name__ == "__main__":
    with Journal(Path(sys.argv[1])) as journal:
        sys.exit(run(journal, int(sys.argv[2]), work))
