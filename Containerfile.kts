# The image of the whole kts, for a pod that runs it: `kts run --on k8s` as a CronJob, say. It builds no images; WORKER
# is the one whose pods it starts, and EXTRA that one's variant. `kts k8s image --full` builds, tags and loads both.
# The packages are a layer of their own, which images of other sources share.
ARG BASE=docker.io/library/python:3.12-slim

FROM ${BASE} AS packages
COPY requirements/kts.txt /requirements/
# A command begins in a second, not in ten: the root is read-only, so no pod could keep what it compiles. Packages' own
# tests are left out, and some files are templates that do not compile.
RUN python3 -m pip install --no-cache-dir --no-compile --disable-pip-version-check --require-hashes \
        --target /site -r /requirements/kts.txt \
    && { python3 -m compileall -q -j 0 -x '/tests?/' -s /site -p /opt/kts --invalidation-mode unchecked-hash /site \
        > /dev/null || true; }

FROM packages AS own
ARG BASE
COPY src/kts /own/kts
# There is no git in the image: what it measures says by this which commit it is.
ARG REVISION=
RUN printf '%s\n' "${REVISION}" > /own/kts/revision.txt
# What was installed, as it is; not what was asked for.
RUN PYTHONPATH=/own:/site PYTHONDONTWRITEBYTECODE=1 python3 -m kts.k8s.pod.sbom /site "${BASE}" > /own/sbom.json
RUN python3 -m compileall -q -s /own -p /opt/kts --invalidation-mode unchecked-hash /own/kts \
    && mkdir /own/bin && printf '#!/bin/sh\nexec python3 -m kts "$@"\n' > /own/bin/kts && chmod 755 /own/bin/kts
# So that `kts k8s image --prune` knows what an engine keeps of this stage.
ARG CONTENT=unknown
LABEL dev.kts.content="${CONTENT}"

FROM ${BASE}
COPY --from=packages /site /opt/kts
# Run directories are made here by default: the place for a volume.
RUN mkdir -m 1777 /runs
COPY --from=own /own /opt/kts
ARG BASE
ARG EXTRA
ARG WORKER
ARG CONTENT=unknown
LABEL org.opencontainers.image.title="kts" \
      org.opencontainers.image.description="Kube-Timeslice-Profiler: runs, reports and gates within a cluster" \
      org.opencontainers.image.licenses="Apache-2.0" \
      org.opencontainers.image.base.name="${BASE}" \
      dev.kts.content="${CONTENT}" \
      dev.kts.extra="${EXTRA}" \
      dev.kts.worker="${WORKER}" \
      dev.kts.sbom="/opt/kts/sbom.json"
ENV PATH=/opt/kts/bin:$PATH PYTHONPATH=/opt/kts PYTHONDONTWRITEBYTECODE=1 PYTHONUNBUFFERED=1 \
    HOME=/tmp NUMBA_CACHE_DIR=/tmp/numba KTS_WORKER_IMAGE=${WORKER} KTS_EXTRA=${EXTRA}
USER 10001:10001
WORKDIR /
ENTRYPOINT ["kts"]
