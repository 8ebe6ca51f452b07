#!/bin/bash
# Continued pre-training on several machines under Slurm, one DeepSpeed launcher per machine.
#   sbatch --nodes 4 configs/slurm/pretrain.sh configs/pretrain/llama3-8b.yaml nodes=4 batch=512
# Ten minutes before the time limit, or on `scancel --signal=USR1 --batch JOB`, the run saves a checkpoint and ends, and the job
# is put back into the queue; the same command then goes on, exactly. Tried on two processes that played machines, not on a cluster.
#SBATCH --job-name=pretrain --nodes=1 --ntasks-per-node=1 --gpus-per-node=8 --cpus-per-task=64 --mem=0 --exclusive
#SBATCH --time=24:00:00 --signal=B:USR1@600 --requeue --open-mode=append --output=pretrain-%j.log
set -euo pipefail
recipe=$1
shift
out=$(llama-gene pretrain --recipe "$recipe" "$@" --dry-run | sed -n 's/^out: //p')
export MASTER_ADDR=$(scontrol show hostnames "$SLURM_JOB_NODELIST" | head -n 1) MASTER_PORT=$((20000 + SLURM_JOB_ID % 20000))

# torchrun on every machine: every rank gets the recipe, and finds the others at the first machine
srun --kill-on-bad-exit=1 bash -c 'torchrun --nnodes "$SLURM_NNODES" --nproc_per_node "$SLURM_GPUS_ON_NODE" --node_rank "$SLURM_NODEID" \
    --master_addr "$MASTER_ADDR" --master_port "$MASTER_PORT" -m pretrain --recipe "$@"' bash "$recipe" "$@" &
step=$!

save() {
    touch "$out.checkpoints/stop" # seen by the first rank at the end of a step; all ranks save and leave
    wait "$step" || true
    scontrol requeue "$SLURM_JOB_ID"
}
trap save USR1
wait "$step"
