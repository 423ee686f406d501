"""newhope's engine: everything but what an operator sees and presses.

Usable from Python and from the `newhope` command; it never imports a terminal library. The packages, from the
bottom to the top (an import never goes up; import-linter checks it in the test run):

    settings, nbd             one TOML file in, typed values out; the Network Block Device protocol
    hosts, repository         all that talks to libvirt and QEMU; all that keeps recovery points
    jobs                      detached processes with a journal: what outlives the console
    fleet                     one picture of hosts, VMs and recovery points, gathered side by side
    backup, restore           hosts -> repository, repository -> hosts
    requirements, resilience  levels and exposure; single points of failure
    doctor                    what this machine needs and lacks, and how hosts are
    lab                       practice hosts: real libvirt, real QEMU, real guests
    cli                       one file a command group
"""
