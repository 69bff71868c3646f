"""`sweep doctor`: what this site is, what `sweep` will do there, and a first profile for it.

Nothing is submitted and nothing is changed, but for the profile when that is asked for.
"""

import sys
from dataclasses import asdict, dataclass
from pathlib import Path

import yaml

from cluster import doctor as site_doctor
from cluster import machine, proposal, slurm
from cluster import profile as profiles
from cluster.doctor import Site
from cluster.errors import ClusterError
from cluster.profile import SlurmProfile
from cluster.proposal import Proposal
from orchestrator import findings, findings_here, render
from orchestrator.errors import PlanError
from orchestrator.findings import Finding
from orchestrator.folder import write_file
from orchestrator.render import Mode


@dataclass(frozen=True, slots=True, kw_only=True)
class Report:
    """What was found, and the profile that follows from it."""

    findings: tuple[Finding, ...]
    proposal: Proposal

    @property
    def problems(self) -> list[Finding]:
        """What keeps a sweep from working."""
        return [one for one in self.findings if one.level == "problem"]


def run(*, results: Path, cluster: str | None, write: bool, yes: bool, mode: Mode) -> int:
    """Look at the site, tell what was found, and write the proposed profile if asked to.

    Returns:
        1 where something is a problem, else 0.

    Raises:
        ClusterError: SLURM is installed and does not answer, or the profile is wrong.
        PlanError: A profile should be written and nobody said yes.
    """
    report = examine(results=results, cluster=cluster)
    path = profiles.own() / "default.yaml"
    if write and not yes and (mode == "json" or not sys.stdin.isatty()):
        raise PlanError(f"writing {path} needs a yes", hint="add --yes")
    written = False
    if mode != "json":
        _show(report, mode=mode)
    if write:
        if mode == "text":
            render.note(report.proposal.text())
        written = yes or render.confirm(_question(path))
    if written:
        _write(path, report.proposal)
    if mode == "json":
        render.value(_json(report, written=path if written else None))
    elif mode == "text":
        _say_next(report, path=path, written=written, shown=write)
    return 1 if report.problems else 0


def examine(*, results: Path, cluster: str | None = None) -> Report:
    """Read the site, or this machine where there is no SLURM.

    Raises:
        ClusterError: SLURM is installed and does not answer, or the profile is wrong.
    """
    profile = profiles.load(cluster) if cluster else None
    if not isinstance(profile, SlurmProfile) and not slurm.configured():
        alone = Finding(
            topic="slurm",
            found="none that this machine knows of",
            does="sweep launch trains on this machine, in the foreground (profile local)",
        )
        rest = _here(results, nodes_elsewhere=False)
        made = proposal.local(num_gpus=len(machine.gpus()))
        return Report(findings=(alone, findings_here.of_machine(), *rest), proposal=made)
    site = site_doctor.read()
    found = findings.of_site(site)
    if cluster and isinstance(profile, SlurmProfile):
        found += findings.of_profile(cluster, site_doctor.problems(profile))
    rest = _here(results, nodes_elsewhere=not site.loopback)
    return Report(findings=(*found, *rest), proposal=propose(site))


def offer() -> bool:
    """Show a profile for this site and offer to write it, on a terminal only.

    For `sweep launch` where neither the spec nor the user names a profile.

    Returns:
        Whether the user's default profile is there now.

    Raises:
        ClusterError: SLURM does not answer.
    """
    if not (sys.stdin.isatty() and sys.stderr.isatty()):
        return False
    path = profiles.own() / "default.yaml"
    made = propose(site_doctor.read())
    render.note(f"no profile says how to use this site; one made from what it is:\n\n{made.text()}")
    if path.exists() or not render.confirm(_question(path)):
        return path.exists()
    _write(path, made)
    return True


def propose(site: Site) -> Proposal:
    """Propose a profile for a site; on a test bed GPUs are only names where this machine has none.

    Raises:
        ClusterError: There is no partition.
    """
    if not site.partitions:
        raise ClusterError("you see no partition", hint="ask the site for access to one")
    return proposal.propose(
        site.partitions,
        limits=site.limits,
        preemption=site.config.get("PreemptType", ""),
        one_host=site.one_host,
        real_gpus=not site.loopback or bool(machine.gpus()),
    )


def _here(results: Path, *, nodes_elsewhere: bool) -> list[Finding]:
    nodes = findings_here.of_nodes(results)
    return [
        *findings_here.of_folder(results, nodes_elsewhere=nodes_elsewhere),
        *findings_here.of_ray(nodes_elsewhere=nodes_elsewhere),
        findings_here.of_environment(nodes_elsewhere=nodes_elsewhere),
        findings_here.of_packages(results),
        *([nodes] if nodes else []),
    ]


def _show(report: Report, *, mode: Mode) -> None:
    if mode == "quiet":
        render.lines([f"{one.topic}: {one.found}" for one in report.problems])
    elif sys.stdout.isatty():
        render.facts(
            [
                (f"{one.level:<8}{one.topic}", f"{one.found}\n→ {one.does}")
                for one in report.findings
            ]
        )
    else:
        rows = [(one.level, one.topic, one.found, one.does) for one in report.findings]
        render.table(("level", "topic", "found", "sweep"), rows)


def _json(report: Report, *, written: Path | None) -> dict[str, object]:
    return {
        "findings": [asdict(one) for one in report.findings],
        "problems": len(report.problems),
        "proposal": dict(report.proposal.content),
        "written": None if written is None else str(written),
    }


def _question(path: Path) -> str:
    if path.exists():
        return f"{path} is there; replace it (it stays as {path.name}.before)?"
    return f"Write {path}?"


def _write(path: Path, made: Proposal) -> None:
    """Write the profile, after it was read as any profile is."""
    text = made.text()
    profiles.parse(yaml.safe_load(text), where=str(path))
    path.parent.mkdir(parents=True, exist_ok=True)
    if path.exists():
        path.replace(path.with_name(f"{path.name}.before"))
    write_file(path, text.encode())


def _say_next(report: Report, *, path: Path, written: bool, shown: bool) -> None:
    if written:
        render.note(f"wrote {path}; it is the default now")
    elif not shown and not path.exists():
        render.note(f"a profile for this site; sweep doctor --write puts it into {path}\n")
        render.note(report.proposal.text().rstrip())
    if report.problems:
        render.next_command("mend what is marked problem, then: sweep doctor")
    elif path.exists():
        render.next_command("sweep launch SPEC --dry-run")
    else:
        render.next_command("sweep doctor --write")
