# Makes models into Verilog with NNgen, in a Python environment of its own, and simulates it with Verilator.
# Build it on crossfarm's base image: --build-arg BASE_IMAGE=crossfarm-base, see docs/images.md.
ARG BASE_IMAGE=debian:bookworm-slim
FROM ${BASE_IMAGE}

USER root
RUN apt-get update \
    && DEBIAN_FRONTEND=noninteractive apt-get install -y --no-install-recommends \
        g++ iverilog make verilator yosys \
    && rm -rf /var/lib/apt/lists/*

COPY requirements/environments/rtl.txt requirements/environments/rtl-build.txt /opt/crossfarm/environments/
# Its name holds the digest of the lock, as crossfarm.util.environments looks for it; the last file says it is whole.
# Some of it is on the index as source alone, in plain Python; rtl-build.txt locks what builds that.
RUN cd /opt/crossfarm/environments \
    && folder=rtl-$(sha256sum <rtl.txt | cut -c1-12) \
    && python3 -m venv "$folder" \
    && PIP="$folder/bin/pip install --quiet --no-cache-dir --disable-pip-version-check --require-hashes --no-deps" \
    && $PIP --requirement rtl-build.txt \
    && $PIP --no-build-isolation --requirement rtl.txt \
    && touch "$folder/.complete"

LABEL org.opencontainers.image.title="crossfarm rtl" \
    org.opencontainers.image.description="Makes models into Verilog and simulates it" \
    org.opencontainers.image.licenses="Apache-2.0"

USER farm
