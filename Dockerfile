# docker build -t golf . && docker run --gpus all --shm-size=8g -v "$PWD/data:/golf/data" -v "$PWD/runs:/golf/runs" golf golf doctor
# golf on CUDA: the runtime image that torch is built for, and every Python package at the version of constraints.txt.
# Not built where it was written (no Docker there): linted by hadolint, its pins compared with constraints.txt by a test.
FROM nvidia/cuda:13.0.2-runtime-ubuntu24.04

SHELL ["/bin/bash", "-euo", "pipefail", "-c"]
ENV DEBIAN_FRONTEND=noninteractive \
    PATH=/opt/golf/bin:$PATH \
    PIP_DISABLE_PIP_VERSION_CHECK=1 \
    PIP_NO_CACHE_DIR=1 \
    TORCHINDUCTOR_CACHE_DIR=/tmp/torchinductor

# g++ and Python's headers: torch.compile. rsync, ssh: SkyPilot. Ubuntu 24.04 keeps no old versions of its packages to
# pin; the base image's tag fixes the release, whose Python is 3.12.
# hadolint ignore=DL3008
RUN apt-get update \
    && apt-get install -y --no-install-recommends \
        ca-certificates curl g++ git make openssh-server python3 python3-dev python3-venv rsync \
    && rm -rf /var/lib/apt/lists/*

WORKDIR /golf

# Packages first, with an empty golf: a change of golf's code does not fetch torch again.
COPY pyproject.toml constraints.txt README.md ./
RUN python3 -m venv /opt/golf \
    && mkdir golf \
    && touch golf/__init__.py \
    && pip install -c constraints.txt setuptools \
    && pip install -c constraints.txt --no-build-isolation -e '.[gpu,codecs,submission,data,sweep]'

COPY . .

# The GPU belongs to the container that runs, not to this build: what can be tried without one is tried here.
RUN golf doctor --no-dry-run hardware=cpu

CMD ["golf", "--help"]
