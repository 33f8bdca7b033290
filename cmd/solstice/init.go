package main

import (
	"bufio"
	"errors"
	"fmt"
	"io/fs"
	"log/slog"
	"os"
	"path/filepath"
	"strings"
	"time"

	"github.com/pelletier/go-toml/v2"
	"github.com/spf13/cobra"

	"solstice"
	"solstice/artifact"
	"solstice/internal/durable"
)

func initCommand(configPath *string) *cobra.Command {
	return &cobra.Command{
		Use:   "init PATH",
		Short: "Lay out the folder cosmovisor/ with the binary at PATH as the first one",
		Long: `Lay out DAEMON_HOME/cosmovisor: copy the binary at PATH to genesis/bin, unless one is there, make the current link,
and write config.toml. What is there already is kept. Needs DAEMON_HOME and DAEMON_NAME only.`,
		Args: usage(cobra.ExactArgs(1)),
		RunE: func(cmd *cobra.Command, args []string) error {
			c, err := loadConfig(*configPath)
			if err != nil {
				return err
			}
			if err := joinRefusals(c.checkNames()); err != nil {
				return err
			}
			if err := checkInitBinary(args[0]); err != nil {
				return err
			}
			return initialize(cmd, c, newLog(c, os.Stderr), args[0])
		},
	}
}

func checkInitBinary(path string) error {
	if path == "" {
		return &solstice.RefusedError{Reason: "no path to an executable was given", Hint: "solstice init PATH"}
	}
	if info, err := os.Stat(path); err == nil && info.IsDir() {
		return &solstice.RefusedError{Reason: "the path to the executable must not be a directory: " + path}
	}
	if err := artifact.Check(path); err != nil {
		return &solstice.RefusedError{Reason: "executable: " + err.Error()}
	}
	return nil
}

func initialize(cmd *cobra.Command, c *Config, log *slog.Logger, binary string) error {
	home := c.home(nil)
	target := home.Binary(solstice.Genesis)

	log.Info("checking on the genesis/bin directory")
	dir := filepath.Dir(target)
	switch info, err := os.Stat(dir); {
	case err == nil && info.IsDir():
		log.Info(fmt.Sprintf("the %q directory already exists", dir))
	case err == nil:
		return fmt.Errorf("the path %q already exists but is not a directory", dir)
	default:
		log.Info(fmt.Sprintf("creating directory (and any parents): %q", dir))
		if err := durable.MkdirAll(dir, 0o750); err != nil {
			return err
		}
	}

	log.Info("checking on the genesis/bin executable")
	if err := initBinary(log, binary, target); err != nil {
		return err
	}

	log.Info("checking on the current symlink and creating it if needed")
	link, err := home.Current()
	if err == nil && link.Missing() {
		link = solstice.Link{Dir: solstice.Genesis}
		err = durable.Symlink(link.Dir, home.CurrentLink())
	}
	if err == nil && link.Dir == "" {
		err = &solstice.RefusedError{Reason: "the current link can't be used: " + link.Fault, Hint: "move it away: mv " + home.CurrentLink() + " " + home.CurrentLink() + ".old"}
	}
	if err != nil {
		return err
	}
	log.Info(fmt.Sprintf("the current symlink points to: %q", home.Binary(link.Dir)))
	return writeConfigFile(cmd, c, log, filepath.Join(home.Root(), "config.toml"))
}

func initBinary(log *slog.Logger, binary, target string) error {
	switch info, err := os.Stat(target); {
	case errors.Is(err, fs.ErrNotExist):
		log.Info(fmt.Sprintf("copying executable into place: %q", target))
		temp := durable.TempName(target)
		if err := durable.CopyFile(binary, temp, 0o755); err != nil {
			return errors.Join(err, os.RemoveAll(temp))
		}
		if err := durable.Rename(temp, target); err != nil {
			return errors.Join(err, os.RemoveAll(temp))
		}
	case err != nil:
		return err
	case !info.Mode().IsRegular():
		return fmt.Errorf("%s is not a regular file", target)
	default:
		log.Info(fmt.Sprintf("the %q file already exists", target))
	}
	log.Info(fmt.Sprintf("making sure %q is executable", target))
	return artifact.MakeExecutable(target)
}

// fileOrder is the order in which Cosmovisor writes its settings. It reads no others.
var fileOrder = []string{
	"DAEMON_HOME", "DAEMON_NAME", "DAEMON_ALLOW_DOWNLOAD_BINARIES", "DAEMON_DOWNLOAD_MUST_HAVE_CHECKSUM",
	"DAEMON_RESTART_AFTER_UPGRADE", "DAEMON_RESTART_DELAY", "DAEMON_SHUTDOWN_GRACE", "DAEMON_POLL_INTERVAL",
	"UNSAFE_SKIP_BACKUP", "DAEMON_DATA_BACKUP_DIR", "DAEMON_PREUPGRADE_MAX_RETRIES", "DAEMON_GRPC_ADDRESS",
	"COSMOVISOR_DISABLE_LOGS", "COSMOVISOR_COLOR_LOGS", "COSMOVISOR_TIMEFORMAT_LOGS", "COSMOVISOR_CUSTOM_PREUPGRADE",
	"COSMOVISOR_DISABLE_RECASE",
}

// writeConfigFile writes the settings as Cosmovisor writes and reads them. A file that is there is replaced only
// after a yes.
func writeConfigFile(cmd *cobra.Command, c *Config, log *slog.Logger, path string) error {
	if _, err := os.Stat(path); err == nil {
		fmt.Fprintf(cmd.OutOrStdout(), "file %s already exists, do you want to overwrite it? [y/n]: ", path)
		answer, _ := bufio.NewReader(cmd.InOrStdin()).ReadString('\n')
		fmt.Fprintln(cmd.OutOrStdout())
		if !strings.EqualFold(strings.TrimSpace(answer), "y") {
			log.Info("file already exists, not overriding", "path", path)
			return nil
		}
	}
	fields := map[string]any{}
	for name, field := range c.settings() {
		switch value := field.Interface().(type) {
		case time.Duration:
			fields[name] = int64(value)
		case timeFormat:
			fields[name] = ""
			for _, f := range timeFormats {
				if f.layout == string(value) {
					fields[name] = f.name
				}
			}
		default:
			fields[name] = value
		}
	}
	var content []byte
	for _, name := range fileOrder {
		line, err := toml.Marshal(map[string]any{strings.ToLower(name): fields[name]})
		if err != nil {
			return err
		}
		content = append(content, line...)
	}
	if err := durable.WriteFile(path, content, 0o644); err != nil {
		return err
	}
	log.Info("cosmovisor config.toml created at: " + path)
	return nil
}
