# Compiles for armv7: 32-bit ARM boards with NEON and the hard-float ABI.
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
        binutils-arm-linux-gnueabihf gcc-arm-linux-gnueabihf libc6-dev-armhf-cross \
    && rm -rf /var/lib/apt/lists/*

RUN prebuild-c-library -target arm-linux-gnueabihf.2.17

LABEL org.opencontainers.image.title="crossfarm armv7" \
    org.opencontainers.image.description="Compiles models for 32-bit ARM boards with NEON" \
    org.opencontainers.image.licenses="Apache-2.0"

USER farm
