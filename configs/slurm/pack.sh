#!/bin/bash
# Packing as an array of jobs (docs/scaling.md): parts first, then one job that merges them.
#   parts=$(sbatch --parsable --array=1-32 configs/slurm/pack.sh configs/corpora/large.yaml)
#   sbatch --dependency=afterok:$parts --cpus-per-task=16 --mem=32G configs/slurm/pack.sh configs/corpora/large.yaml
# Not tried on a cluster by us.
#SBATCH --job-name=pack --cpus-per-task=4 --mem=8G --time=04:00:00 --output=pack-%A-%a.log
set -euo pipefail
if [ -n "${SLURM_ARRAY_TASK_ID:-}" ]; then
    part="$SLURM_ARRAY_TASK_ID/$SLURM_ARRAY_TASK_COUNT"
else
    part=merge
fi
llama-gene convert pack --recipe "$1" "${@:2}" "part=$part" "workers=$SLURM_CPUS_PER_TASK"
