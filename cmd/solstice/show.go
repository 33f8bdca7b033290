package main

import (
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"path/filepath"
	"reflect"
	"strings"
	"text/tabwriter"
	"time"

	"github.com/spf13/cobra"

	"solstice"
	"solstice/artifact"
	"solstice/upgrade"
)

func configCommand(configPath *string) *cobra.Command {
	var asJSON func() (bool, error)
	cmd := &cobra.Command{
		Use:   "config",
		Short: "Print every setting, its value and where it comes from",
		Args:  usage(cobra.NoArgs),
		RunE: func(cmd *cobra.Command, _ []string) error {
			json, err := asJSON()
			if err != nil {
				return err
			}
			c, fault := loadChecked(*configPath)
			if json {
				err = c.printJSON(cmd.OutOrStdout())
			} else {
				err = c.printText(cmd.OutOrStdout())
			}
			return errors.Join(err, fault) // after what there is to see
		},
	}
	asJSON = outputFlag(cmd)
	return cmd
}

func (c *Config) printText(out io.Writer) error {
	w := tabwriter.NewWriter(out, 0, 0, 2, ' ', 0)
	fmt.Fprintln(w, "Configurable Values:")
	for name, field := range c.settings() {
		fmt.Fprintf(w, "  %s: %s\t(%s)\n", name, show(field.Value), c.origins[name])
	}
	home := c.home(nil)
	fmt.Fprintln(w, "Derived Values:")
	for _, d := range []struct{ label, value string }{
		{"Root Dir", home.Root()}, {"Upgrade Dir", home.Upgrades()}, {"Genesis Bin", home.Binary(solstice.Genesis)},
		{"Node Home", home.Node + " (" + home.NodeFrom + ")"},
		{"Monitored File", home.PlanFile()}, {"Data Backup Dir", c.BackupDir}, {"State Dir", home.StateDir},
	} {
		fmt.Fprintf(w, "%17s: %s\n", d.label, d.value)
	}
	for _, key := range c.unknown {
		fmt.Fprintf(w, "No such setting: %s (%s)\n", key, c.file)
	}
	return w.Flush()
}

func (c *Config) printJSON(w io.Writer) error {
	type value struct {
		Value  string `json:"value"`
		Origin string `json:"origin"`
	}
	values := map[string]value{}
	for name, field := range c.settings() {
		values[name] = value{show(field.Value), c.origins[name]}
	}
	return printJSON(w, values)
}

// printJSON prints a document that people can read too.
func printJSON(w io.Writer, document any) error {
	enc := json.NewEncoder(w)
	enc.SetIndent("", "  ")
	return enc.Encode(document)
}

func show(v reflect.Value) string {
	if d, ok := v.Interface().(time.Duration); ok {
		return shortDuration(d)
	}
	return artifact.Redact(fmt.Sprint(v.Interface()))
}

// shortDuration is 1m for what time.Duration calls 1m0s.
func shortDuration(d time.Duration) string {
	text := d.String()
	if strings.HasSuffix(text, "m0s") {
		text = strings.TrimSuffix(text, "0s")
	}
	if strings.HasSuffix(text, "h0m") {
		text = strings.TrimSuffix(text, "0m")
	}
	return text
}

func showUpgradeInfoCommand(configPath *string) *cobra.Command {
	return &cobra.Command{
		Use:   "show-upgrade-info",
		Short: "Print the plan file that the node wrote, and the plans that you added",
		Args:  usage(cobra.NoArgs),
		RunE: func(cmd *cobra.Command, _ []string) error {
			c, err := loadChecked(*configPath)
			if err != nil {
				return err
			}
			home := c.home(nil)
			w := cmd.OutOrStdout()
			switch content, err := solstice.ReadFile(home.PlanFile(), solstice.MaxPlanSize); {
			case errors.Is(err, fs.ErrNotExist):
				fmt.Fprintln(w, "No upgrade info found at", home.PlanFile())
			case errors.Is(err, solstice.ErrNotFile):
				return &solstice.RefusedError{Reason: err.Error()}
			case err != nil:
				return err
			default:
				fmt.Fprintf(w, "%s\n", content)
			}
			manual, err := upgrade.ReadManual(home)
			for _, p := range manual {
				fmt.Fprintf(w, "added by hand: %s, binary in %s\n", p.Plan, filepath.Join("cosmovisor", home.UpgradeDir(p.Name)))
			}
			return err
		},
	}
}
