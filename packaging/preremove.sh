#!/bin/sh
# The name cosmovisor goes with the package, if it was given. An upgrade of the package keeps it: dpkg says upgrade, rpm says 1.
set -e
case "$1" in
remove | deconfigure | 0)
	if command -v update-alternatives >/dev/null; then
		update-alternatives --remove cosmovisor /usr/bin/solstice || true
	fi
	;;
esac
