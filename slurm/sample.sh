#!/usr/bin/env bash
# Sample, run and label candidates: 8 GPUs a node, nodes by flag; the questions are divided among
# the ranks. The tasks of an array divide them too, each starting when there is room for it.
#
#     sbatch --nodes=4 slurm/sample.sh runs/paper_1b3/candidates.json
#     sbatch --array=0-15 --ntasks-per-node=1 --gpus-per-node=1 slurm/sample.sh CONFIG
#
# Site settings are in slurm/site.sh, what happens in slurm/common.sh, docs in docs/cluster.md.
#SBATCH --job-name=sample
#SBATCH --nodes=1
#SBATCH --ntasks-per-node=8
#SBATCH --gpus-per-node=8
#SBATCH --cpus-per-task=8
#SBATCH --mem=0
#SBATCH --time=12:00:00
#SBATCH --requeue
#SBATCH --signal=B:USR1@300
#SBATCH --open-mode=append
#SBATCH --output=slurm/logs/%x-%j.log
set -euo pipefail

# sbatch runs a copy of this file from a folder of its own, so the repository is looked for.
source "${TINYGSM_REPOSITORY:=${SLURM_SUBMIT_DIR:-$PWD}}/slurm/common.sh" ||
  { echo "not the repository: submit from its root, or export TINYGSM_REPOSITORY" >&2; exit 2; }
run_stage sample "$@"
