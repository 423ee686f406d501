from __future__ import annotations

import pytest

from engine.hosts.facts import cpu_models, cpu_modes, has_kvm, machines, version
from engine.hosts.xml_tree import parse

CAPABILITIES = parse("""
<capabilities>
  <guest><os_type>hvm</os_type><arch name='i686'><domain type='qemu'/><machine>isapc</machine></arch></guest>
  <guest>
    <os_type>hvm</os_type>
    <arch name='x86_64'>
      <machine canonical='pc-q35-7.2'>q35</machine>
      <machine>pc-q35-7.2</machine>
      <machine>pc-q35-6.2</machine>
      <domain type='qemu'/>
      <domain type='kvm'><machine>microvm</machine></domain>
    </arch>
  </guest>
</capabilities>
""")
OFFERS = parse("""
<domainCapabilities>
  <cpu>
    <mode name='host-passthrough' supported='no'/>
    <mode name='maximum' supported='yes'/>
    <mode name='custom' supported='yes'>
      <model usable='yes'>qemu64</model><model usable='no'>EPYC</model><model usable='unknown'>host</model>
    </mode>
  </cpu>
</domainCapabilities>
""")


@pytest.mark.parametrize(("number", "text"), [(9_000_000, "9.0.0"), (7_002_022, "7.2.22"), (10_010_001, "10.10.1")])
def test_versions_are_written_as_people_do(number: int, text: str) -> None:
    assert version(number) == text


def test_machine_types_are_those_of_the_hosts_architecture_with_aliases_once() -> None:
    assert machines(CAPABILITIES, "x86_64") == ("q35", "pc-q35-7.2", "pc-q35-6.2", "microvm")


def test_kvm_is_known_by_the_guests_that_could_use_it() -> None:
    assert has_kvm(CAPABILITIES, "x86_64")
    assert not has_kvm(CAPABILITIES, "i686")


def test_cpu_modes_and_models_are_those_that_can_really_be_used() -> None:
    assert cpu_modes(OFFERS) == ("maximum", "custom")
    assert cpu_models(OFFERS) == ("qemu64",)
    assert cpu_modes(None) == cpu_models(None) == ()
