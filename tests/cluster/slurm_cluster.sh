#!/bin/bash
# A real Slurm cluster of virtual nodes on this machine, for tests: munge, slurmctld and one slurmd per node, all on
# loopback, with state, key and sockets of its own under one folder. No systemd, no accounting data base.
#
#   slurm_cluster.sh start     idempotent; then `. $QUARRY_SLURM_DIR/env.sh`
#   slurm_cluster.sh stop      ends the jobs, whatever they left behind, and the daemons
#
# Environment: QUARRY_SLURM_DIR (default: quarry-slurm under $TMPDIR or /tmp), QUARRY_SLURM_PORT (slurmctld; node i
# listens on the port i higher), QUARRY_SLURM_NODES, QUARRY_SLURM_CPUS and QUARRY_SLURM_MEM_MB (of each node; may be
# more than the machine has), QUARRY_SLURM_MIN_JOB_AGE (seconds that squeue still shows an ended job).
set -euo pipefail

dir=${QUARRY_SLURM_DIR:-${TMPDIR:-/tmp}/quarry-slurm}
port=${QUARRY_SLURM_PORT:-27017}
nodes=${QUARRY_SLURM_NODES:-4} cpus=${QUARRY_SLURM_CPUS:-4} mem_mb=${QUARRY_SLURM_MEM_MB:-8000}
min_job_age=${QUARRY_SLURM_MIN_JOB_AGE:-3600}
etc=$dir/etc run=$dir/run log=$dir/log spool=$dir/spool
host=$(hostname -s)
PATH=$PATH:/usr/sbin:/sbin

fail() { echo "slurm_cluster.sh: $*" >&2; exit 1; }
alive() { # PIDFILE NAME; a zombie that init has not reaped yet is dead
  local pid comm state
  [ -s "$1" ] && read -r pid <"$1" && read -r _ comm state _ 2>/dev/null <"/proc/$pid/stat" \
    && [ "$comm" = "($2)" ] && [ "$state" != Z ]
}
port_in_use() { (exec 3<>"/dev/tcp/127.0.0.1/$1") 2>/dev/null; }
wait_for() {
  local tries=$(($1 * 10)) && shift
  while [ $tries -gt 0 ]; do "$@" >/dev/null 2>&1 && return 0; sleep 0.1; tries=$((tries - 1)); done
  return 1
}
all_up() { [ "$(sinfo -h -N -o '%T' | grep -cE '^(idle|mixed|allocated|completing)$')" = "$nodes" ]; }

write_configuration() {
  # NoInAddrAny: listen on loopback only. config_overrides: trust the sizes given here, not the hardware.
  # linuxproc and task/none need no cgroups. OverMemoryKill ends jobs above their memory, as production clusters do.
  # TaskProlog marks every process of a job, so that `stop` finds what a cancelled job left behind.
  cat >"$etc/slurm.conf" <<CONF
ClusterName=quarry
SlurmctldHost=$host(127.0.0.1)
SlurmUser=root
SlurmdUser=root
AuthType=auth/munge
AuthInfo=socket=$run/munge.socket
CredType=cred/munge
SlurmctldPort=$port
CommunicationParameters=NoCtldInAddrAny,NoInAddrAny
StateSaveLocation=$spool/slurmctld
SlurmdSpoolDir=$spool/%n
SlurmctldPidFile=$run/slurmctld.pid
SlurmdPidFile=$run/slurmd-%n.pid
SlurmctldLogFile=$log/slurmctld.log
SlurmdLogFile=$log/slurmd-%n.log
ProctrackType=proctrack/linuxproc
TaskPlugin=task/none
TaskProlog=$etc/task_prolog
JobAcctGatherType=jobacct_gather/linux
JobAcctGatherFrequency=task=1
JobAcctGatherParams=OverMemoryKill
AccountingStorageType=accounting_storage/none
MpiDefault=none
SwitchType=switch/none
ReturnToService=2
SlurmdParameters=config_overrides
SchedulerType=sched/backfill
SchedulerParameters=sched_min_interval=50000,sched_interval=1,bf_interval=1
SelectType=select/cons_tres
SelectTypeParameters=CR_Core_Memory
DefMemPerCPU=500
MaxJobCount=20000
MinJobAge=$min_job_age
SlurmctldTimeout=30
SlurmdTimeout=20
InactiveLimit=0
KillWait=2
Waittime=0
UnkillableStepTimeout=60
JobRequeue=1
CONF
  for i in $(seq "$nodes"); do
    echo "NodeName=n$i NodeHostname=$host NodeAddr=127.0.0.1 Port=$((port + i)) CPUs=$cpus Boards=1 SocketsPerBoard=1" \
      "CoresPerSocket=$cpus ThreadsPerCore=1 RealMemory=$mem_mb State=UNKNOWN"
  done >>"$etc/slurm.conf"
  echo "PartitionName=main Nodes=n[1-$nodes] Default=YES MaxTime=1-00:00:00 DefaultTime=01:00:00 State=UP" >>"$etc/slurm.conf"
  printf '#!/bin/sh\necho "export QUARRY_SLURM_TEST_CLUSTER=%s"\n' "$dir" >"$etc/task_prolog"
  # Snakemake's slurm-jobstep drops SLURM_CONF before it calls srun; this srun, first in PATH, puts it back.
  printf '#!/bin/sh\nSLURM_CONF="%s" exec "%s" "$@"\n' "$etc/slurm.conf" "$(command -v srun)" >"$dir/bin/srun"
  chmod 755 "$etc/task_prolog" "$dir/bin/srun"
  printf 'export SLURM_CONF="%s"\nexport PATH="%s:$PATH"\n' "$etc/slurm.conf" "$dir/bin" >"$dir/env.sh"
}

start() {
  [ "$(id -u)" = 0 ] || fail "must run as root"
  for command in munged munge slurmctld slurmd sbatch srun squeue; do
    command -v $command >/dev/null || fail "$command not found; install munge, slurmctld, slurmd and slurm-client"
  done
  mkdir -p "$etc" "$run" "$log" "$dir/bin" "$spool/slurmctld"
  for i in $(seq "$nodes"); do mkdir -p "$spool/n$i"; done
  export SLURM_CONF=$etc/slurm.conf
  if ! alive "$run/slurmctld.pid" slurmctld; then
    for i in $(seq 0 "$nodes"); do
      ! port_in_use $((port + i)) || fail "port $((port + i)) is in use; set QUARRY_SLURM_PORT"
    done
    write_configuration
  fi
  [ -s "$etc/munge.key" ] || (umask 077 && head -c 1024 /dev/urandom >"$etc/munge.key")
  if ! alive "$run/munged.pid" munged; then
    rm -f "$run"/munge*
    munged --force --key-file="$etc/munge.key" --socket="$run/munge.socket" --pid-file="$run/munged.pid" \
      --log-file="$log/munged.log" --seed-file="$run/munge.seed" 2>>"$log/start.log" || fail "munged: see $log/start.log"
  fi
  wait_for 60 munge -S "$run/munge.socket" -n || fail "munged does not answer; see $log/munged.log"
  alive "$run/slurmctld.pid" slurmctld || slurmctld </dev/null >>"$log/start.log" 2>&1 || fail "slurmctld: see $log/start.log"
  wait_for 60 scontrol ping || fail "slurmctld does not answer; see $log/slurmctld.log"
  for i in $(seq "$nodes"); do
    alive "$run/slurmd-n$i.pid" slurmd || slurmd -N "n$i" </dev/null >>"$log/start.log" 2>&1 || fail "slurmd: see $log/start.log"
  done
  wait_for 120 all_up || fail "the nodes do not come up; see $log"
  sinfo
}

stop_daemon() {
  alive "$1" "$2" || { rm -f "$1"; return 0; }
  local pid && pid=$(cat "$1")
  kill "$pid"
  wait_for 10 eval "! alive '$1' '$2'" || kill -9 "$pid"
  rm -f "$1"
}

stop() {
  export SLURM_CONF=$etc/slurm.conf
  if alive "$run/slurmctld.pid" slurmctld; then timeout 10 scancel -p main || true; fi
  end_job_processes
  for file in "$run"/slurmd-n*.pid; do stop_daemon "$file" slurmd; done
  stop_daemon "$run/slurmctld.pid" slurmctld
  stop_daemon "$run/munged.pid" munged
  end_job_processes
}

end_job_processes() {
  for pid in $(grep -lzxF "QUARRY_SLURM_TEST_CLUSTER=$dir" /proc/[0-9]*/environ 2>/dev/null | cut -d/ -f3); do
    kill -9 "$pid" 2>/dev/null || true
  done
}

case ${1:-} in
  start) start ;;
  stop) stop ;;
  *) fail "usage: slurm_cluster.sh start|stop" ;;
esac
