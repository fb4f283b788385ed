# syntax=docker/dockerfile:1

FROM rust:1.95-bookworm AS build
WORKDIR /build
COPY . .
RUN --mount=type=cache,target=/usr/local/cargo/registry,sharing=locked \
    --mount=type=cache,target=/build/target,sharing=locked \
    cargo build --locked --release --bin trailsync \
    && install -D -m 0755 target/release/trailsync /out/usr/bin/trailsync
# Named volumes take over owner and mode of what is here.
RUN install -D -m 0644 -t /out/usr/share/doc/trailsync LICENSE LICENSE-APACHE LICENSE-MIT config/trailsync.toml \
    && install -d -m 0755 /out/etc/trailsync \
    && install -d -m 0700 -o 65532 -g 65532 /out/var/lib/trailsync \
    && install -d -m 0750 -o 65532 -g 65532 /out/mirror

# A C library, certificates and time zones; no shell, no package manager.
FROM gcr.io/distroless/cc-debian12:nonroot
ARG VERSION=0.1.0
ARG REVISION=unknown
LABEL org.opencontainers.image.title="trailsync" \
      org.opencontainers.image.description="Mirrors AWS CloudTrail logs from somebody else's bucket" \
      org.opencontainers.image.licenses="Apache-2.0 OR MIT" \
      org.opencontainers.image.version="${VERSION}" \
      org.opencontainers.image.revision="${REVISION}" \
      org.opencontainers.image.base.name="gcr.io/distroless/cc-debian12:nonroot"
COPY --from=build /out/ /
# Everything that is written goes into these two; the root file system may be read-only.
VOLUME ["/var/lib/trailsync", "/mirror"]
USER 65532:65532
STOPSIGNAL SIGTERM
# Asks /healthz at the configured address: whether the schedulers turn, whatever AWS does.
HEALTHCHECK --interval=30s --timeout=10s --start-period=120s --retries=4 CMD ["/usr/bin/trailsync", "health"]
ENTRYPOINT ["/usr/bin/trailsync"]
# Reads /etc/trailsync/trailsync.toml where it is, and variables.
CMD ["run"]
