"""libvirt's XML in and out: read into trees, written back with the prefixes that people know."""

from __future__ import annotations

from xml.etree import ElementTree
from xml.etree.ElementTree import Element

# Without these, ElementTree would write ns0: where libvirt's documentation says qemu:.
_NAMESPACES = {
    "qemu": "http://libvirt.org/schemas/domain/qemu/1.0",
    "lxc": "http://libvirt.org/schemas/domain/lxc/1.0",
    "libosinfo": "http://libosinfo.org/xmlns/libvirt/domain/1.0",
}
for _prefix, _namespace in _NAMESPACES.items():
    ElementTree.register_namespace(_prefix, _namespace)


def parse(xml: str | bytes) -> Element:
    """The root element. Raises ValueError for what is not XML."""
    try:
        # expat refuses exponential entities itself since 2.4, and there are no external ones here.
        return ElementTree.fromstring(xml)  # noqa: S314
    except ElementTree.ParseError as error:
        raise ValueError(f"This is not XML: {error}") from None


def to_bytes(root: Element) -> bytes:
    """The document as UTF-8."""
    return ElementTree.tostring(root, encoding="utf-8")


def text_of(root: Element, path: str) -> str | None:
    """The text of the first element at `path`, without its margins; None where there is none."""
    text = root.findtext(path)
    return text.strip() or None if text is not None else None


def attribute_of(root: Element, path: str, name: str) -> str | None:
    """An attribute of the first element at `path`; None where there is none."""
    element = root.find(path)
    return element.get(name) if element is not None else None


_UNITS = {
    "b": 1,
    "bytes": 1,
    "kb": 1000,
    "k": 1024,
    "kib": 1024,
    "mb": 1000**2,
    "m": 1024**2,
    "mib": 1024**2,
    "gb": 1000**3,
    "g": 1024**3,
    "gib": 1024**3,
    "tb": 1000**4,
    "t": 1024**4,
    "tib": 1024**4,
}


def size_of(root: Element, path: str, *, default_unit: str) -> int:
    """A size in bytes, from an element such as `<memory unit='KiB'>`; 0 where there is none."""
    element = root.find(path)
    if element is None or not element.text:
        return 0
    return int(element.text.strip()) * _UNITS[element.get("unit", default_unit).lower()]
