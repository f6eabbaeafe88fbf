#!/usr/bin/env bash
# FILA from its parts to a trained checkpoint: CLIP-L/14-336, ConvNeXt-L and LLaMA-3-8B, in two stages. Each step is
# skipped if its result is there, and a stage that was interrupted goes on where it stopped. See README.md.
set -euo pipefail
here=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)

LOW_RES=${LOW_RES:-openai/clip-vit-large-patch14-336}
HIGH_RES=${HIGH_RES:-laion/CLIP-convnext_large_d_320.laion2B-s29B-b131K-ft-soup}
TEXT=${TEXT:-meta-llama/Meta-Llama-3-8B-Instruct}
ALIGN_DATA=${ALIGN_DATA:-LLaVA-Pretrain/blip_laion_cc_sbu_558k.json}
ALIGN_IMAGES=${ALIGN_IMAGES:-LLaVA-Pretrain}
TUNE_DATA=${TUNE_DATA:-llava_v1_5_mix665k.json}
TUNE_IMAGES=${TUNE_IMAGES:-LLaVA-Instruct}
TEST_DATA=${TEST_DATA:-}                # of `fila evaluate`; not evaluated here if empty
RUN=${RUN:-fila-8b}                     # folder of everything that is written
GPUS=${GPUS:-8}
# 256 samples in a step of the first stage, 128 in the second, as LLaVA-1.5's
ALIGN_BATCH=${ALIGN_BATCH:-4} TUNE_BATCH=${TUNE_BATCH:-1}
ALIGN_STEPS=${ALIGN_STEPS:--1} TUNE_STEPS=${TUNE_STEPS:--1} SAVE_STEPS=${SAVE_STEPS:-200} LOGGING_STEPS=${LOGGING_STEPS:-10}
# what runs `fila` on all GPUs; `python -m fila` is enough for one
LAUNCH=${LAUNCH:-accelerate launch --config_file $here/../accelerate/fsdp2.yaml --num_processes $GPUS -m fila}
FILA=${FILA:-python -m fila}

train() { # STAGE CHECKPOINT DATA IMAGES BATCH STEPS_TO_ACCUMULATE MAX_STEPS MORE...
    [[ -e $RUN/$1/final/config.json ]] && return
    $LAUNCH train "$2" --stage "$1" --data "$3" --image-folder "$4" --output "$RUN/$1" --batch-size "$5" \
        --accumulation "$6" --max-steps "$7" --epochs 1 --save-steps "$SAVE_STEPS" --logging-steps "$LOGGING_STEPS" \
        --gradient-checkpointing --bad-rows skip --resume "${@:8}"
}

if [[ ! -e $RUN/parts/config.json ]]; then
    $FILA assemble --low-res "$LOW_RES" --high-res "$HIGH_RES" --text "$TEXT" --output "$RUN/parts"
fi
$FILA estimate --train --checkpoint "$RUN/parts" 1344x1008 672x448    # memory, operations and days, before they are spent

train align "$RUN/parts" "$ALIGN_DATA" "$ALIGN_IMAGES" "$ALIGN_BATCH" $((256 / ALIGN_BATCH / GPUS)) "$ALIGN_STEPS" \
    --drop-instruction --bf16
train finetune "$RUN/align/final" "$TUNE_DATA" "$TUNE_IMAGES" "$TUNE_BATCH" $((128 / TUNE_BATCH / GPUS)) "$TUNE_STEPS" --bf16

$FILA verify "$RUN/finetune/final"
if [[ -n $TEST_DATA ]]; then
    $FILA evaluate "$RUN/finetune/final" --data "$TEST_DATA" --output "$RUN/scores"
fi
echo "$RUN/finetune/final"
