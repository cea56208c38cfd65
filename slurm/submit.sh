#!/usr/bin/env bash
# Check a job, then submit it: with the site's settings, and never with a wrong config.
#
#     slurm/submit.sh [--sbatch-option=value ...] SCRIPT [CONFIG] [section.key=value ...]
#     slurm/submit.sh --nodes=4 slurm/train_1b3.sh optimizer.learning_rate=2e-4
#
# What is wrong with the config, the files it names, or its batch on that many ranks is said
# here, in a second, and nothing is submitted.
set -euo pipefail

if [[ -z ${repository:-} ]]; then
  repository=$(cd "$(dirname "${BASH_SOURCE[0]}")/.." && pwd)
fi
export TINYGSM_REPOSITORY=$repository
source "$repository/slurm/common.sh"
load_site

# Take leading options off the arguments: into `options`, the others into `arguments`.
take_options() {
  options=()
  while (($#)) && [[ $1 == -* ]]; do
    # `-N 4` and `--nodes 4` would leave the 4 to be taken for the script.
    [[ $1 == --* ]] || fail 2 "$1: write options of sbatch as --name=value"
    options+=("$1")
    shift
  done
  arguments=("$@")
}

# Submit a script with options that come after the site's; prints the job's id.
submit() {
  local script=$1 extra=("${site_options[@]}")
  shift
  grep -q '^#SBATCH --gpus-per-node' "$script" || extra=("${site_cpu_options[@]}")
  sbatch --parsable --chdir="$repository" "${extra[@]}" "$@"
}

# How many ranks a script has with the options in `options`.
ranks_of() {
  local script=$1
  echo $(($(option nodes "$script") * $(option ntasks-per-node "$script")))
}

option() {
  local name=$1 script=$2 value given
  value=$(sed -n "s/^#SBATCH --$name=//p" "$script")
  for given in "${site_options[@]}" "${options[@]}"; do
    [[ $given == --$name=* ]] && value=${given#*=}
  done
  echo "${value:-1}"
}

if [[ ${BASH_SOURCE[0]} == "$0" ]]; then
  take_options "$@"
  script=${arguments[0]:-}
  [[ -f $script && $script == *.sh ]] ||
    fail 2 "name a job script, such as slurm/train_1b3.sh; got ${script:-nothing}"
  # Outside of a job a job script only checks.
  TINYGSM_RANKS=$(ranks_of "$script") env -u SLURM_JOB_ID bash "$script" "${arguments[@]:1}"
  submit "$script" "${options[@]}" "${arguments[@]}"
fi
