# Compiles for x86_64: PCs.
# Build it on crossfarm's base image: --build-arg BASE_IMAGE=crossfarm-base, see docs/images.md.
ARG BASE_IMAGE=debian:bookworm-slim
FROM ${BASE_IMAGE}

USER root
RUN command -v prebuild-c-library || { echo "BASE_IMAGE must be crossfarm's base image, see docs/images.md"; exit 1; }

RUN apt-get update \
    && DEBIAN_FRONTEND=noninteractive apt-get install -y --no-install-recommends \
        binutils gcc gdb-multiarch libc6-dev \
    && rm -rf /var/lib/apt/lists/*

RUN prebuild-c-library -target x86_64-linux-gnu.2.17
# Of programs, which are linked statically.
RUN prebuild-c-library -target x86_64-linux-musl -static

LABEL org.opencontainers.image.title="crossfarm x86_64" \
    org.opencontainers.image.description="Compiles models for 64-bit PCs" \
    org.opencontainers.image.licenses="Apache-2.0"

USER farm
