package main

import (
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"log/slog"
	"os"
	"path/filepath"
	"reflect"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/pelletier/go-toml/v2"

	"solstice"
	"solstice/artifact"
	"solstice/node"
	"solstice/sidecar"
	"solstice/signstate"
	"solstice/snapshot"
	"solstice/upgrade"
)

// Config is every setting. What the comments say is the manual: docs/settings.md is made from them.
//
// Each setting comes from the environment, else from the configuration file under the same name in lower case, else from
// its default. The file is the one given with --cosmovisor-config (-c), else DAEMON_HOME/cosmovisor/solstice.toml if it
// exists. Booleans are true or false; durations are written like 300ms, 5s or 1m, and 0s means none.
//
//go:generate go test . -run TestSettingsPage -update
type Config struct {
	// Home is the folder with cosmovisor/ in it. An absolute path; required. The node's own home is its --home, else NAME_HOME,
	// else its binary's default, else this folder: give the node the same one.
	Home string `env:"DAEMON_HOME"`
	// Name is the file name of the node's binary. Required.
	Name string `env:"DAEMON_NAME"`
	// AllowDownload lets the binary of a plan be downloaded, as soon as the chain has scheduled the plan, from where
	// its info says. Without it, solstice prepare-upgrade does it by hand.
	AllowDownload bool `env:"DAEMON_ALLOW_DOWNLOAD_BINARIES" default:"false"`
	// MustHaveChecksum refuses downloads whose address has no checksum. Without it, one by https needs none.
	MustHaveChecksum bool `env:"DAEMON_DOWNLOAD_MUST_HAVE_CHECKSUM" default:"false"`
	// RestartAfterUpgrade starts the new binary after the switch. Without it Solstice ends with 0 there.
	RestartAfterUpgrade bool `env:"DAEMON_RESTART_AFTER_UPGRADE" default:"true"`
	// RestartDelay is waited for between the old binary's end and everything that follows.
	RestartDelay time.Duration `env:"DAEMON_RESTART_DELAY" default:"0s"`
	// Grace is how long a node may take to stop for an upgrade before it is killed. A node that is killed may have to
	// replay its last blocks. 0s kills at once.
	Grace time.Duration `env:"DAEMON_SHUTDOWN_GRACE" default:"1m"`
	// Poll is how often the plan file is looked at, as the net below the file system's events. 0s means events only.
	Poll time.Duration `env:"DAEMON_POLL_INTERVAL" default:"300ms"`
	// SkipBackup upgrades without a snapshot: without a way back.
	SkipBackup bool `env:"UNSAFE_SKIP_BACKUP" default:"false"`
	// BackupDir is where snapshots go. An absolute path of an existing directory. On the filesystem of data/ a snapshot
	// is made of links or clones. On another one it is taken near data/ first, and copied while the node runs.
	// Defaults to DAEMON_HOME.
	BackupDir string `env:"DAEMON_DATA_BACKUP_DIR"`
	// PreUpgradeRetries is how often a pre-upgrade command that ends with 31 is tried again.
	PreUpgradeRetries int `env:"DAEMON_PREUPGRADE_MAX_RETRIES" default:"0"`
	// GRPC is the node's gRPC address, such as localhost:9090. It is asked for the height and the plan where the node's
	// CometBFT RPC, whose address is found without a setting, gives no usable answer. If another node answers there, its
	// answer is refused.
	GRPC string `env:"DAEMON_GRPC_ADDRESS"`
	// DisableLogs leaves out all log lines. Errors that end a command are printed all the same.
	DisableLogs bool `env:"COSMOVISOR_DISABLE_LOGS" default:"false"`
	// ColorLogs colours the log on a terminal, unless NO_COLOR is set.
	ColorLogs bool `env:"COSMOVISOR_COLOR_LOGS" default:"true"`
	// TimeFormat is how log lines begin: layout, ansic, unixdate, rubydate, rfc822, rfc822z, rfc850, rfc1123, rfc1123z,
	// rfc3339, rfc3339nano or kitchen. Set and empty means no time.
	TimeFormat timeFormat `env:"COSMOVISOR_TIMEFORMAT_LOGS" default:"kitchen"`
	// Script is a file in the folder cosmovisor/ that is run before the switch, with the plan's name and height.
	Script string `env:"COSMOVISOR_CUSTOM_PREUPGRADE"`
	// DisableRecase takes a plan's name as it is for its directory. Else it is lower-cased first.
	DisableRecase bool `env:"COSMOVISOR_DISABLE_RECASE" default:"false"`

	// HaltWait is how long a node that has written its plan file is given to end by itself before it is told to.
	HaltWait time.Duration `env:"SOLSTICE_HALT_WAIT" default:"0s"`
	// MaxUnpacked is how many MiB an artifact may become when it is unpacked.
	MaxUnpacked int `env:"SOLSTICE_MAX_UNPACKED" default:"2048"`
	// TrustedKeys are minisign public keys, or absolute paths of files that hold one, separated by commas. If there are
	// any, what is downloaded must be signed by one of them: a .minisig beside the artifact, or beside its sums file.
	TrustedKeys string `env:"SOLSTICE_TRUSTED_KEYS"`
	// HookTimeout is how long the script and the pre-upgrade command may take; 0s is for as
	// long as they like.
	HookTimeout time.Duration `env:"SOLSTICE_HOOK_TIMEOUT" default:"10m"`
	// Restart is never, or on-failure for machines without a service manager: then a node that has ended with an error is started
	// again, after 1s, and after twice as long each time up to 1m. A new binary that ends before its first block is not. To know
	// why it ended, its stderr is then read and handed on, unless that is a terminal.
	Restart string `env:"SOLSTICE_RESTART" default:"never"`
	// RestartLimit is after how many failures in a row the node is not started again, and Solstice ends with its code. One that ran for a
	// minute starts a new row. 0 starts it again always.
	RestartLimit int `env:"SOLSTICE_RESTART_LIMIT" default:"10"`
	// StateDir is where Solstice keeps what is its own. An absolute path. Defaults to DAEMON_HOME/cosmovisor/.solstice.
	StateDir string `env:"SOLSTICE_STATE_DIR"`
	// KeepSnapshots is how many snapshots of upgrades are kept, the newest ones. One whose upgrade was not confirmed is kept
	// besides, and so are those that were taken by hand.
	KeepSnapshots int `env:"SOLSTICE_KEEP_SNAPSHOTS" default:"3"`
	// AllowOtherOwner runs a node whose data/ belongs to another user. Else that is refused: what is made there by root, the
	// node's own user can't change later.
	AllowOtherOwner bool `env:"SOLSTICE_ALLOW_OTHER_OWNER" default:"false"`
	// Switch is auto, or never for a node whose binary has its successors inside and goes over to them by itself, as Celestia's
	// does. With never the node is supervised, and its plans are shown, and noted when their height has passed. Nothing is
	// stopped, switched, downloaded or waited for at a height. A snapshot is taken only when Solstice starts the node with a
	// plan due: before that it would have to stop it.
	Switch string `env:"SOLSTICE_SWITCH" default:"auto"`
	// Supervise names the commands of the node, separated by commas, that are supervised besides start and run.
	Supervise string `env:"SOLSTICE_SUPERVISE"`
	// Sidecars is a TOML file that lists the processes that live with the node and are upgraded with it. An absolute path;
	// docs/sidecars.md says what stands in it.
	Sidecars string `env:"SOLSTICE_SIDECARS"`

	file    string            // the configuration file that was read; empty if none was
	origins map[string]string // by environment name, where the value is from
	unknown []string          // keys of the file that are no settings
	list    []sidecar.Sidecar // what the file Sidecars lists
	probes  *upgrade.Probes   // that asked the node's binary for its help; nil: it was not asked
}

// Values of Config.Switch.
const (
	switchAuto  = "auto"
	switchNever = "never"
)

// Values of Config.Restart.
const (
	restartNever     = "never"
	restartOnFailure = "on-failure"
)

// timeFormat is a Go layout, or empty for no time.
type timeFormat string

var timeFormats = []struct{ name, layout string }{
	{"layout", time.Layout}, {"ansic", time.ANSIC}, {"unixdate", time.UnixDate}, {"rubydate", time.RubyDate},
	{"rfc822", time.RFC822}, {"rfc822z", time.RFC822Z}, {"rfc850", time.RFC850}, {"rfc1123", time.RFC1123},
	{"rfc1123z", time.RFC1123Z}, {"rfc3339", time.RFC3339}, {"rfc3339nano", time.RFC3339Nano}, {"kitchen", time.Kitchen},
}

// loadConfig reads all settings. path is the configuration file that was asked for, or empty. It returns what it could
// read together with all faults, so that both can be shown.
func loadConfig(path string) (*Config, error) {
	c := &Config{origins: map[string]string{}}
	values, err := c.readFile(path)
	if err != nil {
		return c, &solstice.RefusedError{Reason: err.Error()}
	}
	var faults []error
	for name, field := range c.settings() {
		value, origin := lookUp(name, field, values)
		if origin == "file" {
			origin = c.file
		}
		c.origins[name] = origin
		if err := set(field.Value, name, value, origin); err != nil {
			faults = append(faults, err)
		}
	}
	if c.BackupDir == "" && c.Home != "" {
		c.BackupDir = c.Home
	}
	if c.StateDir == "" && c.Home != "" {
		c.StateDir = filepath.Join(c.Home, "cosmovisor", ".solstice")
	}
	if filepath.IsAbs(c.Sidecars) {
		if c.list, err = sidecar.Read(c.Sidecars); err != nil {
			for line := range strings.Lines(err.Error()) {
				faults = append(faults, fmt.Errorf("SOLSTICE_SIDECARS: %s", strings.TrimSuffix(line, "\n")))
			}
		}
	}
	return c, joinRefusals(faults)
}

// setting is one field of Config.
type setting struct {
	reflect.Value
	tag reflect.StructTag
}

// settings iterates over the fields that are settings, in their order.
func (c *Config) settings() func(yield func(string, setting) bool) {
	return func(yield func(string, setting) bool) {
		v := reflect.ValueOf(c).Elem()
		for i := range v.NumField() {
			tag := v.Type().Field(i).Tag
			if name := tag.Get("env"); name != "" && !yield(name, setting{v.Field(i), tag}) {
				return
			}
		}
	}
}

// readPipe reads a file of any kind to its end.
func readPipe(path string) ([]byte, error) {
	f, err := os.Open(path)
	if err != nil {
		return nil, err
	}
	defer f.Close()
	return io.ReadAll(io.LimitReader(f, solstice.MaxFile))
}

// readFile reads the configuration file into values by lower-cased key.
func (c *Config) readFile(path string) (map[string]any, error) {
	optional := path == ""
	if optional {
		home := os.Getenv("DAEMON_HOME")
		if home == "" {
			return nil, nil
		}
		path = filepath.Join(home, "cosmovisor", "solstice.toml")
	}
	content, err := solstice.ReadFile(path, solstice.MaxFile)
	if !optional && errors.Is(err, solstice.ErrNotFile) { // named by whoever calls us, such as <(command)
		content, err = readPipe(path)
	}
	if optional && errors.Is(err, os.ErrNotExist) {
		return nil, nil
	}
	if err != nil {
		return nil, fmt.Errorf("configuration file: %w", err)
	}
	c.file = path
	read := map[string]any{}
	switch filepath.Ext(path) {
	case ".toml", "":
		err = toml.Unmarshal(content, &read)
	case ".json":
		err = json.Unmarshal(content, &read)
	default:
		return nil, fmt.Errorf("configuration file %s: it is neither .toml nor .json", path)
	}
	if err != nil {
		return nil, fmt.Errorf("configuration file %s: %w", path, err)
	}
	values := map[string]any{}
	for key, value := range read {
		key = strings.ToLower(key)
		values[key] = value
		if !c.has(key) {
			c.unknown = append(c.unknown, key)
		}
	}
	slices.Sort(c.unknown)
	return values, nil
}

func (c *Config) has(key string) bool {
	for name := range c.settings() {
		if strings.ToLower(name) == key {
			return true
		}
	}
	return false
}

// lookUp returns a setting's value. An empty variable is as good as none, but for the time format.
func lookUp(name string, field setting, file map[string]any) (value any, origin string) {
	_, emptyCounts := field.Interface().(timeFormat)
	if text, ok := os.LookupEnv(name); ok && (text != "" || emptyCounts) {
		return text, "environment"
	}
	if value, ok := file[strings.ToLower(name)]; ok {
		return value, "file"
	}
	return field.tag.Get("default"), "default"
}

// set puts a value into a field. In a file, whole numbers are durations in nanoseconds, as Cosmovisor writes them, and
// booleans may also be 1, t and the like, as it reads them.
func set(field reflect.Value, name string, value any, origin string) error {
	text := fmt.Sprint(value)
	switch field.Interface().(type) {
	case string:
		field.SetString(text)
	case bool:
		parsed, err := strconv.ParseBool(strings.ToLower(text))
		strict := strings.EqualFold(text, "true") || strings.EqualFold(text, "false")
		if err != nil || origin == "environment" && !strict {
			return fmt.Errorf("%s must be true or false, not %q", name, text)
		}
		field.SetBool(parsed)
	case int:
		parsed, err := strconv.Atoi(text)
		if err != nil {
			return fmt.Errorf("%s must be a whole number, not %q", name, text)
		}
		field.SetInt(int64(parsed))
	case timeFormat:
		return setTimeFormat(field, name, text)
	case time.Duration:
		parsed, err := time.ParseDuration(text)
		if number, isNumber := value.(int64); isNumber {
			parsed, err = time.Duration(number), nil
		}
		if number, isNumber := value.(float64); isNumber {
			parsed, err = time.Duration(number), nil
		}
		switch {
		case err != nil:
			return fmt.Errorf("%s must be a duration such as 300ms, 5s or 1m, not %q", name, text)
		case parsed < 0:
			return fmt.Errorf("%s must not be negative: %q", name, text)
		}
		field.SetInt(int64(parsed))
	default:
		panic("setting of unknown type: " + name)
	}
	return nil
}

func setTimeFormat(field reflect.Value, name, text string) error {
	var names []string
	for _, f := range timeFormats {
		// What config shows, and what Cosmovisor writes into its file, is the layout.
		if text == f.name || text == f.layout {
			field.SetString(f.layout)
			return nil
		}
		names = append(names, f.name)
	}
	if text == "" {
		return nil
	}
	return fmt.Errorf("%s must be one of %s, or empty for no time, not %q", name, strings.Join(names, ", "), text)
}

// check says what is wrong with the settings together and with what they name. what is for a home that must exist
// already.
func (c *Config) check() error {
	faults := c.checkNames()
	var hints []string
	if filepath.IsAbs(c.Home) {
		root := c.layout().Root()
		if info, err := os.Stat(root); err != nil {
			faults = append(faults, fmt.Errorf("the folder with the binaries is missing: %w", err))
			hints = append(hints, "lay it out with: solstice init PATH-OF-THE-NODE'S-BINARY")
		} else if !info.IsDir() {
			faults = append(faults, fmt.Errorf("%s is not a directory", root))
		}
	}
	if !c.SkipBackup && c.BackupDir != "" && (c.origins["DAEMON_DATA_BACKUP_DIR"] != "default" || filepath.IsAbs(c.Home)) {
		if !filepath.IsAbs(c.BackupDir) {
			faults = append(faults, fmt.Errorf("DAEMON_DATA_BACKUP_DIR must be an absolute path, not %q", c.BackupDir))
		} else if info, err := os.Stat(c.BackupDir); err != nil {
			faults = append(faults, fmt.Errorf("DAEMON_DATA_BACKUP_DIR must exist: %w", err))
		} else if !info.IsDir() {
			faults = append(faults, fmt.Errorf("DAEMON_DATA_BACKUP_DIR must be a directory: %s", c.BackupDir))
		}
	}
	return joinRefusals(faults, hints...)
}

// checkNames checks what even a home that is not there yet needs.
func (c *Config) checkNames() (faults []error) {
	switch {
	case c.Name == "":
		faults = append(faults, errors.New("DAEMON_NAME is not set"))
	case c.Name == "." || c.Name == ".." || strings.ContainsRune(c.Name, '/'):
		faults = append(faults, fmt.Errorf("DAEMON_NAME must be a file name, not %q", c.Name))
	}
	switch {
	case c.Home == "":
		faults = append(faults, errors.New("DAEMON_HOME is not set"))
	case !filepath.IsAbs(c.Home):
		faults = append(faults, fmt.Errorf("DAEMON_HOME must be an absolute path, not %q", c.Home))
	}
	if c.MaxUnpacked <= 0 {
		faults = append(faults, fmt.Errorf("SOLSTICE_MAX_UNPACKED must be above 0: %d", c.MaxUnpacked))
	}
	if _, err := artifact.ParseKeys(c.TrustedKeys); err != nil {
		faults = append(faults, fmt.Errorf("SOLSTICE_TRUSTED_KEYS: %w", err))
	}
	if c.Switch != switchAuto && c.Switch != switchNever {
		faults = append(faults, fmt.Errorf("SOLSTICE_SWITCH must be %s or %s, not %q", switchAuto, switchNever, c.Switch))
	}
	if c.Restart != restartNever && c.Restart != restartOnFailure {
		faults = append(faults, fmt.Errorf("SOLSTICE_RESTART must be %s or %s, not %q", restartNever, restartOnFailure, c.Restart))
	}
	if c.RestartLimit < 0 {
		faults = append(faults, fmt.Errorf("SOLSTICE_RESTART_LIMIT must not be negative: %d", c.RestartLimit))
	}
	if c.Sidecars != "" && !filepath.IsAbs(c.Sidecars) {
		faults = append(faults, fmt.Errorf("SOLSTICE_SIDECARS must be the absolute path of a TOML file, not %.60q", c.Sidecars))
	}
	if c.KeepSnapshots < 0 {
		faults = append(faults, fmt.Errorf("SOLSTICE_KEEP_SNAPSHOTS must not be negative: %d", c.KeepSnapshots))
	}
	if c.StateDir != "" && !filepath.IsAbs(c.StateDir) && filepath.IsAbs(c.Home) {
		faults = append(faults, fmt.Errorf("SOLSTICE_STATE_DIR must be an absolute path, not %q", c.StateDir))
	}
	return faults
}

// store is where the snapshots of a home are.
func (c *Config) store(h solstice.Home) snapshot.Store {
	return snapshot.Store{Home: h, Dir: c.namedBackupDir()}
}

// namedBackupDir is the folder that the operator named for snapshots, or empty. Cosmovisor writes the home itself into its
// configuration, which is as good as none.
func (c *Config) namedBackupDir() string {
	if filepath.Clean(c.BackupDir) == filepath.Clean(c.Home) {
		return ""
	}
	return c.BackupDir
}

// fetcher gets artifacts as the settings allow.
func (c *Config) fetcher(log *slog.Logger) artifact.Fetcher {
	keys, _ := artifact.ParseKeys(c.TrustedKeys) // checkNames has looked at them
	return artifact.Fetcher{Keys: keys, MustHaveChecksum: c.MustHaveChecksum, MaxUnpacked: int64(c.MaxUnpacked) << 20, Log: log}
}

// guard guards what the node with these settings signs.
func guard(h solstice.Home, settings node.Settings) *signstate.Guard {
	unknown := settings.SignsUnknown()
	if errors.Is(unknown, fs.ErrNotExist) {
		unknown = nil // the node makes a configuration of defaults
	}
	return &signstate.Guard{
		Validator: signstate.Validator{
			KeyFile: settings.KeyFile, StateFile: settings.StateFile, Remote: settings.SignerAddress != "", Unknown: unknown,
		},
		Marks: signstate.OpenMarks(h),
	}
}

// loadChecked is what commands begin with that need a home.
func loadChecked(path string) (*Config, error) {
	c, err := loadConfig(path)
	if err != nil {
		return c, err
	}
	return c, c.check()
}

// joinRefusals makes one refusal out of many faults, a line each.
func joinRefusals(faults []error, hints ...string) error {
	if len(faults) == 0 {
		return nil
	}
	if len(hints) == 0 {
		hints = []string{"see all settings and where they come from: solstice config"}
	}
	return &solstice.RefusedError{Reason: errors.Join(faults...).Error(), Hint: strings.Join(hints, "\n")}
}
