"""What a SLURM site is and whether a profile fits it, read with few bounded calls; submits nothing.

`problems` is asked before each launch; `read` gathers all that `sweep doctor` tells. What the
machine itself offers, file systems among it, is read in `cluster/machine.py`.
"""

from collections.abc import Mapping
from dataclasses import dataclass

from cluster import profile_check, slurm
from cluster.errors import ClusterError
from cluster.profile import SlurmProfile
from cluster.profile_check import Verdict
from cluster.slurm_site import Limits, Partition


@dataclass(frozen=True, slots=True, kw_only=True)
class Site:
    """A SLURM site as this user sees it.

    Attributes:
        config: `scontrol show config`.
        partitions: in SLURM's order.
        limits: of this user in the default partition.
        addresses: node by node, how SLURM reaches it; empty when not known.
        accounting: why `sacct` does not tell how jobs ended; empty when it does.
    """

    config: Mapping[str, str]
    partitions: tuple[Partition, ...]
    limits: Limits
    addresses: Mapping[str, str]
    accounting: str

    @property
    def one_host(self) -> bool:
        """Whether several nodes share one address, as on a test bed."""
        return len(self.addresses) > len(set(self.addresses.values()))

    @property
    def loopback(self) -> bool:
        """Whether all nodes are this machine."""
        places = self.addresses.values()
        return bool(places) and all(place.startswith("127.") for place in places)


def problems(profile: SlurmProfile, *, timeout_s: float = 10) -> Verdict:
    """Ask SLURM whether it can give what a profile asks for, with at most five calls.

    Raises:
        ClusterError: SLURM does not answer.
    """
    here = slurm.partitions(timeout_s=timeout_s)
    limits = slurm.limits(
        account=profile.account,
        qos=profile.qos,
        partition=profile.partition,
        here=here,
        timeout_s=timeout_s,
    )
    return profile_check.check(profile, partitions=here, limits=limits)


def read(*, timeout_s: float = 10) -> Site:
    """Read what a site is, with seven calls.

    Raises:
        ClusterError: SLURM does not answer.
    """
    config = slurm.config(timeout_s=timeout_s)
    here = slurm.partitions(timeout_s=timeout_s)
    return Site(
        config=config,
        partitions=tuple(here),
        limits=slurm.limits(settings=config, here=here, timeout_s=timeout_s),
        addresses=slurm.addresses(timeout_s=timeout_s),
        accounting=_accounting(config, timeout_s=timeout_s),
    )


def _accounting(config: Mapping[str, str], *, timeout_s: float) -> str:
    if "slurmdbd" not in config.get("AccountingStorageType", ""):
        return "the site keeps no accounts"
    try:
        slurm.call(["sacct", "--noheader", "--allocations", "--format=JobID"], timeout_s=timeout_s)
    except ClusterError as error:
        return error.message
    return ""
