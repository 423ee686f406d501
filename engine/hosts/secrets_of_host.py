"""Secrets that libvirt keeps for a VM (https://libvirt.org/formatsecret.html): keys of encrypted disks and of a TPM's
state, passwords for storage over the network.

Their values are not in any definition. A host gives them only where the connection may see them and they are not
`private`. A value is never put into an error, a log or a job: it goes from here to a sealed object and back.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from engine.hosts.lane import HostLane
from engine.hosts.model import Definition, HostSecret
from engine.hosts.xml_tree import parse, text_of

if TYPE_CHECKING:
    from xml.etree.ElementTree import Element

    import libvirt

_USAGE = ("usage/volume", "usage/name", "usage/target")


def needed_by(lane: HostLane, definition: Definition, *, values: bool) -> tuple[HostSecret, ...]:
    """The secrets that a VM's definition names, by UUID or by what they are for, as far as the host has them.

    With `values`, their values too, where the host gives them.
    """
    uuids, usages = _named(parse(definition.inactive))
    if definition.live is not None:
        more_uuids, more_usages = _named(parse(definition.live))
        uuids, usages = uuids | more_uuids, usages | more_usages
    if not uuids and not usages:
        return ()

    def work(connection: libvirt.virConnect) -> tuple[HostSecret, ...]:
        found: list[HostSecret] = []
        for secret in connection.listAllSecrets():
            description = secret.XMLDesc()
            usage = _usage_of(parse(description))
            if secret.UUIDString() in uuids or usage in usages:
                value = _value(secret) if values else None
                found.append(HostSecret(secret.UUIDString(), " ".join(usage), description.encode(), value))
        return tuple(sorted(found, key=lambda each: each.uuid))

    return lane.run(work)


def names_needed(definition: Definition) -> frozenset[str]:
    """UUIDs of the secrets without which a VM of this definition does not start."""
    return frozenset(_named(parse(definition.inactive))[0])


def known(lane: HostLane) -> frozenset[str]:
    """UUIDs of the secrets that the host has, with or without a value."""
    return lane.run(lambda connection: frozenset(secret.UUIDString() for secret in connection.listAllSecrets()))


def put(lane: HostLane, description: bytes, value: bytes) -> None:
    """Define a secret that the host does not have, and give it its value. Raises HostRefused; nothing is left then."""

    def work(connection: libvirt.virConnect) -> None:
        secret = connection.secretDefineXML(description.decode())
        try:
            secret.setValue(value)
        except BaseException:
            secret.undefine()
            raise

    lane.run(work)


def remove(lane: HostLane, uuid: str) -> None:
    """Take a secret away that `put` had brought."""
    lane.run(lambda connection: connection.secretLookupByUUIDString(uuid).undefine())


def _named(domain: Element) -> tuple[set[str], set[tuple[str, str]]]:
    """UUIDs, and pairs of kind and what for, of the secrets that a definition names."""
    uuids: set[str] = set()
    usages: set[tuple[str, str]] = set()
    for element in domain.iter():
        if element.tag == "secret":
            if element.get("uuid"):
                uuids.add((element.get("uuid") or "").lower())
            elif element.get("usage") and element.get("type"):
                usages.add((element.get("type") or "", element.get("usage") or ""))
        elif element.tag == "encryption" and element.get("secret"):
            uuids.add((element.get("secret") or "").lower())
    return uuids, usages


def _usage_of(secret: Element) -> tuple[str, str]:
    usage = secret.find("usage")
    kind = usage.get("type", "") if usage is not None else ""
    return kind, next((text for path in _USAGE if (text := text_of(secret, path))), "")


def _value(secret: libvirt.virSecret) -> bytes | None:
    import libvirt

    try:
        return secret.value()
    except libvirt.libvirtError:
        # Private, without a value, or not for this connection.
        return None
