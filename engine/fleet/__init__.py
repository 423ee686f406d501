"""One picture of all hosts, VMs and recovery points, and what follows from it for every restore.

1. `gather` asks every host and every repository at once. What is dead, missing or too slow is a row with a reason and
   a next step; it never keeps the others waiting or ends them.
2. A host that is silent now and answered before is STALE: its VMs stay on the screen, with their age.
3. For repositories, and for VMs on this machine, the disks below are found (`device`), because a backup on the disk
   of its VM dies with it.
4. `save_cache` keeps the picture for the next start, `load_cache` paints it at once.
5. `fitness` tells whether a VM can run on a host, check by check, from values alone. Restores and the search for
   single points of failure both ask it.
6. `proof_standing` says how long ago a VM was proven to come back, against what its level asks.
7. `open_repository` opens what the settings name, whatever unlocks it (`repository_access`, `passphrase_sources`).

May import: `hosts`, `repository`, `settings`, `errors`. Face: the names below; lookups (`known_vms`, `points_of`, ...)
take the fleet as their first argument.
"""

from engine.fleet.cache import load_cache, save_cache
from engine.fleet.changing import remembered, with_repository, with_snapshot
from engine.fleet.fitness import FILLS_UP, FULL, RESERVE_PERCENT, fitness, format_bytes, ranked
from engine.fleet.fitness_machine import machine_is_offered, nearest_machine
from engine.fleet.fitness_model import WOULD_NOT_START, CheckState, FitnessCheck, HostFitness, Verdict
from engine.fleet.fitness_network import virsh
from engine.fleet.gathering import gather, look_into_repository
from engine.fleet.model import DiskDevice, Fleet, RepositoryView
from engine.fleet.passphrase_sources import is_bound_to_be_encrypted
from engine.fleet.proven import ProofStanding, ProofState, proof_standing, proofs_by_vm
from engine.fleet.repository_access import (
    Prompt,
    accept_keys,
    ask_for_passphrases,
    create_repository,
    keys_to_hand,
    open_repository,
    open_with_sheet,
    secret_of,
    source_that_fails,
)
from engine.fleet.vms import (
    facts_of,
    find_known_vm,
    find_snapshot,
    gone_vms,
    known_vms,
    newest_point,
    points_by_vm,
    points_of,
    was_removed,
)

__all__ = [
    "FILLS_UP",
    "FULL",
    "RESERVE_PERCENT",
    "WOULD_NOT_START",
    "CheckState",
    "DiskDevice",
    "FitnessCheck",
    "Fleet",
    "HostFitness",
    "Prompt",
    "ProofStanding",
    "ProofState",
    "RepositoryView",
    "Verdict",
    "accept_keys",
    "ask_for_passphrases",
    "create_repository",
    "facts_of",
    "find_known_vm",
    "find_snapshot",
    "fitness",
    "format_bytes",
    "gather",
    "gone_vms",
    "is_bound_to_be_encrypted",
    "keys_to_hand",
    "known_vms",
    "load_cache",
    "look_into_repository",
    "machine_is_offered",
    "nearest_machine",
    "newest_point",
    "open_repository",
    "open_with_sheet",
    "points_by_vm",
    "points_of",
    "proof_standing",
    "proofs_by_vm",
    "ranked",
    "remembered",
    "save_cache",
    "secret_of",
    "source_that_fails",
    "virsh",
    "was_removed",
    "with_repository",
    "with_snapshot",
]
