# syntax=docker/dockerfile:1

FROM rust:1.95-bookworm AS build
WORKDIR /build
COPY . .
RUN --mount=type=cache,target=/usr/local/cargo/registry,sharing=locked \
    --mount=type=cache,target=/build/target,sharing=locked \
    cargo build --locked --release --bin trailsync \
    && install -D -m 0755 target/release/trailsync /out/usr/bin/trailsync \
    && install -D -m 0644 -t /out/usr/share/doc/trailsync LICENSE LICENSE-APACHE LICENSE-MIT \
    && install -d -m 0700 /out/var/lib/trailsync \
    && install -d -m 0750 /out/mirror

FROM gcr.io/distroless/cc-debian12:nonroot
LABEL org.opencontainers.image.title="trailsync" \
      org.opencontainers.image.description="Mirrors AWS CloudTrail logs from somebody else's bucket" \
      org.opencontainers.image.licenses="Apache-2.0 OR MIT"
COPY --from=build --chown=65532:65532 /out/ /
# Everything that is written goes into these two; the root file system may be read-only.
VOLUME ["/var/lib/trailsync", "/mirror"]
USER 65532:65532
STOPSIGNAL SIGTERM
ENTRYPOINT ["/usr/bin/trailsync"]
CMD ["run", "--config", "/etc/trailsync/trailsync.toml"]
