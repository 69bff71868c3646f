"""Fake SLURM programs on PATH, for sites that a test bed cannot be; calls are counted."""

from pathlib import Path

PROGRAMS = {
    "scontrol": """\
case "$*" in
  *config) cat <<END
ClusterName = alps
SLURM_VERSION = 24.05.1
MaxArraySize = 1001
MaxJobCount = 10000
KillWait = 30 sec
JobRequeue = 0
PreemptType = preempt/none
AccountingStorageType = accounting_storage/slurmdbd
AccountingStorageEnforce = associations,limits,qos
END
    ;;
  *partition)
    echo "PartitionName=gpu Default=YES QoS=N/A MaxTime=8:00:00 TotalNodes=10 State=UP" \\
         "PreemptMode=OFF AllocNodes=ALL TRES=cpu=640,gres/gpu=40"
    echo "PartitionName=cpu Default=NO QoS=N/A MaxTime=2-00:00:00 TotalNodes=5 State=UP" \\
         "PreemptMode=OFF AllocNodes=login1"
    ;;
esac""",
    "sinfo": """\
case "$*" in
  *%o*) echo 'g1|g1'; echo 'g2|g2' ;;
  *) echo 'gpu|gpu:h100:4(S:0-1)|64|512000'; echo 'cpu|(null)|128|256000' ;;
esac""",
    "sacctmgr": """\
case "$*" in
  *' user '*) echo 'lab|lab||20|50||||||normal|normal' ;;
  *) echo 'normal|||||||||' ;;
esac""",
    "sacct": "echo 7",
    "sbatch": "exit 1",
}


def install(folder: Path, **changed: str) -> Path:
    """Write the programs into a folder for PATH; return the file that counts their calls."""
    calls = folder / "calls.txt"
    for name, script in {**PROGRAMS, **changed}.items():
        path = folder / name
        path.write_text(f'#!/bin/sh\necho "{name}" >> {calls}\n{script}\n')
        path.chmod(0o755)
    return calls
