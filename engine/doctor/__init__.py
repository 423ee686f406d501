"""What newhope needs from this machine's operating system, whether it is there, and the command that mends it.

`system-packages.tsv` is the one list of needs: `./dev` reads it before there is a Python environment, this package
afterwards, which looks for newhope's own extra as well. Nothing here changes the machine.

Imports disk_files.
"""

from engine.doctor.examination import PackageCheck, Purpose, examine

__all__ = ["PackageCheck", "Purpose", "examine"]
