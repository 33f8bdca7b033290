#!/bin/sh
# No node is started, restarted or stopped by the package: that is for whoever runs it to decide.
set -e
if [ -z "$DPKG_ROOT" ] && [ -d /run/systemd/system ]; then
	systemctl daemon-reload || true
fi
