# syntax=docker/dockerfile:1
# vicrop-engine on NVIDIA GPUs. The host brings the driver (CUDA 13.0 or later) and NVIDIA's container toolkit;
# CUDA's libraries and cuDNN come with the extra `gpu`, in the versions that ONNX Runtime asks for. Engines are
# built elsewhere and mounted.
#
#   docker build -t vicrop-engine .
#   docker run --rm --gpus all -v vicrop:/var/lib/vicrop vicrop-engine info
#   docker run --rm --gpus all -v vicrop:/var/lib/vicrop -v "$PWD:/data:ro" vicrop-engine \
#       ask /data/engine /data/photo.jpg "What is written on the red sign?"

FROM nvidia/cuda:13.0.2-base-ubuntu24.04 AS build
RUN apt-get update \
    && apt-get install -y --no-install-recommends python3 python3-venv \
    && rm -rf /var/lib/apt/lists/*
WORKDIR /src
COPY pyproject.toml README.md LICENSE ./
COPY engine engine
COPY export export
COPY kernels kernels
RUN python3 -m venv /opt/vicrop \
    && /opt/vicrop/bin/pip install --no-cache-dir ".[gpu]"

FROM nvidia/cuda:13.0.2-base-ubuntu24.04
# gcc and Python's headers: Triton compiles the code that launches its kernels on the machine they run on.
RUN apt-get update \
    && apt-get install -y --no-install-recommends gcc libc6-dev python3 python3-dev \
    && rm -rf /var/lib/apt/lists/* \
    && useradd --uid 10001 --create-home vicrop \
    && install --directory --owner vicrop /var/lib/vicrop
COPY --from=build /opt/vicrop /opt/vicrop
ENV PATH=/opt/vicrop/bin:${PATH} \
    LD_LIBRARY_PATH=/opt/vicrop/lib/python3.12/site-packages/nvidia/cu13/lib:/opt/vicrop/lib/python3.12/site-packages/nvidia/cudnn/lib:${LD_LIBRARY_PATH} \
    VICROP_HOME=/var/lib/vicrop \
    TRITON_CACHE_DIR=/var/lib/vicrop/triton
USER 10001
WORKDIR /var/lib/vicrop
VOLUME ["/var/lib/vicrop"]
ENTRYPOINT ["vicrop-engine"]
CMD ["info"]
