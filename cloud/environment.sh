# shellcheck shell=sh
# Sourced by run.sh and data.sh: golf on the path, data and runs on the volume, compiled kernels on the machine's disk.
if [ -x /opt/golf/bin/golf ]; then PATH="/opt/golf/bin:$PATH"; else PATH="$PWD/.venv/bin:$PATH"; fi
export PATH
export TORCHINDUCTOR_CACHE_DIR=/tmp/torchinductor
export WANDB_MODE="${WANDB_MODE:-offline}"
unset RANK LOCAL_RANK WORLD_SIZE

VOLUME="${VOLUME:-/volume}"
if [ ! -d "$VOLUME" ]; then
    echo "cloud: $VOLUME is not mounted; make it with: sky volumes apply cloud/volume.yaml" >&2
    exit 2
fi
for folder in data runs; do
    mkdir -p "$VOLUME/$folder"
    if [ -d "$folder" ] && [ ! -L "$folder" ]; then rmdir "$folder" 2>/dev/null || mv "$folder" "$folder.local"; fi
    ln -sfn "$VOLUME/$folder" "$folder"
done
VARIANT="${VARIANT:-sp1024}"
case "$VARIANT" in
    caseops) DATASET="fineweb10B_sp8192_lossless_caps_caseops_v1_reserved" ;;
    bytes) DATASET="fineweb10B_byte260" ;;
    *) DATASET="fineweb10B_$VARIANT" ;;
esac
export VARIANT FOLDER="data/datasets/$DATASET"
