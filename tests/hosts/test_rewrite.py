from __future__ import annotations

import re
from pathlib import Path
from xml.etree.ElementTree import Element

import pytest

from engine.hosts.domain_xml import read_vm
from engine.hosts.model import Definition, HostFacts
from engine.hosts.rewrite import CpuChoice, NetworkChoice, NetworkKind, Rewrite, ServedBelow, new_mac, rewrite
from engine.hosts.xml_tree import parse

DOMAINS = Path(__file__).parent / "domains"
NEW_UUID = "11111111-2222-4333-8444-555555555555"


def rewritten(name: str, target: HostFacts | None = None, **changes) -> Element:
    definition = Definition(live=b"<never-used/>", inactive=(DOMAINS / f"{name}.xml").read_bytes())
    given = {"name": "copy", "uuid": NEW_UUID, "disk_paths": {"vda": ("/new/vda.qcow2", "qcow2")}}
    return parse(rewrite(definition, Rewrite(**{**given, **changes}), target).inactive)


def texts(domain: Element, path: str) -> list[str | None]:
    return [element.text for element in domain.iterfind(path)]


def host(**given) -> HostFacts:
    facts = {
        "hostname": "h", "machine_id": None, "local": True, "libvirt_version": "9.0.0", "qemu_version": "7.2.0",
        "arch": "x86_64", "cpus": 4, "cpu_model": "EPYC", "memory_bytes": 1 << 34, "memory_free_bytes": 1 << 33,
        "kvm": False, "machines": (), "efi": True, "tpm": True, "cpu_modes": ("maximum", "host-model", "custom"),
        "cpu_models": ("qemu64", "Nehalem"),
    }  # fmt: skip
    return HostFacts(**{**facts, **given})


# Identity


def test_the_copy_has_its_own_name_and_uuid_everywhere() -> None:
    domain = rewritten("tied")

    assert (domain.findtext("name"), domain.findtext("uuid")) == ("copy", NEW_UUID)
    assert texts(domain, "sysinfo/system/entry") == [NEW_UUID, "S1"]
    assert "id" not in domain.attrib
    assert domain.findtext("title") == "The one that grew"


def test_a_guest_learns_from_a_new_generation_id_that_it_was_restored() -> None:
    generation = rewritten("tied").find("genid")

    assert generation is not None
    assert generation.text is None


def test_the_original_is_not_changed() -> None:
    before = (DOMAINS / "tied.xml").read_bytes()
    definition = Definition(live=before, inactive=before)

    rewrite(definition, Rewrite(name="copy", uuid=NEW_UUID, disk_paths={"vda": ("/n", "raw")}))

    assert definition == Definition(live=before, inactive=before)


def test_libvirts_prefixes_and_foreign_metadata_survive() -> None:
    definition = Definition(live=None, inactive=(DOMAINS / "tied.xml").read_bytes())
    changes = Rewrite(name="copy", uuid=NEW_UUID, disk_paths={"vda": ("/n", "raw")})

    text = rewrite(definition, changes).inactive.decode()

    assert '<qemu:arg value="-no-hpet"' in text
    assert 'libosinfo:os id="http://debian.org/debian/12"' in text
    assert "ns0:" not in text


# Disks


def test_a_layer_over_what_is_served_names_it_and_stops_its_guest_at_errors() -> None:
    disk = rewritten("tied", served={"vda": ServedBelow("/run/x.nbd", "vda")}).find("devices/disk")

    assert disk is not None
    driver, source, below = (disk.find(tag) for tag in ("driver", "source", "backingStore"))
    assert driver is not None and source is not None and below is not None
    assert (driver.get("error_policy"), driver.get("rerror_policy")) == ("stop", "stop")
    assert source.get("file") == "/new/vda.qcow2"
    assert (below.get("type"), [each.get("type") for each in below.iterfind("format")]) == ("network", ["raw"])
    server = below.find("source/host")
    assert server is not None and server.attrib == {"transport": "unix", "socket": "/run/x.nbd"}
    # It ends there: libvirt must not look into what is served for more.
    assert below.find("backingStore") is not None


def test_a_restored_disk_points_to_its_new_image_and_keeps_what_the_guest_sees() -> None:
    disk = rewritten("plain").find("devices/disk")
    assert disk is not None

    assert disk.attrib == {"type": "file", "device": "disk"}
    assert disk.find("source").attrib == {"file": "/new/vda.qcow2"}
    assert disk.find("driver").attrib == {"name": "qemu", "type": "qcow2", "cache": "none", "discard": "unmap"}
    assert disk.findtext("serial") == "DATA0001"
    assert disk.find("boot").get("order") == "1"
    assert disk.find("address").get("bus") == "0x04"


def test_a_volume_becomes_a_file() -> None:
    domain = rewritten("plain", disk_paths={"vda": ("/a", "qcow2"), "vdb": ("/b", "raw")})

    disk = domain.findall("devices/disk")[1]
    assert (disk.get("type"), disk.find("source").attrib) == ("file", {"file": "/b"})


def test_layers_encryption_and_a_copy_under_way_are_not_taken_along() -> None:
    disk = rewritten("live").find("devices/disk")

    assert [child.tag for child in disk] == ["driver", "source", "target"]
    assert len(disk.find("source")) == 0


def test_network_and_pass_through_disks_become_plain_files() -> None:
    paths = {"vda": ("/a", "qcow2"), "vdb": ("/b", "raw"), "sdb": ("/c", "qcow2")}

    disks = rewritten("live", disk_paths=paths).findall("devices/disk")

    assert [disk.get("type") for disk in disks] == ["file"] * 4
    assert [disk.get("device") for disk in disks] == ["disk", "disk", "disk", "cdrom"]
    assert disks[1].find("auth") is None
    assert set(disks[2].attrib) == {"type", "device"}
    assert disks[2].find("shareable") is None


def test_a_disk_that_was_not_restored_is_left_out_for_it_is_the_originals() -> None:
    targets = [target.get("dev") for target in rewritten("live").iterfind("devices/disk/target")]

    assert targets == ["vda", "sda"]


def test_a_disk_that_the_definition_does_not_have_is_refused() -> None:
    with pytest.raises(ValueError, match="vdz"):
        rewritten("plain", disk_paths={"vdz": ("/z", "raw")})


def test_media_that_are_not_on_the_new_host_are_ejected() -> None:
    drive = rewritten("plain").findall("devices/disk")[-1]

    assert drive.get("device") == "cdrom"
    assert drive.find("source") is None
    assert drive.find("readonly") is not None


def test_media_that_are_there_stay_in() -> None:
    drive = rewritten("plain", keep_media=frozenset({"sda"})).findall("devices/disk")[-1]

    assert drive.find("source").get("file") == "/srv/iso/install.iso"


# Network cards


def test_addresses_and_networks_stay_as_they_were_unless_chosen() -> None:
    assert (
        read_vm(rewritten("plain"), host="").nics == read_vm(parse((DOMAINS / "plain.xml").read_bytes()), host="").nics
    )


def test_given_addresses_are_used_in_order() -> None:
    domain = rewritten("plain", macs=("52:54:00:11:11:11", "52:54:00:22:22:22"))

    assert [nic.mac for nic in read_vm(domain, host="").nics] == ["52:54:00:11:11:11", "52:54:00:22:22:22"]
    assert len(domain.findall("devices/interface/mac")) == 2


def test_too_few_addresses_are_refused() -> None:
    with pytest.raises(ValueError, match="2 network cards"):
        rewritten("plain", macs=("52:54:00:11:11:11",))


def test_new_addresses_are_in_qemus_range_and_differ() -> None:
    found = {new_mac() for _ in range(50)}

    assert len(found) == 50
    assert all(re.fullmatch(r"52:54:00(:[0-9a-f]{2}){3}", mac) for mac in found)


def test_a_card_plugged_into_another_network_stays_the_same_card() -> None:
    nic = rewritten("plain", networks={0: NetworkChoice(NetworkKind.NETWORK, "isolated")}).find("devices/interface")

    assert (nic.get("type"), nic.find("source").attrib) == ("network", {"network": "isolated"})
    assert nic.find("filterref") is None
    assert nic.find("model").get("type") == "virtio"
    assert nic.find("boot").get("order") == "2"
    assert nic.find("address").get("bus") == "0x01"


def test_a_card_can_be_plugged_into_a_bridge_or_qemus_own_network() -> None:
    choices = {0: NetworkChoice(NetworkKind.BRIDGE, "br7"), 1: NetworkChoice(NetworkKind.USER)}

    bridge, user = rewritten("plain", networks=choices).findall("devices/interface")

    assert (bridge.get("type"), bridge.find("source").attrib) == ("bridge", {"bridge": "br7"})
    assert (user.get("type"), user.find("source")) == ("user", None)


def test_an_unplugged_card_is_there_and_reaches_nobody() -> None:
    nic = rewritten("plain", networks={1: NetworkChoice(NetworkKind.UNPLUGGED)}).findall("devices/interface")[1]

    assert (nic.get("type"), nic.find("link").get("state")) == ("user", "down")
    assert nic.find("model").get("type") == "e1000e"


def test_a_removed_card_is_gone_and_the_others_keep_their_choices() -> None:
    choices = {0: NetworkChoice(NetworkKind.REMOVED), 1: NetworkChoice(NetworkKind.NETWORK, "lan")}

    (left,) = rewritten("plain", networks=choices).findall("devices/interface")

    assert (left.find("mac").get("address"), left.find("source").get("network")) == ("52:54:00:00:00:02", "lan")


def test_a_network_without_a_name_is_refused() -> None:
    with pytest.raises(ValueError, match="none is named"):
        rewritten("plain", networks={0: NetworkChoice(NetworkKind.NETWORK)})


def test_a_card_of_the_old_host_becomes_an_unplugged_one() -> None:
    nic = rewritten("live").findall("devices/interface")[1]

    assert (nic.get("type"), nic.find("link").get("state"), nic.find("source")) == ("user", "down", None)
    assert nic.find("mac").get("address") == "52:54:00:00:00:03"


# Boot


def test_kernel_and_initial_ram_disk_are_where_they_were_put() -> None:
    system = rewritten("plain", kernel_path="/n/kernel", initrd_path="/n/initrd").find("os")

    assert [system.findtext(tag) for tag in ("kernel", "initrd", "cmdline")] == [
        "/n/kernel",
        "/n/initrd",
        "console=ttyS0",
    ]


def test_a_vm_that_boots_from_its_disk_gets_no_kernel() -> None:
    assert rewritten("tied", kernel_path="/n/kernel").find("os/kernel") is None


def test_nvram_is_the_copys_own_and_never_the_originals() -> None:
    given = rewritten("live", nvram_path="/new/copy_VARS.fd").find("os/nvram")
    made_by_libvirt = rewritten("live").find("os/nvram")

    assert given.text == "/new/copy_VARS.fd"
    assert made_by_libvirt is not None
    assert made_by_libvirt.text is None
    assert made_by_libvirt.get("template") == "/usr/share/OVMF/OVMF_VARS_4M.fd"


def test_firmware_that_the_host_had_chosen_is_chosen_anew() -> None:
    system = rewritten("tied", nvram_path="/new/nvram").find("os")

    assert system.get("firmware") == "efi"
    assert system.find("loader").attrib == {"secure": "yes"}
    assert system.findtext("loader") is None or system.findtext("loader") == ""
    assert (system.findtext("nvram"), system.find("nvram").attrib) == ("/new/nvram", {})


def test_firmware_that_the_operator_had_chosen_stays() -> None:
    assert rewritten("live").findtext("os/loader") == "/usr/share/OVMF/OVMF_CODE_4M.fd"


# Machine


def test_a_kvm_vm_is_emulated_where_there_is_no_kvm() -> None:
    domain = rewritten("tied", host(kvm=False))

    assert domain.get("type") == "qemu"
    assert domain.find("cpu").get("mode") == "host-model"
    assert [child.tag for child in domain.find("cpu")] == ["topology"]
    assert [child.tag for child in domain.find("features")] == ["acpi", "smm"]
    assert [timer.get("name") for timer in domain.iterfind("clock/timer")] == ["rtc"]


def test_a_kvm_vm_stays_one_where_there_is_kvm() -> None:
    domain = rewritten("tied", host(kvm=True, cpu_modes=("host-passthrough", "host-model")))

    assert domain.get("type") == "kvm"
    assert domain.find("cpu").get("mode") == "host-passthrough"
    assert domain.find("features/kvm") is not None


def test_an_emulated_vm_is_not_put_on_kvm_unasked() -> None:
    assert rewritten("plain", host(kvm=True)).get("type") == "qemu"
    assert rewritten("plain", host(kvm=True), virt_type="kvm").get("type") == "kvm"


def test_without_knowing_the_host_emulation_gets_the_richest_cpu() -> None:
    assert rewritten("tied", virt_type="qemu").find("cpu").get("mode") == "maximum"


def test_a_cpu_model_that_the_host_lacks_is_replaced_and_one_it_has_is_not() -> None:
    assert rewritten("plain", host(cpu_models=("Nehalem",))).find("cpu").get("mode") == "host-model"
    assert rewritten("plain", host()).findtext("cpu/model") == "qemu64"


def test_a_chosen_cpu_and_machine_are_used() -> None:
    domain = rewritten("plain", host(), cpu=CpuChoice("custom", "Nehalem"), machine="pc-q35-6.2")

    assert domain.findtext("cpu/model") == "Nehalem"
    assert domain.find("os/type").get("machine") == "pc-q35-6.2"


def test_a_custom_cpu_without_a_model_is_refused() -> None:
    with pytest.raises(ValueError, match="model"):
        rewritten("plain", cpu=CpuChoice("custom"))


# Ties to the old host


def test_paths_and_labels_of_the_old_host_are_gone() -> None:
    domain = rewritten("tied")

    assert list(domain.iter("seclabel")) == []
    assert domain.find("devices/emulator") is None
    assert domain.find("resource") is None
    assert domain.find("devices/tpm/backend/source") is None


def test_aliases_that_libvirt_made_are_gone_and_the_operators_stay() -> None:
    assert [alias.get("name") for alias in rewritten("tied").iter("alias")] == ["ua-root"]


def test_agent_channels_get_a_path_of_their_own_and_others_stay() -> None:
    channels = rewritten("tied").findall("devices/channel")

    assert [channel.get("type") for channel in channels] == ["unix", "unix", "spicevmc"]
    assert channels[0].find("source") is None
    assert channels[1].find("source").get("path") == "/run/collector.sock"
    assert rewritten("plain").find("devices/channel/source") is None


def test_consoles_need_nothing_of_the_host() -> None:
    domain = rewritten("tied")

    for tag in ("serial", "console"):
        for device in domain.iterfind(f"devices/{tag}"):
            assert device.get("type") == "pty"
            assert [child.tag for child in device] == ["target"]


def test_screens_listen_on_a_free_port_of_this_machine_alone() -> None:
    vnc, spice, by_socket = rewritten("tied").findall("devices/graphics")

    assert vnc.attrib == {"type": "vnc", "autoport": "yes", "listen": "127.0.0.1", "passwd": "secret"}
    assert vnc.find("listen").attrib == {"type": "address", "address": "127.0.0.1"}
    assert spice.find("listen").attrib == {"type": "address", "address": "127.0.0.1"}
    assert by_socket.attrib == {"type": "vnc"}
    assert by_socket.find("listen").attrib == {"type": "socket"}


def test_what_was_passed_through_is_left_out_unless_asked_for() -> None:
    without = rewritten("tied").find("devices")
    kept = rewritten("tied", host_devices=True).find("devices")

    assert without.find("hostdev") is None
    assert without.find("filesystem") is None
    assert [device.get("type") for device in without.iterfind("input")] == ["mouse"]
    assert kept.find("hostdev") is not None
    assert kept.find("filesystem") is not None


def test_pinning_and_huge_pages_are_left_out_unless_asked_for() -> None:
    without = rewritten("tied")
    kept = rewritten("tied", host_tuning=True)

    assert [child.tag for child in without.find("cputune")] == ["shares"]
    assert without.find("numatune") is None
    assert without.find("vcpu").attrib == {}
    assert [child.tag for child in without.find("memoryBacking")] == ["source"]
    assert kept.find("numatune") is not None
    assert kept.find("memoryBacking/hugepages") is not None


def test_a_context_id_is_given_anew() -> None:
    assert rewritten("tied").find("devices/vsock/cid").attrib == {"auto": "yes"}
