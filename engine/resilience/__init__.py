"""What would take a VM away for good: single points of failure, each with evidence and a way to mend it.

1. The scene is laid out once: every VM with its level, its recovery points, the repositories that hold a copy as good
   as the newest, and its host (`scene`).
2. Each check looks at the scene and returns findings: what, why it matters, the evidence, what to do. A check says
   nothing about a VM for which a more basic check already failed: without a recovery point there is no copy to count.
3. One cause is one finding: a repository on the host of ten VMs is one line with ten names, not ten lines.
4. What cannot be told is UNKNOWN; what is fine is OK, and counted. Findings come sorted, the worst first.

What an operator declares in the settings (`places`, `on_host`) goes before what can be probed.

Pure: from values to values, with `now` given. May import: `fleet`, `hosts`, `repository` and `settings`, for their
values. Face: `find`, `concerning`, `count`, `CHECKS` and the structs below.
"""

from engine.resilience.finding import Counts, Finding, Severity, concerning, count
from engine.resilience.search import CHECKS, find

__all__ = ["CHECKS", "Counts", "Finding", "Severity", "concerning", "count", "find"]
