# Two images: `runtime` executes artifacts (`coreml-runtime predict`), `builder` builds recipes. Neither runs as root.
#
#     docker build --target builder -t builder .
#     docker run --rm -v "$PWD:/work" -v builder-store:/store builder recipe=digits_mobilenet
#     docker build --target runtime -t coreml-runtime .
#     docker run --rm -v "$PWD:/work" coreml-runtime predict model.mlpackage image=cat.jpg
ARG PYTHON=3.12

FROM python:${PYTHON}-slim AS base
ENV PIP_NO_CACHE_DIR=1 PIP_DISABLE_PIP_VERSION_CHECK=1 PYTHONUNBUFFERED=1 PYTHONDONTWRITEBYTECODE=1
# torch for Linux brings CUDA, 4 GB that nothing here uses. The index of its wheels for processors alone, which pytorch.org
# names under "Get started", makes slim images: --build-arg TORCH_INDEX=…
ARG TORCH_INDEX=
RUN python -m venv /opt/venv && useradd --create-home --uid 1000 user && install -d -o user -g user /work /store
ENV PATH=/opt/venv/bin:$PATH HOME=/home/user
WORKDIR /work

FROM base AS runtime-packages
ARG TORCH_INDEX
COPY constraints.txt /src/
COPY runtime /src/runtime
RUN pip install --constraint /src/constraints.txt ${TORCH_INDEX:+--extra-index-url "$TORCH_INDEX"} \
    /src/runtime

FROM runtime-packages AS builder-packages
ARG TORCH_INDEX
COPY pyproject.toml README.md LICENSE /src/
COPY builder /src/builder
COPY conf /src/conf
COPY recipes /src/recipes
RUN pip install --constraint /src/constraints.txt ${TORCH_INDEX:+--extra-index-url "$TORCH_INDEX"} \
    "/src[onnx,timm,huggingface,search]"

FROM base AS runtime
COPY --from=runtime-packages /opt/venv /opt/venv
USER user
ENTRYPOINT ["coreml-runtime"]
CMD ["--help"]

FROM base AS builder
COPY --from=builder-packages /opt/venv /opt/venv
ENV BUILDER_CACHE=/store
VOLUME /store
USER user
ENTRYPOINT ["python", "-m", "builder"]
CMD ["--help"]
