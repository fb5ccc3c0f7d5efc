#!/bin/sh
# The environment on a machine of the cloud; nothing to do in an image made from Dockerfile. Called by SkyPilot.
set -eu

if [ -x /opt/golf/bin/golf ]; then
    # The image has the packages, the machine has the newer code of the working folder.
    /opt/golf/bin/python -m pip install -q --no-deps --no-build-isolation -c constraints.txt -e .
    exit 0
fi
if ! command -v g++ >/dev/null || ! command -v make >/dev/null || ! python3 -c 'import venv, ensurepip' 2>/dev/null; then
    sudo=''
    [ "$(id -u)" -eq 0 ] || sudo='sudo -n'
    $sudo apt-get update -qq
    $sudo env DEBIAN_FRONTEND=noninteractive apt-get install -y -qq --no-install-recommends \
        g++ git make python3 python3-dev python3-venv rsync
fi
make install
