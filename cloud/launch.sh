#!/bin/sh
# sh cloud/launch.sh golf                                                       8×H100 SXM
# sh cloud/launch.sh golf1 --gpus H100-SXM:1 --env HARDWARE=h100x1              1×H100 SXM
# Start the machine, follow the job, bring the runs back, end the machine: whatever happens to the job.
set -eu

if [ $# -eq 0 ]; then
    echo 'cloud: a name for the machine is missing; type sh cloud/launch.sh golf' >&2
    exit 2
fi
machine=$1
shift

if ! command -v sky >/dev/null; then
    echo "cloud: SkyPilot is missing; type pip install 'skypilot[runpod]' (in an environment of its own)" >&2
    exit 2
fi
# The volume keeps everything, so that the machine may go even if the copy fails.
trap 'sky down -y "$machine"' EXIT
status=0
sky launch -y -c "$machine" "$@" cloud/sky.yaml || status=$?
mkdir -p runs
rsync -az --exclude='.*.part' "$machine:/volume/runs/" runs/ || echo 'cloud: the runs stay on the volume (golf-data)' >&2
exit "$status"
