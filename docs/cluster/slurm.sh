#!/bin/bash
# A study on a SLURM array: task 0 starts it and writes the report, the others work on it.
#   sbatch --export=ALL,BITSEARCH_STORAGE=postgresql://bitsearch@db/bitsearch docs/cluster/slurm.sh
# The database's password belongs into ~/.pgpass on the shared home.
#SBATCH --job-name=bitsearch
#SBATCH --array=0-15
#SBATCH --cpus-per-task=4
#SBATCH --mem=8G
#SBATCH --time=04:00:00
#SBATCH --requeue
# Two minutes before the end: the epoch is finished and the trial given back.
#SBATCH --signal=TERM@120
set -euo pipefail

study=digits-4x
shared=$SLURM_SUBMIT_DIR/reports/$study
export OMP_NUM_THREADS=$SLURM_CPUS_PER_TASK

if [ "$SLURM_ARRAY_TASK_ID" = 0 ]; then
    exec bitsearch run --space digits --budget 4x --study "$study" --out "$shared" --artifacts "$shared/artifacts"
else
    exec bitsearch worker --study "$study" --folder "$shared/workers"
fi
