# Compiles for aarch64: 64-bit ARM boards.
# Build it on crossfarm's base image: --build-arg BASE_IMAGE=crossfarm-base, see docs/images.md.
ARG BASE_IMAGE=debian:bookworm-slim
FROM ${BASE_IMAGE}

USER root
RUN command -v prebuild-c-library || { echo "BASE_IMAGE must be crossfarm's base image, see docs/images.md"; exit 1; }

# The same step in every image of a foreign target, so that all of them share its layer.
RUN apt-get update \
    && DEBIAN_FRONTEND=noninteractive apt-get install -y --no-install-recommends gdb-multiarch qemu-user-static \
    && rm -rf /var/lib/apt/lists/*

RUN apt-get update \
    && DEBIAN_FRONTEND=noninteractive apt-get install -y --no-install-recommends \
        binutils-aarch64-linux-gnu gcc-aarch64-linux-gnu libc6-dev-arm64-cross \
    && rm -rf /var/lib/apt/lists/*

RUN prebuild-c-library -target aarch64-linux-gnu.2.17

LABEL org.opencontainers.image.title="crossfarm aarch64" \
    org.opencontainers.image.description="Compiles models for 64-bit ARM boards" \
    org.opencontainers.image.licenses="Apache-2.0"

USER farm
