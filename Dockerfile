# One image for every role: the command chooses (`worker selector`, `evaluate`, `fleet`, ...).
FROM python:3.12-slim

WORKDIR /app
# The dependencies come before the source, so that an edit rebuilds seconds and not gigabytes.
COPY requirements.lock ./
RUN pip install --no-cache-dir --require-hashes -r requirements.lock

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
RUN for role in selector aggregator privacy registrar shard evaluator; do \
        install --directory --owner fedlog --mode 1777 /var/lib/fedlog-keys/$role; \
    done
ENV HOME=/var/lib/fedlog PYTHONUNBUFFERED=1
USER fedlog
WORKDIR /var/lib/fedlog

ENTRYPOINT ["fedlog"]
CMD ["--help"]
