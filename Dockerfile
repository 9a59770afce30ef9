# syntax=docker/dockerfile:1
# The base by its exact tag. For a build that is the same for ever, add the tag's digest, as `docker buildx imagetools inspect
# python:3.13-slim-bookworm` shows it:  docker build --build-arg PYTHON=python:3.13-slim-bookworm@sha256:... .
ARG PYTHON=python:3.13-slim-bookworm

FROM ${PYTHON} AS build
WORKDIR /source
COPY requirements/run.txt requirements/run.txt
RUN python -m venv /opt/utility-exporter \
    && /opt/utility-exporter/bin/pip install --no-cache-dir --require-hashes --only-binary=:all: -r requirements/run.txt
COPY pyproject.toml README.md LICENSE ./
COPY exporter exporter
RUN /opt/utility-exporter/bin/pip install --no-cache-dir --no-deps --no-build-isolation . \
    && /opt/utility-exporter/bin/pip uninstall --yes setuptools pip

FROM ${PYTHON}
ARG VERSION=0.1.0
ARG REVISION=
LABEL org.opencontainers.image.title="utility-exporter" \
      org.opencontainers.image.description="Reads water, power, gas and heat meters from customer portals, for Prometheus" \
      org.opencontainers.image.licenses="MIT" \
      org.opencontainers.image.version="${VERSION}" \
      org.opencontainers.image.revision="${REVISION}"
RUN install -d -o 65532 -g 65532 -m 0700 /data
COPY --from=build /opt/utility-exporter /opt/utility-exporter
# Nothing but /data is written: the root may be read-only. The demo's passing files go there too.
ENV PATH=/opt/utility-exporter/bin:$PATH \
    PYTHONDONTWRITEBYTECODE=1 \
    PYTHONUNBUFFERED=1 \
    TMPDIR=/data
USER 65532:65532
WORKDIR /data
VOLUME /data
EXPOSE 10230
HEALTHCHECK --interval=30s --timeout=5s --start-period=20s \
    CMD ["python", "-c", "import urllib.request as u; u.urlopen('http://127.0.0.1:10230/-/healthy', timeout=3)"]
ENTRYPOINT ["utility-exporter"]
# With a configuration mounted there the exporter, without one the demo.
CMD ["start", "--config.file=/etc/utility-exporter/config.yaml", "--storage.path=/data"]
