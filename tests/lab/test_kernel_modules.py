from __future__ import annotations

import gzip
import lzma
import struct
from pathlib import Path

from engine.lab.kernel_modules import in_loading_order, read_module


def a_module(modinfo: bytes) -> bytes:
    """The smallest ELF file with a `.modinfo` section."""
    names = b"\0.modinfo\0.shstrtab\0"
    header_bytes, entry_bytes = 64, 64
    names_at = header_bytes + len(modinfo)
    table_at = names_at + len(names)
    header = b"\x7fELF\x02\x01\x01" + bytes(9)
    header += struct.pack("<HHIQQQIHHHHHH", 1, 62, 1, 0, 0, table_at, 0, header_bytes, 0, 0, entry_bytes, 3, 2)
    sections = bytes(entry_bytes)
    sections += struct.pack("<IIQQQQIIQQ", 1, 1, 0, 0, header_bytes, len(modinfo), 0, 0, 1, 0)
    sections += struct.pack("<IIQQQQIIQQ", 10, 3, 0, 0, names_at, len(names), 0, 0, 1, 0)
    return header + modinfo + names + sections


def test_every_module_comes_after_those_it_depends_on(tmp_path: Path) -> None:
    (tmp_path / "ext4.ko").write_bytes(a_module(b"license=GPL\0depends=jbd2,mbcache\0softdep=pre: crc32c\0"))
    (tmp_path / "jbd2.ko").write_bytes(a_module(b"depends=\0"))
    (tmp_path / "mbcache.ko").write_bytes(a_module(b"depends=jbd2\0"))
    (tmp_path / "crc32c.ko").write_bytes(a_module(b""))

    names = [module.name for module in in_loading_order(tmp_path, ("ext4",))]

    assert names.index("jbd2") < names.index("mbcache") < names.index("ext4")
    assert names.index("crc32c") < names.index("ext4")
    assert len(names) == 4


def test_a_module_that_is_built_in_is_left_out(tmp_path: Path) -> None:
    (tmp_path / "virtio_blk.ko").write_bytes(a_module(b"depends=virtio\0"))

    assert [module.name for module in in_loading_order(tmp_path, ("virtio_blk", "ext4"))] == ["virtio_blk"]


def test_dashes_and_underscores_are_one_name(tmp_path: Path) -> None:
    (tmp_path / "virtio-rng.ko").write_bytes(a_module(b"depends=rng-core\0"))
    (tmp_path / "rng_core.ko").write_bytes(a_module(b""))

    assert [module.name for module in in_loading_order(tmp_path, ("virtio_rng",))] == ["rng_core", "virtio_rng"]


def test_compressed_modules_are_read_and_stored_plain(tmp_path: Path) -> None:
    plain = a_module(b"depends=virtio\0")
    for suffix, content in ((".ko", plain), (".ko.xz", lzma.compress(plain)), (".ko.gz", gzip.compress(plain))):
        file = tmp_path / f"net{suffix}"
        file.write_bytes(content)

        module = read_module(file)

        assert (module.name, module.content, module.needs) == ("net", plain, ("virtio",))


def test_a_signature_is_left_out(tmp_path: Path) -> None:
    plain, signature = a_module(b"depends=virtio\0"), b"s" * 300
    note = struct.pack(">8xI", len(signature))
    (tmp_path / "net.ko").write_bytes(plain + signature + note + b"~Module signature appended~\n")

    assert read_module(tmp_path / "net.ko").content == plain
