# Holds Arm's compiler Vela for Ethos-U, in a Python environment of its own.
# Build it on crossfarm's base image: --build-arg BASE_IMAGE=crossfarm-base, see docs/images.md.
ARG BASE_IMAGE=debian:bookworm-slim
FROM ${BASE_IMAGE}

USER root
COPY requirements/environments/ethos_u.txt /opt/crossfarm/environments/ethos_u.txt
# Its name holds the digest of the lock, as crossfarm.util.environments looks for it; the last file says it is whole.
RUN cd /opt/crossfarm/environments \
    && folder=ethos_u-$(sha256sum <ethos_u.txt | cut -c1-12) \
    && python3 -m venv "$folder" \
    && "$folder/bin/pip" install --quiet --no-cache-dir --disable-pip-version-check --require-hashes --no-deps \
        --requirement ethos_u.txt \
    && touch "$folder/.complete"

LABEL org.opencontainers.image.title="crossfarm ethos_u" \
    org.opencontainers.image.description="Estimates models for Arm Ethos-U" \
    org.opencontainers.image.licenses="Apache-2.0"

USER farm
