"""Debian's packages that a test bed needs: what is missing, and installing it."""

import os
import shutil
import subprocess
from pathlib import Path

from cluster import slurm
from cluster.errors import ClusterError

PACKAGES = (
    "slurmctld",
    "slurmd",
    "slurm-client",
    "munge",
    "slurmdbd",
    "slurm-wlm-mysql-plugin",
    "mariadb-server",
)
SERVICES = ("munge", "mariadb", "slurmctld", "slurmd", "slurmdbd")
POLICY = Path("/usr/sbin/policy-rc.d")
DENIED = 101  # policy-rc.d's exit code for "do not start it" (Debian policy, 9.3.3.1)
APT_TIMEOUT_S = 900


def missing() -> list[str]:
    """List the packages that are not installed; all of them where there is no dpkg."""
    if shutil.which("dpkg-query") is None:
        return list(PACKAGES)
    done = subprocess.run(
        ["dpkg-query", "--show", "--showformat=${Package} ${db:Status-Status}\n", *PACKAGES],
        capture_output=True,
        encoding="utf-8",
        timeout=20,
        check=False,  # it fails when it does not know one of them
    )
    known = done.stdout.splitlines()
    return [name for name in PACKAGES if f"{name} installed" not in known]


def obstacles() -> list[str]:
    """Say what keeps a test bed from coming up here; nothing when it can."""
    found = [] if os.geteuid() == 0 else ["it needs root (slurmd and its virtual nodes)"]
    if absent := missing():
        found.append(f"missing Debian packages: {' '.join(absent)}")
    return found


def install() -> list[str]:
    """Install what is missing, without any daemon starting by itself; quick when nothing is.

    Returns:
        The packages that were installed.

    Raises:
        ClusterError: This is not Debian, not root, or apt failed.
    """
    absent = missing()
    if not absent:
        return []
    command = f"apt-get install -y --no-install-recommends {' '.join(absent)}"
    if shutil.which("apt-get") is None:
        raise ClusterError(
            f"the test bed needs Debian's packages, and this is no Debian: {' '.join(absent)}",
            hint="the SLURM tests are skipped here; everything else works",
        )
    if os.geteuid() != 0:
        raise ClusterError(f"missing Debian packages: {' '.join(absent)}", hint=f"sudo {command}")
    ours = _deny_starts()
    try:
        environment = os.environ | {"DEBIAN_FRONTEND": "noninteractive", "LC_ALL": "C.UTF-8"}
        apt = ["apt-get", "-q", "-o", "DPkg::Lock::Timeout=120"]
        slurm.call([*apt, "update"], timeout_s=APT_TIMEOUT_S, env=environment)
        slurm.call(
            [*apt, "install", "-y", "--no-install-recommends", *absent],
            timeout_s=APT_TIMEOUT_S,
            env=environment,
        )
    finally:
        if ours:
            POLICY.unlink()
    _disable_services(absent)
    return absent


def _deny_starts() -> bool:
    """Keep packages from starting their daemons; say whether the policy file is ours to remove."""
    if not POLICY.exists():
        POLICY.write_text(f"#!/bin/sh\nexit {DENIED}\n")
        POLICY.chmod(0o755)
        return True
    asked = subprocess.run([str(POLICY), "slurmctld", "start"], check=False, timeout=20)
    if asked.returncode != DENIED:
        raise ClusterError(
            f"{POLICY} lets packages start their daemons",
            hint=f"make it 'exit {DENIED}' for {' '.join(SERVICES)}",
        )
    return False


def _disable_services(installed: list[str]) -> None:
    """Keep systemd from starting them at the next boot, where there is one."""
    if not Path("/run/systemd/system").exists():
        return
    named = {"mariadb-server": "mariadb"}
    services = {named.get(package, package) for package in installed} & set(SERVICES)
    if services:
        slurm.call(["systemctl", "disable", *sorted(services)], timeout_s=60)
