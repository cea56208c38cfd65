#!/usr/bin/env bash
# Train a generator or a verifier: 8 GPUs a node; nodes, GPUs and time by flag.
#
#     sbatch --nodes=4 slurm/train.sh configs/generator_350m.toml optimizer.learning_rate=2e-4
#     sbatch --ntasks-per-node=1 --gpus-per-node=1 --time=4:00:00 slurm/train.sh my_config.toml
#
# Site settings are in slurm/site.sh, what happens in slurm/common.sh, docs in docs/cluster.md.
#SBATCH --job-name=train
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

# sbatch runs a copy of this file from a folder of its own, so the repository is looked for.
source "${TINYGSM_REPOSITORY:=${SLURM_SUBMIT_DIR:-$PWD}}/slurm/common.sh" ||
  { echo "not the repository: submit from its root, or export TINYGSM_REPOSITORY" >&2; exit 2; }
run_stage train "$@"
