# What differs from one cluster to the next. Edit this file, or keep your own elsewhere and
#     export TINYGSM_SITE=/path/to/my_site.sh
# It is sourced twice: by slurm/submit.sh and slurm/recipe.sh on the login node, and by every
# job on its first node. A value that is already in the environment wins.

# --- What sbatch reads from the environment; empty: the cluster's default.
# Plain `sbatch slurm/train_1b3.sh` uses these only after `source slurm/site.sh`.
: "${SBATCH_ACCOUNT:=}" "${SBATCH_PARTITION:=}" "${SBATCH_QOS:=}" "${SBATCH_RESERVATION:=}"
for name in SBATCH_ACCOUNT SBATCH_PARTITION SBATCH_QOS SBATCH_RESERVATION; do
  # sbatch takes an empty value for a name.
  if [[ -n ${!name} ]]; then export "${name?}"; else unset "$name"; fi
done

# Options added to every job by slurm/submit.sh and slurm/recipe.sh, such as another number of
# CPUs, GPUs or a constraint; options given on the command line win over them.
#     site_options=(--cpus-per-task=12 --gpus-per-node=4 --ntasks-per-node=4 --constraint=h100)
site_options=()
# The same for jobs that need no GPU (prepare, report): a partition of CPU nodes, for instance.
#     site_cpu_options=(--partition=cpu --cpus-per-task=64)
site_cpu_options=()

# --- What a job needs before Python starts.
#     module purge; module load cuda/12.8
#     export NCCL_SOCKET_IFNAME=ib0 HF_HOME=/shared/huggingface HF_HUB_OFFLINE=1

# --- How Python is called. The default is what `make setup` installs; else `python3`.
# A container that is entered by a command:
#     python_command=(apptainer exec --nv --bind "$PWD" /shared/images/tinygsm.sif python)
# A container that srun enters (pyxis): leave python_command=(python) and set
#     srun_options=(--container-image=/shared/images/tinygsm.sqsh --container-mounts="$PWD:$PWD")
# and a python_login_command that runs launch/check.py outside of it.
if [[ -x $repository/.venv/bin/python ]]; then
  python_command=("$repository/.venv/bin/python")
else
  python_command=(python3)
fi
python_login_command=()
srun_options=()

# --- Where ranks meet. Empty: the job's first node by its name; set it where node names do not
# resolve to an address that the other nodes reach.
: "${MASTER_ADDR:=}"

# --- What preflight (docs/cluster.md) demands of every node.
# Free space below the run folder, in GiB; a checkpoint of the 1.3B model takes 25.
: "${TINYGSM_MIN_FREE_GIB:=100}"
# Bandwidth of the slowest pair of nodes, in GiB/s; 0: measured and shown, never refused.
: "${TINYGSM_MIN_GIB_PER_SECOND:=0}"
# 0: no preflight.
: "${TINYGSM_PREFLIGHT:=1}"
