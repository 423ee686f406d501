"""What newhope needs from this machine's operating system, and how the hosts are that it is to work on.

`system-packages.tsv` is the one list of needs: `./dev` reads it before there is a Python environment, this package
afterwards, which looks for newhope's own extra as well and names the command that mends what is missing
(`examination`). `host_examination` looks at a host as a backup would find it: how long it takes to answer, by which
way, its versions and programs, and the room for scratch files. Nothing here changes a machine.

Imports disk_files, hosts and fleet.
"""

from engine.doctor.examination import PackageCheck, Purpose, examine
from engine.doctor.host_examination import HostCheck, examine_host, not_done

__all__ = ["HostCheck", "PackageCheck", "Purpose", "examine", "examine_host", "not_done"]
