# Two images: `services` has the five servers, `lab` also the load generator and the tools that measure.
# Any Debian-like base with Python 3.11 or newer will do:
#   docker build --build-arg PYTHON_IMAGE=debian-with-python --target services .
# There is no RUN --mount in here, so that engines without BuildKit build it too.
ARG PYTHON_IMAGE=python:3.13-slim

# The packages at the versions of constraints.txt, and wheels only, so that nothing is ever compiled. The sources come
# into the last stages: whoever edits a model does not wait for the packages again.
FROM ${PYTHON_IMAGE} AS packages
WORKDIR /build
# Debian keeps the means to make virtual environments in a package of its own.
RUN python3 -c 'import ensurepip' 2>/dev/null || { \
      apt-get update --quiet=2 && apt-get install --quiet=2 --yes --no-install-recommends python3-venv; }
RUN python3 -m venv /venv
ENV PATH=/venv/bin:$PATH PIP_NO_CACHE_DIR=1 PIP_DISABLE_PIP_VERSION_CHECK=1 PIP_ONLY_BINARY=:all:
COPY pyproject.toml constraints.txt ./
RUN python -c 'import tomllib; print(*tomllib.load(open("pyproject.toml", "rb"))["project"]["dependencies"], sep="\n")' \
      > requirements.txt \
    && pip install --quiet --constraint constraints.txt --requirement requirements.txt

FROM packages AS packages-lab
RUN python -c 'import tomllib; print(*tomllib.load(open("pyproject.toml", "rb"))["project"]["optional-dependencies"]["tools"], sep="\n")' \
      > requirements.txt \
    && pip install --quiet --constraint constraints.txt --requirement requirements.txt \
    && pip uninstall --quiet --yes pip

# Also the packages of an application of one's own, where there is one.
FROM packages AS packages-services
ARG APP_PACKAGES=
RUN { [ -z "$APP_PACKAGES" ] || { printf '%s\n' "$APP_PACKAGES" > app.txt && pip install --quiet --requirement app.txt; }; } \
    && pip uninstall --quiet --yes pip

# What both images have in common: nobody is root, and only /state (a volume) and /tmp are written to.
FROM ${PYTHON_IMAGE} AS common
ENV PATH=/venv/bin:$PATH PYTHONUNBUFFERED=1 PYTHONDONTWRITEBYTECODE=1 HOME=/tmp
WORKDIR /lab
# A new volume takes the owner of the folder that it is mounted on.
RUN install --directory --owner=10001 --group=10001 /state
USER 10001:10001

# Whatever the modes of the checkout (umask 077), nobody but root owns these files, and everybody may read them. Its own
# stage, and no COPY --chmod, which takes BuildKit.
FROM common AS sources
USER root
COPY services services
COPY loadtests loadtests
COPY lab lab
RUN chmod -R a+rX,go-w .

FROM common AS services
COPY --from=packages-services /venv /venv
COPY --from=sources /lab/services services
ENTRYPOINT ["python", "-m", "services"]

FROM common AS lab
ENV LAB_STATE_DIR=/state
# Experiments make interfaces with `ip`, look at queues with `ss`, and some make their load with `wrk`.
USER root
RUN { command -v ip && command -v wrk; } >/dev/null || { \
      apt-get update --quiet=2 && apt-get install --quiet=2 --yes --no-install-recommends iproute2 wrk \
      && rm -rf /var/lib/apt/lists/*; }
USER 10001:10001
# Where the live page has the models' volumes: as folders of this image, they give new volumes their owner.
RUN for model in nodejs memcached ramcloud nginx reuseport; do mkdir -p "/state/models/$model"; done
COPY --from=packages-lab /venv /venv
COPY --from=sources /lab .
ENTRYPOINT ["python", "-m", "lab"]
CMD ["--help"]
