# The image of eds: the binary alone, without a PostgreSQL of its own, so it needs EDS_DATABASE_URL (see docker-compose.yml).
FROM rust:1.95-bookworm AS build
RUN apt-get update && apt-get install -y --no-install-recommends npm && rm -rf /var/lib/apt/lists/*
WORKDIR /src
# The definitions change least, so they come first: this layer stays.
COPY scripts/fetch-definitions scripts/
RUN scripts/fetch-definitions
COPY . .
RUN cargo build --release --locked --bin eds

FROM debian:bookworm-slim
RUN apt-get update && apt-get install -y --no-install-recommends ca-certificates curl && rm -rf /var/lib/apt/lists/* \
    && useradd --system --uid 10001 --no-create-home --shell /usr/sbin/nologin eds
COPY --from=build /src/target/release/eds /usr/local/bin/eds
COPY LICENSE /usr/share/doc/eds/LICENSE
USER 10001:10001
STOPSIGNAL SIGTERM
ENTRYPOINT ["/usr/local/bin/eds"]
CMD ["serve"]
