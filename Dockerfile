# Two images. What serves (actors, gateway, page, helpers) needs no torch, no ray and no Java:
#
#   docker build --tag fedlog .
#   docker build --tag fedlog-devices --build-arg IMAGE=devices .      # evaluators, fleets, whoever makes first models
#
# `make images` runs the first one's commands in an empty environment, and trains with what is there then.
ARG IMAGE=server

FROM python:3.12-slim AS server-packages
WORKDIR /app
# The dependencies come before the source, so that an edit rebuilds seconds and not gigabytes.
COPY ops/images/server.lock ./
# A tenth of them are the packages' own tests.
RUN pip install --no-cache-dir --require-hashes -r server.lock \
    && find "$(python -c 'import sysconfig as s; print(s.get_path("purelib"))')" -type d -name tests -prune -exec rm -r {} +

FROM server-packages AS devices-packages
COPY ops/images/devices.lock ./
RUN pip install --no-cache-dir --require-hashes -r devices.lock

FROM ${IMAGE}-packages
COPY pyproject.toml ./
COPY schemas ./schemas
COPY streams ./streams
COPY actors ./actors
COPY client_agent ./client_agent
COPY ops ./ops
COPY fedlog ./fedlog
RUN pip install --no-cache-dir --no-deps --no-build-isolation --editable .

# Compose may run it as another user, whose home is the same folder.
RUN useradd --uid 1000 --no-create-home --home-dir /var/lib/fedlog fedlog \
    && install --directory --owner fedlog --mode 1777 /var/lib/fedlog
# A volume takes over the mode of the folder that it is mounted on first: one for the key file of each role.
RUN for role in selector aggregator privacy registrar rollout shard evaluator; do \
        install --directory --owner fedlog --mode 1777 /var/lib/fedlog-keys/$role; \
    done
ENV HOME=/var/lib/fedlog PYTHONUNBUFFERED=1
# By its number, so that Kubernetes sees that it is not root.
USER 1000
WORKDIR /var/lib/fedlog

ENTRYPOINT ["fedlog"]
CMD ["--help"]
