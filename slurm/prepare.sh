#!/usr/bin/env bash
# Turn problems or candidates into token shards: a worker for each CPU, on one node, on several
# by MPI, or by the jobs of an array.
#
#     sbatch slurm/prepare.sh configs/generator_1b3.toml
#     sbatch --nodes=4 slurm/prepare.sh configs/generator_1b3.toml
#     sbatch --array=0-7 slurm/prepare.sh configs/generator_1b3.toml
#
# Site settings are in slurm/site.sh, what happens in slurm/common.sh, docs in docs/cluster.md.
#SBATCH --job-name=prepare
#SBATCH --nodes=1
#SBATCH --ntasks-per-node=1
#SBATCH --cpus-per-task=32
#SBATCH --time=12:00:00
#SBATCH --requeue
#SBATCH --signal=B:USR1@300
#SBATCH --open-mode=append
#SBATCH --output=slurm/logs/%x-%j.log
set -euo pipefail

# sbatch runs a copy of this file from a folder of its own, so the repository is looked for.
source "${TINYGSM_REPOSITORY:=${SLURM_SUBMIT_DIR:-$PWD}}/slurm/common.sh" ||
  { echo "not the repository: submit from its root, or export TINYGSM_REPOSITORY" >&2; exit 2; }
run_stage prepare "$@"
