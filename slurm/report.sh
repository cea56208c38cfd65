#!/usr/bin/env bash
# The last job of slurm/recipe.sh: the recipe's report, or which stage stopped it.
#
#     sbatch slurm/report.sh runs/paper_1b3
#
#SBATCH --job-name=report
#SBATCH --nodes=1
#SBATCH --ntasks-per-node=1
#SBATCH --cpus-per-task=2
#SBATCH --time=00:30:00
#SBATCH --requeue
#SBATCH --open-mode=append
#SBATCH --output=slurm/logs/%x-%j.log
set -euo pipefail

# sbatch runs a copy of this file from a folder of its own, so the repository is looked for.
source "${TINYGSM_REPOSITORY:=${SLURM_SUBMIT_DIR:-$PWD}}/slurm/common.sh" ||
  { echo "not the repository: submit from its root, or export TINYGSM_REPOSITORY" >&2; exit 2; }
load_site
"${python_command[@]}" launch/report.py "$@"
