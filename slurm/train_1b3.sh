#!/usr/bin/env bash
# Train the paper's 1.3B generator: 8 GPUs a node, nodes by flag.
#
#     sbatch --nodes=4 slurm/train_1b3.sh optimizer.learning_rate=2e-4
#     sbatch --nodes=4 slurm/train_1b3.sh my_changes.toml run.folder=runs/mine
#
# Site settings are in slurm/site.sh, what happens in slurm/common.sh, docs in docs/cluster.md.
#SBATCH --job-name=train_1b3
#SBATCH --nodes=1
#SBATCH --ntasks-per-node=8
#SBATCH --gpus-per-node=8
#SBATCH --cpus-per-task=8
#SBATCH --mem=0
#SBATCH --time=24:00:00
#SBATCH --requeue
#SBATCH --signal=B:USR1@300
#SBATCH --open-mode=append
#SBATCH --output=slurm/logs/%x-%j.log
set -euo pipefail

# sbatch runs a copy of this file from a folder of its own.
repository=${TINYGSM_REPOSITORY:-${SLURM_SUBMIT_DIR:-$PWD}}
if [[ ! -f $repository/slurm/common.sh ]]; then
  echo "$repository is not the repository: submit from its root, or export TINYGSM_REPOSITORY" >&2
  exit 2
fi
source "$repository/slurm/common.sh"
run_stage train configs/generator_1b3.toml "$@"
