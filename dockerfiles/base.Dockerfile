# What every image of crossfarm shares: Debian, Python 3.11 and the Python packages of requirements.lock, TVM and zig among
# them. The project's own source is not in here: it is mounted when a job runs, so that an edit needs no new image.
#   docker build --file dockerfiles/base.Dockerfile --tag crossfarm-base .
ARG BASE_IMAGE=debian:bookworm-slim
FROM ${BASE_IMAGE}

RUN apt-get update \
    && DEBIAN_FRONTEND=noninteractive apt-get install -y --no-install-recommends \
        ca-certificates libstdc++6 python3 python3-venv \
    && rm -rf /var/lib/apt/lists/*

# One environment at a fixed place; what pip downloads is checked against the lock's hashes and not kept.
COPY requirements.lock /opt/crossfarm/requirements.lock
RUN python3 -m venv /opt/crossfarm/venv \
    && /opt/crossfarm/venv/bin/pip install --quiet --no-cache-dir --disable-pip-version-check \
        --require-hashes --requirement /opt/crossfarm/requirements.lock

COPY dockerfiles/prebuild-c-library /usr/local/bin/prebuild-c-library

# zig builds a target's C library on first use and keeps it here; jobs find it built.
ENV PATH=/opt/crossfarm/venv/bin:$PATH \
    PYTHONDONTWRITEBYTECODE=1 \
    ZIG_GLOBAL_CACHE_DIR=/opt/crossfarm/zig

RUN useradd --uid 1000 --create-home farm

LABEL org.opencontainers.image.title="crossfarm base" \
    org.opencontainers.image.description="Python 3.11 with Apache TVM, ONNX Runtime and zig" \
    org.opencontainers.image.licenses="Apache-2.0"

USER farm
WORKDIR /home/farm
CMD ["bash"]
