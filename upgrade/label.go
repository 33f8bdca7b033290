package upgrade

import (
	"solstice"
	"solstice/artifact"
	"solstice/node"
	"solstice/snapshot"
)

// LabelStopped says what a snapshot that no upgrade takes is of. The node is stopped: its databases are read.
func LabelStopped(home solstice.Home, settings node.Settings) (label snapshot.Label, err error) {
	facts, err := Gather(home, Live{}, nil)
	if err != nil {
		return label, err
	}
	label.Dir, label.Under = facts.Link.Dir, facts.Under()
	if committed := node.ReadHeights(home, settings).Committed; committed.Err == nil {
		label.Height = committed.Height
	}
	if label.Dir != "" {
		label.Digest, err = artifact.Digest(home.Binary(label.Dir))
	}
	return label, err
}
