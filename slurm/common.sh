# What all job scripts have in common. Sourced by them, with TINYGSM_REPOSITORY set.
#
#     run_stage VERB CONFIG... [section.key=value ...]
#     run_stage_with_default CONFIG VERB [CONFIG...] [section.key=value ...]
#
# In a job: check the config, check the nodes, run launch/VERB.py on every rank, and end with
# its exit code, or requeue the job when work remains. Outside of a job: check only, and with
# --dry-run print what would be done.
#
# A job is requeued and resumes from its newest checkpoint when
#   - the time limit is near: Slurm sends SIGUSR1 to this script (--signal=B:USR1@300), which
#     forwards it to the ranks; they save and exit;
#   - somebody else sent SIGTERM or SIGUSR1 to a rank: all ranks save and exit;
#   - a rank of `prepare` was killed: the finished parts are kept;
#   - a node failed, or somebody calls `scontrol requeue`: Slurm does it (--requeue).
# It is not requeued when it was cancelled, when a rank failed, or after three consecutive
# attempts that saved nothing (training/lifecycle/attempts.py). The script calls `scontrol requeue`
# itself, since an exit code requeues only where the administrator has set RequeueExit; it then
# exits with 75, the usual code there.

repository=$TINYGSM_REPOSITORY
EXIT_STOPPED=130   # launch/arguments.py: stopped by a signal, saved
EXIT_REQUEUED=75   # EX_TEMPFAIL
signals=0          # received so far: `wait` returns early for each
stop=""            # why the job has to end: USR1 (time limit) or TERM (cancelled, preempted)
step_pid=""
first_failure=""   # srun's message about the first rank that failed

say() { echo "[$(date '+%F %T')] ${SLURM_JOB_NAME:-slurm}: $*"; }

fail() {
  say "$2" >&2
  exit "$1"
}

load_site() {
  cd "$repository"
  local site=${TINYGSM_SITE:-$repository/slurm/site.sh}
  [[ -f $site ]] || fail 2 "TINYGSM_SITE = $site: there is no such file"
  # shellcheck source=slurm/site.sh
  source "$site"
  if ((${#python_login_command[@]} == 0)); then
    python_login_command=("${python_command[@]}")
  fi
  "${python_login_command[@]}" -c 'import pydantic, tomli' 2>/dev/null ||
    fail 2 "${python_login_command[*]} lacks the project's packages: run \`make setup\` in \
$repository, or set python_command in $site"
  # The code in this folder, whatever is installed beside it.
  export PYTHONPATH=$repository${PYTHONPATH:+:$PYTHONPATH} PYTHONUNBUFFERED=1
}

# Whether a command line names a config file. A number is an option's value.
names_config() {
  local word
  for word in "$@"; do
    [[ $word == *=* || $word == -* || $word =~ ^[0-9]+$ ]] || return 0
  done
  return 1
}

# run_stage with a config that is read only where the command line names none.
run_stage_with_default() {
  local config=$1 verb=$2
  shift 2
  if names_config "$@"; then run_stage "$verb" "$@"; else run_stage "$verb" "$config" "$@"; fi
}

run_stage() {
  local verb=$1
  shift
  names_config "$@" || fail 2 "no config file: name one after the script, such as my_config.toml"
  load_site
  if [[ " $* " == *" --dry-run "* ]]; then
    "${python_login_command[@]}" "launch/$verb.py" --ranks "${TINYGSM_RANKS:-1}" "$@"
    return
  fi
  if [[ -z ${SLURM_JOB_ID:-} ]]; then
    "${python_login_command[@]}" launch/check.py --ranks "${TINYGSM_RANKS:-0}" "$verb" "$@" >/dev/null
    say "nothing is wrong with $verb $*; submit it by sbatch or slurm/submit.sh" >&2
    return
  fi
  trap 'signals=$((signals + 1)); on_time_limit' USR1
  # Slurm signals the ranks itself; a second signal would end them before they have saved.
  trap 'signals=$((signals + 1)); stop=TERM' TERM

  attempt=${SLURM_RESTART_COUNT:-0}
  local code=0
  set_array_task "$verb"
  say "attempt $attempt of job $SLURM_JOB_ID on $SLURM_JOB_NODELIST: $verb $*"
  folder=$("${python_login_command[@]}" launch/check.py --ranks "$SLURM_NTASKS" \
    --attempt "$SLURM_JOB_ID:$attempt" "$verb" "$@") || fail $? "not started: see above"
  logs=$folder/logs/job-$SLURM_JOB_ID/attempt-$attempt
  mkdir -p "$logs"
  say "run folder: $folder; the ranks' output: $logs/rank-*.log"
  export_rank_settings

  # Preparing on one CPU node has no other nodes to compare with.
  if [[ $TINYGSM_PREFLIGHT != 0 ]] && { [[ $verb != prepare ]] || ((SLURM_NNODES > 1)); }; then
    run_on_nodes preflight || code=$?
    ((code == 0)) || end "$code" preflight
  fi
  if [[ -z $stop ]]; then
    run_on_ranks "$verb" "$@" || code=$?
  else
    code=138  # that of ranks ended by SIGUSR1
  fi
  end "$code" "$verb"
}

# What part of the work this task of an array does: `--array-task 3/8`; empty outside of an array.
set_array_task() {
  array_task=()
  [[ -n ${SLURM_ARRAY_TASK_ID:-} ]] || return 0
  [[ $1 == prepare || $1 == sample ]] ||
    fail 2 "--array: $1 is one run, which array tasks cannot divide"
  local first=$SLURM_ARRAY_TASK_MIN step=${SLURM_ARRAY_TASK_STEP:-1}
  (((SLURM_ARRAY_TASK_MAX - first) / step + 1 == SLURM_ARRAY_TASK_COUNT)) ||
    fail 2 "--array: the tasks are not evenly spaced, so their parts of the work are unknown: \
submit --array=0-$((SLURM_ARRAY_TASK_COUNT - 1))"
  array_task=(--array-task "$(((SLURM_ARRAY_TASK_ID - first) / step + 1))/$SLURM_ARRAY_TASK_COUNT")
}

on_time_limit() {
  stop=USR1
  say "SIGUSR1: the time limit is near"
  # srun forwards it to the ranks.
  if [[ -n $step_pid ]]; then kill -USR1 "$step_pid" 2>/dev/null || true; fi
}

export_rank_settings() {
  export MASTER_ADDR  # empty: the first node; the port is from job and step (parallel/launchers.py)
  # srun does not inherit --cpus-per-task from sbatch.
  export SRUN_CPUS_PER_TASK=${SLURM_CPUS_PER_TASK:-1}
  export OMP_NUM_THREADS=${OMP_NUM_THREADS:-${SLURM_CPUS_PER_TASK:-1}}
  export PYTHONFAULTHANDLER=1
  # A rank that stopped after a signal writes this file: its exit code may be lost, since srun
  # kills the other ranks as soon as the first one exits.
  export TINYGSM_STOPPED_FILE=$logs/stopped
}

run_on_ranks() {
  local verb=$1 options=()
  shift
  # On one node a single process starts worker processes. On several nodes there is one MPI rank
  # for each CPU of the job.
  if [[ $verb == prepare ]] && ((SLURM_NNODES > 1)); then
    local each=$((SLURM_NTASKS * ${SLURM_CPUS_PER_TASK:-1} / SLURM_NNODES))
    options=(--mpi=pmix --ntasks="$((each * SLURM_NNODES))")
    options+=(--ntasks-per-node="$each" --cpus-per-task=1)
  fi
  step "$verb" "${options[@]}" --output="$logs/rank-%3t.log" \
    "${python_command[@]}" "launch/$verb.py" "$@" "${array_task[@]}"
}

run_on_nodes() {
  step "$1" --ntasks-per-node=1 --ntasks="$SLURM_NNODES" \
    "${python_command[@]}" "launch/$1.py" --folder "$folder" \
    --gpus "$(gpus_required)" --min-free-gib "$TINYGSM_MIN_FREE_GIB" \
    --min-gib-per-second "$TINYGSM_MIN_GIB_PER_SECOND"
}

# The GPUs that a node must have: one for each rank, none where the job has none.
gpus_required() {
  if [[ -n ${SLURM_GPUS_ON_NODE:-} ]]; then echo "${SLURM_NTASKS_PER_NODE:-$SLURM_GPUS_ON_NODE}"
  else echo 0; fi
}

# Run a job step in the background and wait: bash runs a trap only between two commands.
step() {
  local messages=$logs/srun-$1.log code before
  shift
  # --kill-on-bad-exit: the other ranks would wait for a dead one for half an hour.
  srun --kill-on-bad-exit=1 "${srun_options[@]}" "$@" 2>"$messages" &
  step_pid=$!
  while true; do
    before=$signals code=0
    wait "$step_pid" || code=$?
    ((signals == before)) && break
  done
  step_pid=""
  cat "$messages" >&2
  # srun returns the largest code, mostly that of a rank it has killed itself. The rank that failed
  # is in its first message: `srun: error: gpu03: task 17: Exited with exit code 1`.
  first_failure=$(sed -n 's/^srun: error: \(.*: tasks\? .*\)$/\1/p' "$messages" | head -n 1)
  if ((code > 0)) && [[ $first_failure =~ "exit code "([0-9]+)$ ]]; then
    code=${BASH_REMATCH[1]}
  elif ((code > 0)) && [[ $first_failure == *": Killed"* ]]; then
    code=137
  fi
  return "$code"
}

end() {
  local code=$1 verb=$2
  if ((code == 0)); then
    say "$verb is finished"
    exit 0
  fi
  # Cancelled, preempted, requeued by hand, a failed node: srun returns when Slurm has noticed.
  if [[ $stop == TERM || $(job_state) != RUNNING ]]; then
    fail 143 "Slurm has ended attempt $attempt (the job is $(job_state)) and decides what is next"
  fi
  if [[ -f $logs/stopped ]] || ((code == EXIT_STOPPED)); then
    requeue "stopped after saving"
  fi
  if [[ $stop == USR1 ]] && ((code > 128)); then
    requeue "stopped before there was anything to save"
  fi
  # Mostly out of memory. The part it was at is made again; finished parts are kept.
  if [[ $verb == prepare ]] && ((code == 137)); then
    requeue "a rank was killed (${first_failure:-unknown})"
  fi
  show_error "$code" "$verb"
  fail "$code" "$verb failed with exit code $code (first: ${first_failure:-no rank}); output: \
$logs. The job and the jobs that depend on it end here. Fix the cause and submit again: it resumes \
from what is saved"
}

job_state() {
  scontrol --oneliner show job "$SLURM_JOB_ID" | sed -n 's/.*JobState=\([A-Z_]*\).*/\1/p'
}

# The end of the log that says why: of bad input (code 2) one rank reports for all; else that of the
# rank that failed first, since the others only report that they lost it.
show_error() {
  local code=$1 verb=$2 log=""
  if ((code == 2)); then
    log=$(grep -l -s "^$verb.py: " "$logs"/rank-*.log | head -n 1) || true
  fi
  if [[ -z $log && $first_failure =~ tasks?\ ([0-9]+) ]]; then
    log=$logs/rank-$(printf %03d "${BASH_REMATCH[1]}").log
  fi
  if [[ -f $log ]]; then
    say "the end of $log:"
    tail -n 12 "$log"
  fi
}

requeue() {
  say "$1: the job is requeued and will resume from there"
  trap '' TERM USR1  # requeueing ends this script as cancelling would
  if ! scontrol requeue "$SLURM_JOB_ID"; then
    fail "$EXIT_REQUEUED" "it could not be requeued: submit it again with the same arguments"
  fi
  exit "$EXIT_REQUEUED"
}
