"""The second process behind every freeze: `python -m engine.hosts.thaw_guard HOST UUID SECONDS`.

A guest whose file systems are frozen stands still, and whoever froze it may be killed before it can thaw. So this
process (`second_process`) thaws for it, until the guest says that it is thawed, for ten minutes, and tells the
system's log. HOST is the settings' value, in JSON.
"""

from __future__ import annotations

import sys
import syslog

from engine.hosts import second_process, thaw
from engine.hosts.lane import HostLane

KEEP_THAWING_S = 600.0


def main(arguments: list[str]) -> int:
    """Guard one freeze; 0 if the guest is thawed at the end."""
    host = second_process.host_of(arguments[0])
    uuid, longest_s = arguments[1], float(arguments[2])
    lane = HostLane(host)
    lane.run(lambda connection: connection.lookupByUUIDString(uuid).name())
    why = second_process.stand_by(longest_s)
    if why is None:
        return 0
    result = thaw.until_thawed(lane, uuid, timeout_s=KEEP_THAWING_S)
    if result.thawed:
        syslog.syslog(syslog.LOG_WARNING, f"newhope thawed the VM {uuid} on {host.name} from its second process: {why}")
        return 0
    syslog.syslog(
        syslog.LOG_CRIT, f"newhope could not thaw the VM {uuid} on {host.name}, which may be frozen: {result.reason}"
    )
    return 1


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
