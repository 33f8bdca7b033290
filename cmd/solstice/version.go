package main

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"time"

	"github.com/spf13/cobra"

	"solstice/artifact"
	"solstice/node"
)

func versionCommand(configPath *string) *cobra.Command {
	var output string
	var only bool
	cmd := &cobra.Command{
		Use:   "version",
		Short: "Print the versions of solstice and of the node's binary in use",
		RunE: func(cmd *cobra.Command, args []string) error {
			asJSON := output == "json"
			if only && asJSON {
				return printVersions(cmd, nil)
			}
			if !asJSON {
				fmt.Fprintln(cmd.OutOrStdout(), "solstice version:", describeVersion())
			}
			if only {
				return nil
			}
			c, err := loadChecked(*configPath)
			if err != nil {
				return err
			}
			if !asJSON {
				return c.execute(node.CommandLine{Args: append([]string{"version"}, args...)})
			}
			app, err := appVersion(cmd.Context(), c)
			if err != nil {
				return err
			}
			return printVersions(cmd, app)
		},
	}
	cmd.Flags().StringVarP(&output, "output", "o", "text", "text or json")
	cmd.Flags().BoolVar(&only, "cosmovisor-only", false, "leave out the node's version")
	return cmd
}

// describeVersion is the version, and where it comes from if that is known. The version is its first word: scripts cut it out.
func describeVersion() string {
	revision, when := origin()
	if revision == "" {
		return ownVersion()
	}
	return fmt.Sprintf("%s (commit %.12s of %s)", ownVersion(), revision, when)
}

// printVersions prints one JSON document with Cosmovisor's keys and ours.
func printVersions(cmd *cobra.Command, app json.RawMessage) error {
	revision, when := origin()
	return json.NewEncoder(cmd.OutOrStdout()).Encode(struct {
		Cosmovisor string          `json:"cosmovisor_version"`
		Solstice   string          `json:"solstice_version"`
		Commit     string          `json:"solstice_commit,omitempty"`
		Date       string          `json:"solstice_date,omitempty"` // of the commit
		App        json.RawMessage `json:"app_version,omitempty"`
	}{ownVersion(), ownVersion(), revision, when, app})
}

// versionLimit is how long the node's binary may take to tell its version.
const versionLimit = 20 * time.Second

// appVersion asks the node's binary. Old ones print to stderr.
func appVersion(ctx context.Context, c *Config) (json.RawMessage, error) {
	binary, err := binaryInUse(c.home(nil))
	if err != nil {
		return nil, err
	}
	ctx, cancel := context.WithTimeoutCause(ctx, versionLimit, fmt.Errorf("not done after %v", versionLimit))
	defer cancel()
	var stdout, stderr bytes.Buffer
	app := exec.CommandContext(ctx, binary, "version", "--long", "--output", "json")
	app.Env = artifact.Environ(binary)
	app.Stdout, app.Stderr, app.WaitDelay = &stdout, &stderr, time.Second
	err = app.Run()
	for _, printed := range [][]byte{stdout.Bytes(), stderr.Bytes()} {
		if printed = bytes.TrimSpace(printed); err == nil && json.Valid(printed) {
			return printed, nil
		}
	}
	switch {
	case err == nil:
		err = errors.New("what it printed is not JSON")
	case ctx.Err() != nil:
		err = context.Cause(ctx) // which has killed it
	}
	os.Stderr.Write(stderr.Bytes())
	return nil, fmt.Errorf("%s version --long --output json: %w", binary, err)
}
