#!/bin/sh
# Fetch the shards onto the volume (goes on where it was interrupted) and verify all of them. Called by SkyPilot.
set -eu
. cloud/environment.sh

golf data download --variant "$VARIANT" --train-shards "${TRAIN_SHARDS:-80}"
golf data verify "$FOLDER"
