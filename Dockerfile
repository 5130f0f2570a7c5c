# Runs the quickstart on a CPU. Not built by the tests.
#   docker build --tag byol_keras .
#   docker run --rm --volume "$PWD/runs:/runs" byol_keras
FROM python:3.12-slim
WORKDIR /source
COPY . .
RUN pip install --no-cache-dir ".[report,benchmarks]"
WORKDIR /
CMD ["sh", "-c", "byol-keras train --gin_file=gin/pretrain/quickstart.gin --model_dir=runs/quickstart && byol-keras benchmarks --gin_file=gin/benchmarks/knn_clothing_small.gin --model_dir=runs/quickstart"]
