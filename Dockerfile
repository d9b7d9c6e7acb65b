# One image for `tasker db migrate`, `tasker worker` and `tasker coordinator`.
FROM python:3.13-slim AS build
WORKDIR /src
COPY . .
RUN pip wheel --no-cache-dir --no-deps --wheel-dir /wheels .

FROM python:3.13-slim
ENV PYTHONUNBUFFERED=1
RUN useradd --system --create-home --home-dir /srv/tasker tasker
COPY constraints.txt /tmp/constraints.txt
RUN --mount=type=bind,from=build,source=/wheels,target=/wheels \
    pip install --no-cache-dir -c /tmp/constraints.txt /wheels/*.whl && rm /tmp/constraints.txt
USER tasker
WORKDIR /srv/tasker
ENTRYPOINT ["tasker"]
CMD ["--help"]
