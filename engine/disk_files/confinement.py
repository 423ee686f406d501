"""Giving up everything but one socket, some memory and the clock; for the reading process, before it reads anything.

As root it becomes `nobody`. Whoever it is, it can then start nothing and gain no rights (`no_new_privs`), its memory,
files and threads are limited (`setrlimit`), and the kernel answers EPERM to every system call but the few that
computing and one socket need (seccomp: no open, no socket, no exec, no kill), on x86-64 and 64-bit ARM.
"""

from __future__ import annotations

import ctypes
import os
import platform
import pwd
import resource
import struct

MEMORY_BYTES = 1 << 30
CPU_SECONDS = 6 * 3600

_PR_SET_DUMPABLE, _PR_SET_SECCOMP, _PR_SET_NO_NEW_PRIVS = 4, 22, 38
_SECCOMP_MODE_FILTER = 2
_ALLOW, _EPERM = 0x7FFF0000, 0x00050001

# Names in the order of the numbers; from the kernel's unistd.h and asm/unistd_64.h.
_CALLS = {
    # machine: (AUDIT_ARCH, numbers)
    "x86_64": (
        0xC000003E,
        (
            (0, "read"), (1, "write"), (3, "close"), (5, "fstat"), (7, "poll"), (9, "mmap"), (10, "mprotect"),
            (11, "munmap"), (12, "brk"), (13, "rt_sigaction"), (14, "rt_sigprocmask"), (15, "rt_sigreturn"),
            (24, "sched_yield"), (25, "mremap"), (28, "madvise"), (35, "nanosleep"), (39, "getpid"), (44, "sendto"),
            (45, "recvfrom"), (60, "exit"), (131, "sigaltstack"), (186, "gettid"), (202, "futex"),
            (219, "restart_syscall"), (228, "clock_gettime"), (230, "clock_nanosleep"), (231, "exit_group"),
            (271, "ppoll"), (318, "getrandom"), (334, "rseq"),
        ),
    ),
    "aarch64": (
        0xC00000B7,
        (
            (57, "close"), (63, "read"), (64, "write"), (73, "ppoll"), (80, "fstat"), (93, "exit"),
            (94, "exit_group"), (98, "futex"), (101, "nanosleep"), (113, "clock_gettime"), (115, "clock_nanosleep"),
            (124, "sched_yield"), (128, "restart_syscall"), (132, "sigaltstack"), (134, "rt_sigaction"),
            (135, "rt_sigprocmask"), (139, "rt_sigreturn"), (172, "getpid"), (178, "gettid"), (206, "sendto"),
            (207, "recvfrom"), (214, "brk"), (215, "munmap"), (216, "mremap"), (222, "mmap"), (226, "mprotect"),
            (233, "madvise"), (278, "getrandom"), (293, "rseq"),
        ),
    ),
}  # fmt: skip


class _Filter(ctypes.Structure):
    _fields_ = (("length", ctypes.c_ushort), ("program", ctypes.c_char_p))


def confine() -> None:
    """Give everything up, in the order in which it can still be given up. Raises OSError if the kernel refuses."""
    libc = ctypes.CDLL(None, use_errno=True)
    os.chdir("/")
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    resource.setrlimit(resource.RLIMIT_FSIZE, (0, 0))
    resource.setrlimit(resource.RLIMIT_AS, (MEMORY_BYTES, MEMORY_BYTES))
    resource.setrlimit(resource.RLIMIT_CPU, (CPU_SECONDS, CPU_SECONDS))
    if os.geteuid() == 0:
        nobody = pwd.getpwnam("nobody")
        os.setgroups([])
        os.setresgid(nobody.pw_gid, nobody.pw_gid, nobody.pw_gid)
        os.setresuid(nobody.pw_uid, nobody.pw_uid, nobody.pw_uid)
    resource.setrlimit(resource.RLIMIT_NOFILE, (0, 0))
    _prctl(libc, _PR_SET_DUMPABLE, 0)
    _prctl(libc, _PR_SET_NO_NEW_PRIVS, 1)
    known = _CALLS.get(platform.machine())
    if known is not None:
        program = filter_program(known[0], [number for number, _ in known[1]])
        rules = _Filter(len(program) // 8, program)
        _prctl(libc, _PR_SET_SECCOMP, _SECCOMP_MODE_FILTER, ctypes.addressof(rules))


def filter_program(architecture: int, allowed: list[int]) -> bytes:
    """The filter, as instructions of classic BPF over struct seccomp_data (number at 0, architecture at 4)."""

    def step(code: int, value: int, if_true: int = 0, if_false: int = 0) -> bytes:
        return struct.pack("=HBBI", code, if_true, if_false, value)

    load, equals, answer = 0x20, 0x15, 0x06
    calls = [step(equals, number, len(allowed) - at, 0) for at, number in enumerate(allowed)]
    return b"".join(
        [
            step(load, 4),
            step(equals, architecture, 1, 0),
            step(answer, _EPERM),
            step(load, 0),
            *calls,
            step(answer, _EPERM),
            step(answer, _ALLOW),
        ]
    )


def _prctl(libc: ctypes.CDLL, what: int, value: int, more: int = 0) -> None:
    unsigned = ctypes.c_ulong
    if libc.prctl(what, unsigned(value), unsigned(more), unsigned(0), unsigned(0)):
        raise OSError(ctypes.get_errno(), f"prctl({what})")
