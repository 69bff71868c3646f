"""The configuration files of a test bed; pure text. cluster/README.md says what the lines mend."""

from cluster.testbed import layout
from cluster.testbed.layout import Bed

GPUS_PER_NODE = 4
CPUS_PER_NODE = 8
MEMORY_MB_PER_NODE = 8000

SLURM = """\
ClusterName={cluster}
SlurmctldHost={host}(127.0.0.1)
SlurmctldPort={slurmctld_port}
SlurmUser=root
AuthType=auth/munge
CredType=cred/munge
# cred_expire also sets how long a requeued job waits: 120 s without it
AuthInfo=socket={munge_socket},cred_expire=5
StateSaveLocation={root}/state
SlurmdSpoolDir={root}/spool/%n
SlurmctldPidFile={root}/run/slurmctld.pid
SlurmdPidFile={root}/run/slurmd.%n.pid
SlurmctldLogFile={root}/log/slurmctld.log
SlurmdLogFile={root}/log/slurmd.%n.log
SlurmctldDebug=info
SlurmdDebug=info
# USR2 comes at the start of the grace time
SlurmctldParameters=preempt_send_user_signal
# a node may claim more CPUs than the machine has
SlurmdParameters=config_overrides
ProctrackType=proctrack/linuxproc
TaskPlugin={task_plugin}
SwitchType=switch/none
MpiDefault=none
JobAcctGatherType=jobacct_gather/linux
JobAcctGatherFrequency=task=2
JobAcctGatherParams={over_memory}
SelectType=select/cons_tres
SelectTypeParameters=CR_Core_Memory
DefMemPerCPU=200
GresTypes=gpu
SchedulerType=sched/backfill
SchedulerParameters=bf_interval=5,sched_min_interval=100000,batch_sched_delay=0,requeue_delay=1
PriorityType=priority/basic
PreemptType=preempt/partition_prio
PreemptMode=REQUEUE
JobRequeue=1
FirstJobId={first_job_id}
MaxArraySize=10001
MaxJobCount=20000
MinJobAge=300
SlurmdTimeout=15
SlurmctldTimeout=15
KillWait=5
InactiveLimit=0
ReturnToService=2
UnkillableStepTimeout=30
AccountingStorageType=accounting_storage/slurmdbd
AccountingStorageHost=127.0.0.1
AccountingStoragePort={slurmdbd_port}
# clients reach slurmdbd through this socket, not through AuthInfo
AccountingStoragePass={munge_socket}
AccountingStoreFlags=job_comment
AccountingStorageTRES=gres/gpu
{nodes}
PartitionName=gpu Nodes={all_nodes} Default=YES MaxTime=60 DefaultTime=10 PriorityTier=10 \
OverSubscribe=NO
PartitionName=scav Nodes={all_nodes} MaxTime=60 DefaultTime=10 PriorityTier=1 PreemptMode=REQUEUE \
GraceTime=0
PartitionName=scavg Nodes={all_nodes} MaxTime=60 DefaultTime=10 PriorityTier=1 \
PreemptMode=REQUEUE GraceTime=15
PartitionName=urgent Nodes={all_nodes} MaxTime=60 DefaultTime=10 PriorityTier=100 PreemptMode=OFF
PartitionName=short Nodes={all_nodes} MaxTime=1 DefaultTime=1 PriorityTier=10 PreemptMode=OFF
"""

NODE = (
    "NodeName={node} NodeHostname={host} NodeAddr=127.0.0.1 Port={port} CPUs={cpus} "
    "RealMemory={memory_mb} Gres=gpu:{gpus} State=UNKNOWN"
)

# localhost reaches MariaDB by the socket that MYSQL_UNIX_PORT names: no port, no password.
SLURMDBD = """\
AuthType=auth/munge
AuthInfo=socket={munge_socket}
DbdHost={host}
DbdAddr=127.0.0.1
DbdPort={slurmdbd_port}
SlurmUser=root
DebugLevel=info
LogFile={root}/log/slurmdbd.log
PidFile={root}/run/slurmdbd.pid
StorageType=accounting_storage/mysql
StorageHost=localhost
StorageUser=root
StorageLoc=slurm_acct_db
"""

GRES = "NodeName={all_nodes} Name=gpu File={root}/dev/nvidia[0-{last_gpu}]\n"

CGROUP = """\
CgroupPlugin=cgroup/v1
ConstrainCores=no
ConstrainDevices=no
ConstrainRAMSpace=yes
ConstrainSwapSpace=no
"""


def render(bed: Bed, *, host: str, memory_cgroup: bool) -> dict[str, str]:
    """Give each configuration file's text by its name.

    Args:
        bed: whose files.
        host: this machine's short name.
        memory_cgroup: whether a v1 memory controller can be written; without one a job that takes
            too much memory is killed too, but reads FAILED instead of OUT_OF_MEMORY.
    """
    all_nodes = f"n[1-{len(layout.NODES)}]"
    nodes = [
        NODE.format(
            node=node,
            host=host,
            port=bed.port(layout.SLURMD + index),
            cpus=CPUS_PER_NODE,
            memory_mb=MEMORY_MB_PER_NODE,
            gpus=GPUS_PER_NODE,
        )
        for index, node in enumerate(layout.NODES)
    ]
    values = {
        "root": bed.root,
        "cluster": bed.cluster,
        "host": host,
        "munge_socket": bed.munge_socket,
        "slurmctld_port": bed.port(layout.SLURMCTLD),
        "slurmdbd_port": bed.port(layout.SLURMDBD),
        "first_job_id": bed.first_job_id,
        "all_nodes": all_nodes,
        "nodes": "\n".join(nodes),
        "last_gpu": GPUS_PER_NODE - 1,
        "task_plugin": "task/cgroup" if memory_cgroup else "task/none",
        "over_memory": "NoOverMemoryKill" if memory_cgroup else "OverMemoryKill",
    }
    texts = {"slurm.conf": SLURM, "slurmdbd.conf": SLURMDBD, "gres.conf": GRES}
    texts |= {"cgroup.conf": CGROUP} if memory_cgroup else {}
    return {name: text.format(**values) for name, text in texts.items()}
