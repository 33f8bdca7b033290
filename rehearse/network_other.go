//go:build !linux

package rehearse

// Alone is for Linux: elsewhere the nodes have their own ports and no peers.
func Alone() (ran bool, code int, network string) {
	return false, 0, "own ports on 127.0.0.1, no peers; networks of their own are for Linux"
}
