#!/usr/bin/env bash
# Check a job, then submit it: with the site's settings, and never with a wrong config.
#
#     slurm/submit.sh [--sbatch-option=value ...] SCRIPT [CONFIG] [section.key=value ...]
#     slurm/submit.sh --nodes=4 slurm/train_1b3.sh optimizer.learning_rate=2e-4
#
# An error in the config, in the files it names, or in its batch size on that many ranks is
# reported here, in a second, and nothing is submitted. With --dry-run nothing is submitted either:
# the commands that would be run are printed as a bash script, everything else as its comments.
set -euo pipefail

if [[ -z ${repository:-} ]]; then
  repository=$(cd "$(dirname "${BASH_SOURCE[0]}")/.." && pwd)
fi
export TINYGSM_REPOSITORY=$repository
source "$repository/slurm/common.sh"
load_site

# Take leading options off the arguments: into `options`, the others into `arguments`.
# --dry-run counts in any place: nobody who wrote it wants a job.
take_options() {
  options=() arguments=() dry_run=""
  local word
  for word in "$@"; do
    if [[ $word == --dry-run ]]; then
      dry_run=$word
    elif ((${#arguments[@]} == 0)) && [[ $word == -* ]]; then
      # `-N 4` and `--nodes 4` would leave the 4 to be taken for the script.
      [[ $word == --* ]] || fail 2 "$word: write options of sbatch as --name=value"
      options+=("$word")
    else
      arguments+=("$word")
    fi
  done
}

# Submit a script with options that come after the site's; prints the job's id. In a dry run:
# print the line that does.
submit() {
  local script=$1 extra=("${site_options[@]}")
  shift
  grep -q '^#SBATCH --gpus-per-node' "$script" || extra=("${site_cpu_options[@]}")
  local line=(sbatch --parsable --chdir="$repository" "${extra[@]}" "$@")
  if [[ -z $dry_run ]]; then "${line[@]}"; else quoted "${line[@]}"; fi
}

# A command as one would type it. Job ids of a recipe's dry run are variables, in `dependency`.
quoted() {
  local word line=""
  for word in "$@"; do
    if [[ $word =~ ^[A-Za-z0-9_@%+=:,./-]+$ || $word == "--dependency=${dependency:-}" ]]; then
      line+=" $word"
    else
      line+=" ${word@Q}"
    fi
  done
  echo "${line:1}"
}

# The head of a dry run's script: the preview as comments, then what sbatch needs.
print_head() {
  local name
  echo "#!/usr/bin/env bash"
  sed 's/^/# /' <<<"$1"
  quoted cd "$repository"
  for name in TINYGSM_REPOSITORY ${TINYGSM_SITE:+TINYGSM_SITE} "${!SBATCH_@}"; do
    quoted export "$name=${!name}"
  done
}

# The tasks of an array divide the parts of one stage; a training run or a recipe has none.
refuse_array() {
  [[ " ${options[*]} " != *" --array="* ]] || fail 2 "--array is for prepare.sh and sample.sh, not $1"
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
  [[ $script == *prepare.sh || $script == *sample.sh ]] || refuse_array "$script"
  # Outside of a job a job script only checks.
  check=(env -u SLURM_JOB_ID TINYGSM_RANKS="$(ranks_of "$script")" bash "$script")
  if [[ -n $dry_run ]]; then
    preview=$("${check[@]}" "$dry_run" "${arguments[@]:1}")
    print_head "$preview"
  else
    "${check[@]}" "${arguments[@]:1}"
  fi
  submit "$script" "${options[@]}" "${arguments[@]}"
fi
