# One service of orderstream, or any command of it: docs/containers.md.
# The Python that the tests run on, by its digest: the same bytes for everybody.
FROM python:3.11.15-slim-bookworm@sha256:d29f48a31a8b408ed19272ca1e7b10ebae13b240a27e862d3d4217c528e2e0c3 AS base

FROM base AS build
WORKDIR /build
ENV PIP_DISABLE_PIP_VERSION_CHECK=1 PIP_NO_CACHE_DIR=1 PIP_ROOT_USER_ACTION=ignore
# The environment has no pip of its own: 15 MB that a service has no use for.
RUN python -m venv --without-pip /opt/orderstream
COPY requirements.lock requirements-build.lock ./
# Without the bytecode of Apprise's hundred channels, of which a shop has one or two: 5 MB.
RUN python -m pip --python /opt/orderstream/bin/python install --require-hashes -r requirements.lock \
    && python -m pip install --require-hashes -r requirements-build.lock \
    && find /opt/orderstream -path '*/apprise/plugins/*' -name '*.pyc' -delete
COPY pyproject.toml README.md LICENSE ./
COPY src ./src
# Git, which tells the version elsewhere, is not in here: `./entrypoint.sh --build` gives it.
ARG VERSION=0.0.0
RUN SETUPTOOLS_SCM_PRETEND_VERSION="$VERSION" \
    python -m pip wheel --no-deps --no-build-isolation --wheel-dir dist . \
    && python -m pip --python /opt/orderstream/bin/python install --no-deps --no-index dist/*.whl

FROM base
LABEL org.opencontainers.image.title="orderstream" \
      org.opencontainers.image.description="Orders as a stream of events on Apache Kafka" \
      org.opencontainers.image.licenses="Apache-2.0"
RUN useradd --uid 10001 --no-create-home --home-dir /tmp --shell /usr/sbin/nologin orderstream
COPY --from=build /opt/orderstream /opt/orderstream
COPY --chmod=755 deploy/healthy.py /usr/local/bin/healthy
ENV PATH="/opt/orderstream/bin:$PATH" \
    PYTHONUNBUFFERED=1 \
    PYTHONDONTWRITEBYTECODE=1 \
    ORDERSTREAM_HOST=0.0.0.0 \
    ORDERSTREAM_HOME=/tmp/orderstream
# A module of your own for `orderstream run`, and a `.env`, are looked for here.
WORKDIR /orderstream
# By number, so that Kubernetes can tell that it is not root.
USER 10001:10001
EXPOSE 8080 8082 8083 8084 8085 8086
# The order service's. For another one, give its port: --health-cmd 'healthy 8082'.
HEALTHCHECK --interval=15s --timeout=5s --start-period=30s --retries=3 CMD ["healthy", "8080"]
ENTRYPOINT ["orderstream"]
CMD ["serve", "order"]
