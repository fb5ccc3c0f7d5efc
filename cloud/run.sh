#!/bin/sh
# One run on a machine of the cloud: data, golf doctor, training, export, scores. Called by SkyPilot, or by hand in a pod.
set -eu
. cloud/environment.sh

if [ -n "${RESUME:-}" ]; then
    exec timeout --signal=TERM --kill-after=300 "${MAX_MINUTES:-180}m" python train.py run="$RESUME"
fi

golf data download --variant "$VARIANT" --train-shards "${TRAIN_SHARDS:-80}"

# Word splitting is wanted: OVERRIDES holds any number of them.
# shellcheck disable=SC2086
set -- experiment="${EXPERIMENT:-baseline}" hardware="${HARDWARE:-h100x8}" data.folder="$FOLDER" ${NAME:+name="$NAME"} ${OVERRIDES:-}

golf doctor "$@" || [ "${STRICT:-1}" = 0 ]
# TERM makes golf write a checkpoint and end; RESUME=runs/<name>/<time> goes on with it.
exec timeout --signal=TERM --kill-after=300 "${MAX_MINUTES:-180}m" python train.py "$@"
