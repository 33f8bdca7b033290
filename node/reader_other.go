//go:build !linux

package node

import (
	"context"
	"encoding/json"
	"fmt"
)

// ask does it in this process: only Linux has a name for the running program, and only there
// do children die with their parent.
func ask(_ context.Context, r request, _ int, take func(json.RawMessage) error) (err error) {
	defer func() {
		if p := recover(); p != nil {
			err = &errReader{fmt.Sprintf("cannot read it: %v", p), false}
		}
	}()
	return tasks[r.Task](r, func(value any) error {
		content, err := json.Marshal(value)
		if err != nil {
			return err
		}
		return take(content)
	})
}
