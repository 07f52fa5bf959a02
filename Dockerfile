# The service: what serving needs and no more, as a user who may write nowhere but in the workspace.
#
#     docker build -t dealcast . && docker run -p 127.0.0.1:3000:3000 -v ./workspace:/workspace dealcast

FROM node:22-slim AS libraries
WORKDIR /build
COPY package.json package-lock.json ./
RUN npm ci --ignore-scripts && mkdir vendor \
    && cp node_modules/htmx.org/dist/htmx.min.js node_modules/echarts/dist/echarts.common.min.js vendor/

FROM python:3.11-slim AS build
WORKDIR /build
COPY requirements/serve.txt requirements/serve.txt
RUN python -m venv /opt/dealcast \
    && /opt/dealcast/bin/pip install --no-cache-dir --require-hashes --no-deps -r requirements/serve.txt
COPY pyproject.toml README.md LICENSE ./
COPY crm crm
COPY ledger ledger
COPY features features
COPY models models
COPY training training
COPY serving serving
COPY dealcast dealcast
COPY --from=libraries /build/vendor serving/pages/static/vendor
RUN /opt/dealcast/bin/pip install --no-cache-dir --no-deps . && /opt/dealcast/bin/python -m compileall -q /opt/dealcast

FROM python:3.11-slim
RUN apt-get update && apt-get install --yes --no-install-recommends libgomp1 && rm -rf /var/lib/apt/lists/* \
    && useradd --create-home --uid 10001 dealcast && install --directory --owner dealcast /workspace
COPY --from=build /opt/dealcast /opt/dealcast
ENV PATH=/opt/dealcast/bin:$PATH PYTHONUNBUFFERED=1 BENTOML_DO_NOT_TRACK=True DEALCAST_DRAIN_SECONDS=5
USER dealcast
WORKDIR /workspace
VOLUME /workspace
EXPOSE 3000
STOPSIGNAL SIGTERM
HEALTHCHECK --interval=15s --timeout=5s --start-period=60s --retries=3 \
    CMD ["python", "-c", "import urllib.request as r; r.urlopen('http://127.0.0.1:3000/readyz', timeout=4)"]
ENTRYPOINT ["dealcast", "--workspace", "/workspace"]
CMD ["serve", "--host", "0.0.0.0", "--port", "3000"]
