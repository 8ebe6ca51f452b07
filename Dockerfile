# llama-gene with its pinned packages.
#   docker build -t llama-gene .
#   docker build -t llama-gene:cuda --build-arg BASE=nvidia/cuda:12.8.1-devel-ubuntu24.04 .
#   docker run --rm -v "$PWD/runs:/gene/runs" llama-gene quickstart
#   docker run --rm --gpus all -v "$PWD/runs:/gene/runs" llama-gene:cuda pretrain --recipe runs/my.yaml
# Any Debian or Ubuntu base with Python 3.11 or newer will do. g++ is for DeepSpeed's kernels and torch.compile.
ARG BASE=python:3.11-slim-bookworm
FROM ${BASE}
ARG EXTRAS=web,serving,harness,qlora,gguf,tracking
ENV DEBIAN_FRONTEND=noninteractive PATH=/opt/llama-gene/bin:$PATH
RUN apt-get update \
    && apt-get install -y --no-install-recommends g++ git mmseqs2 \
    && if ! command -v python3 >/dev/null || ! python3 -c 'import ensurepip'; then \
           apt-get install -y --no-install-recommends python3 python3-dev python3-venv; fi \
    && rm -rf /var/lib/apt/lists/*
WORKDIR /opt/source
COPY . .
RUN python3 -m venv /opt/llama-gene \
    && python3 -c 'import sys; sys.exit(sys.version_info < (3, 11) and "Python 3.11 or newer is needed; choose another BASE")' \
    && /opt/llama-gene/bin/pip install --no-cache-dir -c constraints.txt ".[${EXTRAS}]"
WORKDIR /gene
ENTRYPOINT ["llama-gene"]
CMD ["--help"]
