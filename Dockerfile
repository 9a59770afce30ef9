# The exporter, in two stages: what builds stays behind. Without arguments the image shows the demo:
#   docker run -p 10230:10230 utility-exporter
#   docker run -p 10230:10230 -v ./config:/etc/utility-exporter:ro -v readings:/data utility-exporter serve --config.file=/etc/utility-exporter/config.yaml
# Pin the base by digest where you build: --build-arg PYTHON=python:3.12-slim-bookworm@sha256:...
ARG PYTHON=python:3.12-slim-bookworm

FROM ${PYTHON} AS build
WORKDIR /src
RUN python -m venv /opt/exporter
COPY requirements/run.txt requirements/run.txt
RUN /opt/exporter/bin/pip install --no-cache-dir --require-hashes --only-binary=:all: -r requirements/run.txt
COPY pyproject.toml README.md LICENSE ./
COPY exporter exporter
RUN /opt/exporter/bin/pip install --no-cache-dir --no-deps --no-build-isolation . \
    && /opt/exporter/bin/pip uninstall --yes --quiet setuptools pip \
    && mkdir -p /data

FROM ${PYTHON}
LABEL org.opencontainers.image.title="utility-exporter" \
      org.opencontainers.image.description="A Prometheus exporter for the customer portals of utility meters" \
      org.opencontainers.image.licenses="MIT"
COPY --from=build /opt/exporter /opt/exporter
COPY --from=build --chown=65532:65532 --chmod=700 /data /data
ENV PATH=/opt/exporter/bin:$PATH PYTHONDONTWRITEBYTECODE=1 PYTHONUNBUFFERED=1
USER 65532:65532
WORKDIR /data
VOLUME /data
EXPOSE 10230
HEALTHCHECK --interval=30s --timeout=5s --start-period=20s \
    CMD ["python", "-c", "import urllib.request; urllib.request.urlopen('http://127.0.0.1:10230/-/healthy', timeout=4)"]
ENTRYPOINT ["utility-exporter"]
CMD ["demo"]
