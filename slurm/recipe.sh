#!/usr/bin/env bash
# Submit all stages of a recipe, each to start when the one before it has finished well.
#
#     slurm/recipe.sh [--sbatch-option=value ...] [RECIPE.toml ...] [section.key=value ...]
#     slurm/recipe.sh --nodes=4 configs/recipe_paper.toml verifier.training.micro_batch_rows=2
#
# Options go to the stages that use GPUs. Every config is checked first, and nothing is submitted
# when one is wrong. A stage that fails ends the chain: the later ones are cancelled, and the last
# job, `report`, says which stage it was. The same line again goes on from there.
set -euo pipefail

repository=$(cd "$(dirname "${BASH_SOURCE[0]}")/.." && pwd)
source "$repository/slurm/submit.sh"

declare -A scripts=(
  [data_generator]=prepare [generator]=train_1b3 [candidates]=sample
  [data_verifier]=prepare [verifier]=train_verifier_1b3 [evaluation]=evaluate
)

take_options "$@"
[[ ${arguments[*]:-} == *.toml* || ${arguments[*]:-} == *.json* ]] ||
  arguments=(configs/recipe_paper.toml "${arguments[@]}")
plan=$("${python_login_command[@]}" launch/check.py --write \
  --ranks "$(ranks_of slurm/train_1b3.sh)" recipe "${arguments[@]}") || exit $?
folder=$(head -n 1 <<<"$plan")
name=$(basename "$folder")

jobs=()    # ids, in order
record=""  # the same as JSON
# Half a chain is worse than none.
trap '((${#jobs[@]} == 0)) || { scancel "${jobs[@]}"; say "cancelled again: ${jobs[*]}"; }' ERR
while read -r stage verb; do
  script=slurm/${scripts[$stage]}.sh
  # singleton: never two jobs in one stage's folder, however often this is called.
  dependency=singleton
  ((${#jobs[@]} == 0)) || dependency=afterok:${jobs[-1]},singleton
  chosen=("${options[@]}")
  [[ $verb != prepare ]] || chosen=()
  job=$(submit "$script" "${chosen[@]}" --job-name="$name-$stage" \
    --dependency="$dependency" --kill-on-invalid-dep=yes "$script" "$folder/$stage.json")
  jobs+=("$job")
  record+="\"$stage\": \"$job\", "
  printf '%-16s job %s\n' "$stage" "$job"
done < <(tail -n +2 <<<"$plan")
# afterany: it has something to say either way.
job=$(submit slurm/report.sh --job-name="$name-report" \
  --dependency="afterany:${jobs[-1]}" slurm/report.sh "$folder")
jobs+=("$job")
printf '%-16s job %s\n' report "$job"
echo "{${record}\"report\": \"$job\"}" >"$folder/jobs.json"
echo "watch: ${python_login_command[*]} launch/status.py $folder"
