#!/usr/bin/env bash
# Train the verifier of the paper's 1.3B generator: slurm/train.sh with a config, which one that is
# named replaces.
#
#     sbatch --nodes=2 slurm/train_verifier_1b3.sh optimizer.learning_rate=2e-5
#
# Site settings are in slurm/site.sh, what happens in slurm/common.sh, docs in docs/cluster.md.
#SBATCH --job-name=train_verifier_1b3
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
run_stage_with_default configs/verifier_1b3.toml train "$@"
