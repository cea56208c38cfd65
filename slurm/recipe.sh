#!/usr/bin/env bash
# Submit all stages of a recipe, each to start when the one before it has succeeded.
#
#     slurm/recipe.sh [--sbatch-option=value ...] [RECIPE.toml ...] [section.key=value ...]
#     slurm/recipe.sh --nodes=4 configs/recipe_paper.toml sampling.num_candidates=48
#
# Options go to the stages that use GPUs. Every config is checked first, and nothing is submitted
# when one is wrong. A stage that fails ends the chain: the later ones are cancelled, and the last
# job, `report`, says which stage it was. The same command resumes from there. With --dry-run
# nothing is written or submitted: the commands that would be run are printed as a bash script,
# everything else as its comments.
set -euo pipefail

repository=$(cd "$(dirname "${BASH_SOURCE[0]}")/.." && pwd)
source "$repository/slurm/submit.sh"

take_options "$@"
refuse_array "a recipe's stages together"
names_config "${arguments[@]}" || arguments=(configs/recipe_paper.toml "${arguments[@]}")
num_ranks=$(ranks_of slurm/train.sh)
check=("${python_login_command[@]}" launch/check.py --write --ranks "$num_ranks" recipe
  "${arguments[@]}")
plan=$("${check[@]}" ${dry_run:+"$dry_run"}) || exit $?
folder=$(head -n 1 <<<"$plan")
name=$(basename "$folder")
if [[ -n $dry_run ]]; then
  preview=$("${python_login_command[@]}" launch/recipe.py "$dry_run" --ranks "$num_ranks" \
    "${arguments[@]}")
  print_head "$preview"
  echo "# The stages' configs, one job for each stage, and which is which."
  echo "PYTHONPATH=. $(quoted "${check[@]}")"
fi

jobs=()    # ids, in order; in a dry run variables that will hold them
record=""  # the same as JSON

# Submit the job of a stage, after which `jobs` and `record` know it.
add_job() {
  local stage=$1 job
  shift
  job=$(submit "$@") || return
  if [[ -n $dry_run ]]; then
    echo "$stage=\$($job)"
    job="\$$stage"
  else
    printf '%-16s job %s\n' "$stage" "$job"
  fi
  jobs+=("$job")
  record+="\"$stage\": \"$job\", "
}

# A part of a chain is worse than none.
trap '((${#jobs[@]} == 0)) || { scancel "${jobs[@]}"; say "cancelled again: ${jobs[*]}"; }' ERR
while read -r stage verb; do
  script=slurm/$verb.sh
  # singleton: never two jobs in one stage's folder, however often this is called.
  dependency=singleton
  ((${#jobs[@]} == 0)) || dependency=afterok:${jobs[-1]},singleton
  chosen=("${options[@]}")
  [[ $verb != prepare ]] || chosen=()
  add_job "$stage" "$script" "${chosen[@]}" --job-name="$name-$stage" \
    --dependency="$dependency" --kill-on-invalid-dep=yes "$script" "$folder/$stage.json"
done < <(tail -n +2 <<<"$plan")
# afterany: it reports success and failure.
dependency=afterany:${jobs[-1]}
add_job report slurm/report.sh --job-name="$name-report" --dependency="$dependency" \
  slurm/report.sh "$folder"
record="{${record%, }}"
if [[ -n $dry_run ]]; then
  echo "echo \"${record//\"/\\\"}\" >$(quoted "$folder/jobs.json")"
  exit
fi
echo "$record" >"$folder/jobs.json"
echo "watch: ${python_login_command[*]} launch/status.py $folder"
