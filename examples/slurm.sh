#!/bin/bash
# The pipeline on several nodes of a SLURM cluster: sbatch examples/slurm.sh. From a clone on a filesystem that all
# nodes share, with its environment in .venv (pip install '.[pipeline,cluster]'), and in machine.yaml the line
#   cluster: .dvc/tmp/scheduler.json
# With the word teacher behind it, all nodes train the teacher together first; docs/scale.md says when that is faster.
#SBATCH --job-name=seqkd
#SBATCH --nodes=4
#SBATCH --ntasks-per-node=1
#SBATCH --cpus-per-task=16
#SBATCH --time=24:00:00
#SBATCH --output=seqkd-%j.log

set -euo pipefail
cd "${SLURM_SUBMIT_DIR:?start this with sbatch}"
export PATH="$PWD/.venv/bin:$PATH" DASK_CONFIG=examples/dask.yaml
export DASK_LOGGING__DISTRIBUTED=warning TORCH_CPP_LOG_LEVEL=ERROR
first=$(scontrol show hostnames "$SLURM_JOB_NODELIST" | head -n 1)
file=.dvc/tmp/scheduler.json
mkdir -p .dvc/tmp
rm -f "$file"

if [ "${1:-}" = teacher ]; then
  dvc repro vocab
  srun torchrun --nnodes "$SLURM_NNODES" --nproc-per-node 1 --rdzv-backend c10d --rdzv-endpoint "$first:29400" \
    -m seqkd train teacher --role teacher --text data/text/reference.tsv --corpus data/corpus \
    --vocabulary data/vocab/joint.model --curve reports/curves/teacher.csv --out models/teacher
  dvc commit --force train@teacher
fi

# On the first node the scheduler; on every node a worker a core, which decode and select, and one that trains. They
# end with this script; srun then says that they were killed.
trap 'kill $(jobs -p)' EXIT
srun --overlap --nodes=1 --ntasks=1 --nodelist="$first" \
  dask scheduler --host "$first" --port 8786 --scheduler-file "$file" --no-dashboard &
until [ -s "$file" ]; do sleep 1; done
srun --overlap dask worker --scheduler-file "$file" --nthreads 1 --nworkers "$SLURM_CPUS_PER_TASK" --no-dashboard &
srun --overlap dask worker --scheduler-file "$file" --nthreads 1 --resources training=1 --no-dashboard &

seqkd grid --jobs "$SLURM_NNODES"
