package node

import (
	"context"

	"google.golang.org/protobuf/encoding/protowire"
)

// Applied returns the height at which the chain applied a plan of this name, or 0 if its
// node knows of none (cosmos.upgrade.v1beta1.Query/AppliedPlan, in every SDK since v0.40).
func (c *Client) Applied(ctx context.Context, name string) (height int64, err error) {
	request := protowire.AppendString(protowire.AppendTag(nil, 1, protowire.BytesType), name)
	answer, err := c.query(ctx, "/cosmos.upgrade.v1beta1.Query/AppliedPlan", request, maxAnswer)
	if err != nil {
		return 0, err
	}
	return number(answer, 1)
}
