package unit

import (
	"os"
	"os/user"
	"path/filepath"
	"strings"
	"testing"
)

// TestEnvironment: where a variable comes from, what wins, and what cannot be told.
func TestEnvironment(t *testing.T) {
	me, err := user.Current()
	if err != nil {
		t.Fatal(err)
	}
	for _, tt := range []struct {
		name    string
		unit    string
		files   map[string]string
		want    map[string]string // - is not set, ? cannot be told
		wantErr string
		hidden  string
	}{
		{
			name:  "a file wins over the unit, and the last file over the others",
			unit:  "EnvironmentFile=ROOT/a.env\nEnvironmentFile=ROOT/b.env\nEnvironment=A=unit B=unit C=unit\n",
			files: map[string]string{"a.env": "A=a\nB=a\n", "b.env": "A=b\n"},
			want:  map[string]string{"A": "b", "B": "a", "C": "unit", "D": "-"},
		},
		{
			name:  "a pattern",
			unit:  "EnvironmentFile=ROOT/env.d/*.env\n",
			files: map[string]string{"env.d/2.env": "A=2\n", "env.d/1.env": "A=1\nB=1\n", "env.d/.3.env": "A=3\n", "env.d/4.txt": "A=4\n"},
			want:  map[string]string{"A": "2", "B": "1"},
		},
		{name: "a file that may be missing", unit: "EnvironmentFile=-ROOT/none\nEnvironment=A=1\n", want: map[string]string{"A": "1", "B": "-"}},
		{name: "a file that must not be missing", unit: "EnvironmentFile=ROOT/none\n", wantErr: "g.service: EnvironmentFile=: open"},
		{name: "a pattern without files", unit: "EnvironmentFile=ROOT/*.env\n", wantErr: "systemd would not start the service"},
		{name: "a relative path is ignored", unit: "EnvironmentFile=none.env\n", want: map[string]string{"A": "-"}},
		{
			name:   "a file that cannot be read hides what it may set, and not what a later one sets",
			unit:   "Environment=A=unit\nEnvironmentFile=-ROOT\nEnvironmentFile=ROOT/b.env\n",
			files:  map[string]string{"b.env": "B=b\n"},
			want:   map[string]string{"A": "?", "B": "b", "C": "?"},
			hidden: "EnvironmentFile=",
		},
		{
			name:   "a comment that systemd reads by its version",
			unit:   "EnvironmentFile=ROOT/a.env\n",
			files:  map[string]string{"a.env": "# note \\\nA=1\n"},
			want:   map[string]string{"A": "?"},
			hidden: "depends on the version of systemd",
		},
		{
			name:  "a comment that ends with a backslash before another comment",
			unit:  "EnvironmentFile=ROOT/a.env\n",
			files: map[string]string{"a.env": "# note \\\n# more\nA=1\n"},
			want:  map[string]string{"A": "1"},
		},
		{
			name: "taken from systemd",
			unit: "PassEnvironment=A B\nEnvironment=B=unit\n",
			want: map[string]string{"A": "?", "B": "unit", "PATH": "?"},
		},
		{
			name:  "taken out",
			unit:  "Environment=A=1 B=1 C=1\nUnsetEnvironment=A B=1 C=2\nPassEnvironment=D\nUnsetEnvironment=D\n",
			want:  map[string]string{"A": "-", "B": "-", "C": "1", "D": "-"},
			files: nil,
		},
		{
			name: "a specifier that cannot be told is unknown for its variable alone",
			unit: "Environment=A=%c B=%n\n",
			want: map[string]string{"A": "?", "B": "g.service"},
		},
		{
			name: "the user's",
			unit: "User=" + me.Username + "\n",
			want: map[string]string{"USER": me.Username, "LOGNAME": me.Username, "HOME": strings.TrimSuffix(me.HomeDir, "/"), "SHELL": "?"},
		},
		{name: "without a user there is no home", want: map[string]string{"HOME": "-", "USER": "-"}},
		{name: "a user that is not known here", unit: "User=no-such-user\n", want: map[string]string{"HOME": "?"}},
		{
			name: "folders that systemd makes",
			unit: "StateDirectory=gaia %n/x\nLogsDirectory=gaia\n",
			want: map[string]string{"STATE_DIRECTORY": "/var/lib/gaia:/var/lib/g.service/x", "LOGS_DIRECTORY": "/var/log/gaia", "CACHE_DIRECTORY": "-"},
		},
		{
			name: "what systemd sets for all services",
			unit: "Environment=A=unit\n",
			files: map[string]string{
				"etc/systemd/system.conf":              "[Manager]\nDefaultEnvironment=A=all B=main \"C=x y\"\n",
				"usr/lib/systemd/system.conf":          "[Manager]\nDefaultEnvironment=NO=1\n",
				"run/systemd/system.conf.d/1.conf":     "[Manager]\nDefaultEnvironment=B=run\n",
				"etc/systemd/system.conf.d/2.conf":     "[Manager]\nDefaultEnvironment=D=%H\n",
				"usr/lib/systemd/system.conf.d/1.conf": "[Manager]\nDefaultEnvironment=B=lib\n",
			},
			want: map[string]string{"A": "unit", "B": "run", "C": "x y", "D": "?", "NO": "-"},
		},
	} {
		t.Run(tt.name, func(t *testing.T) {
			root := place(t, tt.files)
			if err := os.WriteFile(filepath.Join(root, "g.service"), []byte(strings.ReplaceAll("[Service]\n"+tt.unit, "ROOT", root)), 0o644); err != nil {
				t.Fatal(err)
			}
			s, err := Units{Folders: []string{root}, Root: root}.Load("g")
			if err != nil {
				t.Fatal(err)
			}
			e, err := s.Environment()
			if tt.wantErr != "" {
				if err == nil || !strings.Contains(err.Error(), tt.wantErr) {
					t.Errorf("%v, want %q", err, tt.wantErr)
				}
				return
			}
			if err != nil {
				t.Fatal(err)
			}
			for name, want := range tt.want {
				value, ok, err := e.Get(name)
				got := value
				switch {
				case err != nil:
					got = "?"
				case !ok:
					got = "-"
				}
				if got != want {
					t.Errorf("%s is %q, %v, want %q", name, got, err, want)
				}
			}
			if hidden := e.Hidden(); (hidden != nil) != (tt.hidden != "") || hidden != nil && !strings.Contains(hidden.Error(), tt.hidden) {
				t.Errorf("hidden: %v, want %q", hidden, tt.hidden)
			}
		})
	}
}
