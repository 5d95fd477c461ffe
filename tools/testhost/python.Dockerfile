# What images inside of test hosts are built on, in the place of python:slim, which only a registry has.
FROM flaskops-test:debian13

RUN apt-get update \
    && DEBIAN_FRONTEND=noninteractive apt-get install -y --no-install-recommends python3-venv \
    && apt-get clean \
    && rm -rf /var/lib/apt/lists/*

CMD ["python3"]
