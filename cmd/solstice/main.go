// Command solstice supervises a Cosmos SDK node and carries it through the upgrades of its chain.
package main

import (
	"errors"
	"fmt"
	"io"
	"os"
	"runtime"
	"runtime/debug"
	"strings"

	"github.com/spf13/cobra"

	"solstice"
	"solstice/artifact"
	"solstice/internal/child"
	"solstice/internal/outlet"
	"solstice/supervisor"
)

// What the linker sets for a release: the version, the commit that it is built from, and the commit's time.
var version, commit, date string

func init() { runtime.LockOSThread() } // the process's first thread starts all children: child.Main

// signals reach a supervisor. Those that come while it takes another's place are caught from the first moment on.
var signals chan os.Signal

func main() {
	if supervisor.IsGiven() {
		signals = supervisor.Catch()
	}
	os.Exit(child.Main(run))
}

func run() int {
	root := newRoot()
	err := root.Execute()
	code := tell(root.ErrOrStderr(), err)
	if plain, ok := root.ErrOrStderr().(*solstice.PlainWriter); ok {
		if out, ok := plain.To.(*outlet.Outlet); ok { // of a supervisor
			out.Flush(outlet.AtEnd)
		}
	}
	return code
}

// exitError ends solstice with a code and says nothing more.
type exitError int

func (e exitError) Error() string { return fmt.Sprintf("exit status %d", int(e)) }

// codedError is an error that ends solstice with a code of its own.
type codedError struct {
	error
	code int
}

func (e codedError) Unwrap() error { return e.error }

// tell prints an error and its hints, and returns the exit code that belongs to it.
func tell(w io.Writer, err error) int {
	var exit exitError
	var refused *solstice.RefusedError
	var hinted interface{ Hints() []string }
	var coded codedError
	switch {
	case err == nil:
		return 0
	case errors.As(err, &exit):
		return int(exit)
	}
	for line := range strings.Lines(artifact.Redact(err.Error())) {
		fmt.Fprintln(w, "solstice: error:", strings.TrimRight(line, "\n"))
	}
	if errors.As(err, &refused) {
		_ = refused.Evidence.Print(w, "solstice: found: ") // else nobody is there to be told
	}
	if errors.As(err, &hinted) {
		for _, hint := range hinted.Hints() {
			fmt.Fprintln(w, "solstice: hint:", hint)
		}
	}
	switch {
	case refused != nil:
		return solstice.ExitRefused
	case errors.As(err, &coded):
		return coded.code
	}
	return solstice.ExitFailed
}

func newRoot() *cobra.Command {
	var configPath string
	root := &cobra.Command{
		Use:   "solstice",
		Short: "Supervise a Cosmos SDK node and carry it through its chain's upgrades",
		Long: `Solstice runs one Cosmos SDK node as its child. When the chain has decided to upgrade it waits for the halt, keeps a
way back, switches to the next binary and starts it. It takes the place of Cosmovisor: the same commands, settings, folders
and files.

It needs DAEMON_HOME, the folder with cosmovisor/ in it, and DAEMON_NAME, the file name of the node's binary. It watches
the file that the node writes at an upgrade's height, data/upgrade-info.json in the node's home. That is --home, else
NAME_HOME, else the binary's default. All settings, and the node's home: solstice config.

  cosmovisor/
    current -> genesis | upgrades/NAME      the binary in use
    genesis/bin/DAEMON_NAME                 the first one: solstice init PATH
    upgrades/NAME/bin/DAEMON_NAME           the next ones: solstice add-upgrade NAME PATH`,
		SilenceErrors:    true,
		SilenceUsage:     true,
		TraverseChildren: true, // so that -c FILE before run is ours, and everything after run is the node's
		RunE:             func(cmd *cobra.Command, _ []string) error { return cmd.Help() },
	}
	root.SetOut(&solstice.PlainWriter{To: os.Stdout})
	root.SetErr(&solstice.PlainWriter{To: os.Stderr})
	root.Args = func(cmd *cobra.Command, words []string) error {
		if len(words) > 0 {
			return noCommand(cmd, words)
		}
		return nil
	}
	root.SetFlagErrorFunc(func(cmd *cobra.Command, err error) error {
		if cmd == root && cmd.Flags().NArg() > 0 { // solstice start --home DIR: the word comes before its flags
			return noCommand(cmd, cmd.Flags().Args())
		}
		return refuseUsage(cmd, err)
	})
	root.SuggestionsMinimumDistance = 2 // which cobra sets itself only where it does the refusing
	root.PersistentFlags().StringVarP(&configPath, "cosmovisor-config", "c", "", "configuration `file` (default DAEMON_HOME/cosmovisor/solstice.toml, if it exists)")
	root.AddCommand(
		initCommand(&configPath), runCommand(&configPath), configCommand(&configPath), statusCommand(&configPath), planCommand(&configPath), doctorCommand(&configPath),
		addUpgradeCommand(&configPath), addBatchCommand(&configPath), cancelUpgradeCommand(&configPath), prepareUpgradeCommand(&configPath), showUpgradeInfoCommand(&configPath),
		snapshotCommand(&configPath), switchCommand(&configPath), rollbackCommand(&configPath), signStateCommand(&configPath),
		simulateCommand(), rehearseCommand(&configPath), ejectCommand(&configPath), versionCommand(&configPath), manCommand(), adoptCommand(), serviceCommand(&configPath), reloadCommand(&configPath),
	)
	return root
}

// usage makes a refusal of arguments that a command can't take.
func usage(args cobra.PositionalArgs) cobra.PositionalArgs {
	return func(cmd *cobra.Command, given []string) error {
		if err := args(cmd, given); err != nil {
			return refuseUsage(cmd, err)
		}
		return nil
	}
}

func refuseUsage(cmd *cobra.Command, err error) error {
	return &solstice.RefusedError{Reason: err.Error(), Hint: "see how it is called: " + cmd.CommandPath() + " --help"}
}

// outputFlag adds --output to a command. Its value is text or json.
func outputFlag(cmd *cobra.Command) (asJSON func() (bool, error)) {
	output := cmd.Flags().StringP("output", "o", "text", "text or json")
	return func() (bool, error) {
		if *output != "text" && *output != "json" {
			return false, refuseUsage(cmd, fmt.Errorf("--output is text or json, not %q", *output))
		}
		return *output == "json", nil
	}
}

// ownVersion is the version of this program.
func ownVersion() string {
	if version != "" {
		return version
	}
	if info, ok := debug.ReadBuildInfo(); ok && info.Main.Version != "" {
		return info.Main.Version
	}
	return "(devel)"
}

// origin is the commit that this program is built from, and the commit's time. Without either it is not known.
func origin() (revision, when string) {
	if commit != "" {
		return commit, date
	}
	if info, ok := debug.ReadBuildInfo(); ok {
		for _, s := range info.Settings {
			switch s.Key {
			case "vcs.revision":
				revision = s.Value
			case "vcs.time":
				when = s.Value
			}
		}
	}
	return revision, when
}
