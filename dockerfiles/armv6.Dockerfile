# Compiles for armv6: the first Raspberry Pi and the Zero.
# Build it on crossfarm's base image: --build-arg BASE_IMAGE=crossfarm-base, see docs/images.md.
ARG BASE_IMAGE=debian:bookworm-slim
FROM ${BASE_IMAGE}

USER root
RUN command -v prebuild-c-library || { echo "BASE_IMAGE must be crossfarm's base image, see docs/images.md"; exit 1; }

# The same step in every image of a foreign target, so that all of them share its layer.
RUN apt-get update \
    && DEBIAN_FRONTEND=noninteractive apt-get install -y --no-install-recommends gdb-multiarch qemu-user-static \
    && rm -rf /var/lib/apt/lists/*

# Debian's C library for armhf needs ARMv7. GCC compiles for ARMv6 with -march=armv6+fp -marm; link with zig cc.
RUN apt-get update \
    && DEBIAN_FRONTEND=noninteractive apt-get install -y --no-install-recommends \
        binutils-arm-linux-gnueabihf gcc-arm-linux-gnueabihf libc6-dev-armhf-cross \
    && rm -rf /var/lib/apt/lists/*

RUN prebuild-c-library -target arm-linux-musleabihf -mcpu=arm1176jzf_s -static

LABEL org.opencontainers.image.title="crossfarm armv6" \
    org.opencontainers.image.description="Compiles models for the first Raspberry Pi and the Zero" \
    org.opencontainers.image.licenses="Apache-2.0"

USER farm
