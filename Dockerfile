# Solstice in an image of its own, to build a node's image from: COPY the chain's binary to
# $DAEMON_HOME/cosmovisor/genesis/bin/$DAEMON_NAME, and mount a volume at $DAEMON_HOME. The binary comes from make build.
#
#   make build && docker build -t solstice .
#
# A whole network to practise with: solstice simulate --docker DIR.
FROM scratch
COPY bin/solstice /usr/local/bin/solstice
# Programs expect a folder for temporary files and a home.
WORKDIR /tmp
WORKDIR /root
ENV HOME=/root
ENTRYPOINT ["/usr/local/bin/solstice"]
CMD ["run", "start"]
