//go:build !linux

package node

import "net"

// holds can't be told on a system without Linux's /proc.
func holds(int, net.Conn) (bool, error) { return false, errNoProcess }
