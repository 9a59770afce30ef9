# syntax=docker/dockerfile:1
# The base by its tag; `make image` looks up the digest that the tag has now, builds from that, and notes it on the image.
ARG PYTHON=python:3.13-slim-trixie

FROM ${PYTHON} AS build
WORKDIR /source
COPY requirements/run.txt requirements/run.txt
RUN python -m venv --without-pip /opt/utility-exporter \
    && pip --python=/opt/utility-exporter install --no-cache-dir --require-hashes --only-binary=:all: -r requirements/run.txt
COPY pyproject.toml README.md LICENSE ./
COPY exporter exporter
RUN pip --python=/opt/utility-exporter install --no-cache-dir --no-deps --no-build-isolation . \
    && pip --python=/opt/utility-exporter uninstall --yes setuptools

FROM ${PYTHON}
# Nothing but /data is written, so the root may be read-only. The demo's passing files go there too.
ENV PATH=/opt/utility-exporter/bin:$PATH \
    PYTHONDONTWRITEBYTECODE=1 \
    PYTHONUNBUFFERED=1 \
    TMPDIR=/data
# Nothing can be installed later: whoever breaks in finds no tool for it.
RUN install -d -o 65532 -g 65532 -m 0700 /data \
    && rm -r "$(python -c 'import ensurepip; print(*ensurepip.__path__)')" \
    && pip uninstall --yes pip
COPY --from=build /opt/utility-exporter /opt/utility-exporter
USER 65532:65532
WORKDIR /data
VOLUME /data
EXPOSE 10230
# Straight to the loopback, whatever proxy the environment names.
HEALTHCHECK --interval=30s --timeout=5s --start-period=20s \
    CMD ["python", "-c", "import http.client as h; c = h.HTTPConnection('127.0.0.1', 10230, timeout=3); c.request('GET', '/-/healthy'); exit(c.getresponse().status != 200)"]
ENTRYPOINT ["utility-exporter"]
# The exporter where a configuration is mounted, the demo where there is none.
CMD ["start", "--config.file=/etc/utility-exporter/config.yaml", "--storage.path=/data", "--web.listen-address=:10230"]
ARG VERSION=0.1.0
ARG REVISION=
LABEL org.opencontainers.image.title="utility-exporter" \
      org.opencontainers.image.description="Reads water, power, gas and heat meters from customer portals, for Prometheus" \
      org.opencontainers.image.licenses="MIT" \
      org.opencontainers.image.version="${VERSION}" \
      org.opencontainers.image.revision="${REVISION}"
