# Solstice in an image of its own, to build a node's image from: docs/install.md shows how. The binary comes from make build or
# make dist.
#
#   make build && docker build -t solstice .
#
# A whole network to practise with: solstice simulate --docker DIR.
FROM scratch
COPY bin/solstice /usr/local/bin/solstice
# Programs expect a folder for temporary files and a home. Another user than root needs its own: --tmpfs /tmp.
WORKDIR /tmp
WORKDIR /root
ENV HOME=/root
# Alive: also while an upgrade or a migration takes its time.
HEALTHCHECK --interval=30s --timeout=10s --start-period=1m --retries=3 CMD ["/usr/local/bin/solstice", "status", "--check"]
ENTRYPOINT ["/usr/local/bin/solstice"]
CMD ["run", "start"]
