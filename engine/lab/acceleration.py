"""Whether guests can use KVM or must be emulated."""

from __future__ import annotations

import fcntl
import os
from enum import StrEnum
from pathlib import Path

from engine.lab.account import Account

_KVM = Path("/dev/kvm")
_KVM_CREATE_VM = 0xAE01


class Acceleration(StrEnum):
    """libvirt's domain types, as far as the lab uses them."""

    KVM = "kvm"
    EMULATION = "qemu"


def available(account: Account) -> Acceleration:
    """KVM only if the lab's user may use it and it makes a VM: in containers the device alone promises nothing."""
    if not _KVM.exists() or not account.may_read_and_write(_KVM):
        return Acceleration.EMULATION
    try:
        device = os.open(_KVM, os.O_RDWR | os.O_CLOEXEC)
        try:
            os.close(fcntl.ioctl(device, _KVM_CREATE_VM, 0))
        finally:
            os.close(device)
    except OSError:
        return Acceleration.EMULATION
    return Acceleration.KVM
