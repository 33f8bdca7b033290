package unit

import "path/filepath"

// folders are three unit folders below a root, in the place of those of a machine.
func folders(root string) []string {
	return []string{filepath.Join(root, "control"), filepath.Join(root, "etc"), filepath.Join(root, "lib")}
}

const gaiad = "[Service]\nExecStart=/bin/cosmovisor run start\nEnvironment=DAEMON_NAME=gaiad\n"

func sets(text string) string { return "[Service]\nEnvironment=" + text + "\n" }

// layout is a situation on disk, and what systemd makes of it: see also TestAsSystemdReads,
// which asks it.
type layout struct {
	name    string
	files   map[string]string
	unit    string
	command string // its words after the specifiers, separated by |
	env     string // Environment= alone: NAME=VALUE, separated by |
	dropIns string // their paths below the root, in order, separated by blanks
	wantErr string
}

var layouts = []layout{
	{name: "plain", files: map[string]string{"etc/g.service": gaiad}, unit: "g", command: "/bin/cosmovisor|run|start", env: "DAEMON_NAME=gaiad"},
	{name: "missing", unit: "g", wantErr: "no unit g.service"},
	{
		name:    "first folder wins",
		files:   map[string]string{"etc/g.service": gaiad, "lib/g.service": "[Service]\nExecStart=/other\n"},
		unit:    "g",
		command: "/bin/cosmovisor|run|start",
		env:     "DAEMON_NAME=gaiad",
	},
	{
		name: "drop-ins are read by their names, wherever they are",
		files: map[string]string{
			"lib/g.service":          gaiad,
			"lib/g.service.d/9.conf": sets("A=lib"),
			"etc/g.service.d/5.conf": sets("A=etc B=etc"),
		},
		unit:    "g",
		command: "/bin/cosmovisor|run|start",
		env:     "A=lib|B=etc|DAEMON_NAME=gaiad",
		dropIns: "etc/g.service.d/5.conf lib/g.service.d/9.conf",
	},
	{
		name:    "an empty drop-in hides one of its name",
		files:   map[string]string{"lib/g.service": gaiad, "lib/g.service.d/1.conf": sets("A=lib"), "etc/g.service.d/1.conf": ""},
		unit:    "g",
		command: "/bin/cosmovisor|run|start",
		env:     "DAEMON_NAME=gaiad",
		dropIns: "etc/g.service.d/1.conf",
	},
	{
		name:    "a drop-in that is /dev/null hides one of its name",
		files:   map[string]string{"lib/g.service": gaiad, "lib/g.service.d/1.conf": sets("A=lib"), "etc/g.service.d/1.conf": "->/dev/null"},
		unit:    "g",
		command: "/bin/cosmovisor|run|start",
		env:     "DAEMON_NAME=gaiad",
		dropIns: "etc/g.service.d/1.conf",
	},
	{
		name:    "a drop-in that leads nowhere hides one of its name",
		files:   map[string]string{"lib/g.service": gaiad, "lib/g.service.d/1.conf": sets("A=lib"), "etc/g.service.d/1.conf": "->/no/such/file"},
		unit:    "g",
		command: "/bin/cosmovisor|run|start",
		env:     "DAEMON_NAME=gaiad",
		dropIns: "etc/g.service.d/1.conf",
	},
	{
		name: "drop-ins of the name up to a dash, the longest first",
		files: map[string]string{
			"etc/gaiad-hub-1.service":           gaiad,
			"etc/gaiad-.service.d/a.conf":       sets("A=short B=short C=short"),
			"etc/gaiad-hub-.service.d/a.conf":   sets("A=long"),
			"etc/gaiad-hub-.service.d/b.conf":   sets("B=long"),
			"etc/gaiad-hub-1.service.d/c.conf":  sets("C=own"),
			"etc/gaiad.service.d/no.conf":       sets("NO=1"),
			"etc/gaiad-other-.service.d/o.conf": sets("NO=2"),
		},
		unit:    "gaiad-hub-1",
		command: "/bin/cosmovisor|run|start",
		env:     "A=long|B=long|C=own|DAEMON_NAME=gaiad",
		dropIns: "etc/gaiad-hub-.service.d/a.conf etc/gaiad-hub-.service.d/b.conf etc/gaiad-hub-1.service.d/c.conf",
	},
	{
		name: "the folder counts before the length of the name",
		files: map[string]string{
			"lib/gaiad-hub.service":          gaiad,
			"lib/gaiad-hub.service.d/a.conf": sets("A=own-in-lib"),
			"etc/gaiad-.service.d/a.conf":    sets("A=prefix-in-etc"),
		},
		unit:    "gaiad-hub",
		command: "/bin/cosmovisor|run|start",
		env:     "A=prefix-in-etc|DAEMON_NAME=gaiad",
		dropIns: "etc/gaiad-.service.d/a.conf",
	},
	{
		name: "drop-ins of all services come last",
		files: map[string]string{
			"lib/g.service":            gaiad,
			"control/service.d/a.conf": sets("A=all"),
			"control/service.d/b.conf": sets("B=all"),
			"lib/g.service.d/a.conf":   sets("A=own"),
		},
		unit:    "g",
		command: "/bin/cosmovisor|run|start",
		env:     "A=own|B=all|DAEMON_NAME=gaiad",
		dropIns: "lib/g.service.d/a.conf control/service.d/b.conf",
	},
	{
		name: "an instance of a template",
		files: map[string]string{
			"etc/gaiad@.service":             "[Service]\nExecStart=/x --home /srv/%i\nEnvironment=DAEMON_HOME=/srv/%i P=%p N=%N F=%n\n",
			"etc/gaiad@hub.service.d/1.conf": sets("A=own"),
			"etc/gaiad@.service.d/1.conf":    sets("A=template"),
			"etc/gaiad@.service.d/2.conf":    sets("B=template"),
		},
		unit:    "gaiad@hub",
		command: "/x|--home|/srv/hub",
		env:     "A=own|B=template|DAEMON_HOME=/srv/hub|F=gaiad@hub.service|N=gaiad@hub|P=gaiad",
		dropIns: "etc/gaiad@hub.service.d/1.conf etc/gaiad@.service.d/2.conf",
	},
	{
		name: "an instance with a dash in its template's name",
		files: map[string]string{
			"etc/cosmos-gaiad@.service":        "[Service]\nExecStart=/x\n",
			"etc/cosmos-@hub.service.d/a.conf": sets("A=1"),
			"etc/cosmos-@.service.d/b.conf":    sets("B=1"),
			"etc/cosmos-.service.d/c.conf":     sets("C=1"),
		},
		unit:    "cosmos-gaiad@hub",
		command: "/x",
		env:     "A=1|B=1|C=1",
		dropIns: "etc/cosmos-@hub.service.d/a.conf etc/cosmos-@.service.d/b.conf etc/cosmos-.service.d/c.conf",
	},
	{
		name:    "an instance with a file of its own",
		files:   map[string]string{"etc/g@.service": "[Service]\nExecStart=/template\n", "lib/g@a.service": "[Service]\nExecStart=/own\n"},
		unit:    "g@a",
		command: "/own",
	},
	{
		name:    "an escaped instance",
		files:   map[string]string{"etc/g@.service": "[Service]\nExecStart=/x %i %I %f\n"},
		unit:    `g@srv-a\x2db`,
		command: `/x|srv-a\x2db|srv/a-b|/srv/a-b`,
	},
	{
		name:    "names in pieces",
		files:   map[string]string{"etc/a-b.service": "[Service]\nExecStart=/x %p %P %j %J %f\n"},
		unit:    "a-b",
		command: "/x|a-b|a/b|b|b|/a/b",
	},
	{
		name: "an alias",
		files: map[string]string{
			"etc/g.service":                  gaiad,
			"etc/validator.service":          "->g.service",
			"etc/validator.service.d/1.conf": sets("A=alias"),
			"etc/g.service.d/1.conf":         sets("A=own"),
			"etc/validator.service.d/2.conf": sets("B=%n"),
		},
		unit:    "g",
		command: "/bin/cosmovisor|run|start",
		env:     "A=own|B=g.service|DAEMON_NAME=gaiad",
		dropIns: "etc/g.service.d/1.conf etc/validator.service.d/2.conf",
	},
	{
		name:    "an alias of a template",
		files:   map[string]string{"etc/g@.service": "[Service]\nExecStart=/x %i\n", "etc/v@.service": "->g@.service", "etc/v@a.service.d/1.conf": sets("A=1")},
		unit:    "g@a",
		command: "/x|a",
		env:     "A=1",
		dropIns: "etc/v@a.service.d/1.conf",
	},
	{
		name:    "a unit that is kept elsewhere",
		files:   map[string]string{"home/my.service": gaiad, "etc/g.service": "->ROOT/home/my.service"},
		unit:    "g",
		command: "/bin/cosmovisor|run|start",
		env:     "DAEMON_NAME=gaiad",
	},
	{
		name:    "a symlink to the unit of the same name is passed",
		files:   map[string]string{"lib/g.service": gaiad, "etc/g.service": "->ROOT/lib/g.service"},
		unit:    "g",
		command: "/bin/cosmovisor|run|start",
		env:     "DAEMON_NAME=gaiad",
	},
	{name: "masked by /dev/null", files: map[string]string{"etc/g.service": "->/dev/null", "lib/g.service": gaiad}, unit: "g", wantErr: "masked"},
	{name: "masked by an empty file", files: map[string]string{"etc/g.service": "", "lib/g.service": gaiad}, unit: "g", wantErr: "masked"},
	{
		name: "empty assignments reset",
		files: map[string]string{
			"etc/g.service":          gaiad + "User=gaia\n",
			"etc/g.service.d/1.conf": "[Service]\nExecStart=\nExecStart=/new run start\nEnvironment=\nEnvironment=A=1\nUser=\n",
		},
		unit:    "g",
		command: "/new|run|start",
		env:     "A=1",
		dropIns: "etc/g.service.d/1.conf",
	},
	{
		name:    "a continued line with a comment in it",
		files:   map[string]string{"etc/g.service": "[Service]\nExecStart=/bin/cosmovisor \\\n# why\n; and why\n  run \\\n\tstart\n"},
		unit:    "g",
		command: "/bin/cosmovisor|run|start",
	},
	{
		name:    "a line that ends with an escaped backslash is not continued",
		files:   map[string]string{"etc/g.service": "[Service]\nEnvironment=A=b\\\\\nExecStart=/x\n"},
		unit:    "g",
		command: "/x",
		env:     `A=b\`,
	},
	{
		name:    "a comment that ends with a backslash is not continued",
		files:   map[string]string{"etc/g.service": "[Service]\n# no \\\nExecStart=/x\n"},
		unit:    "g",
		command: "/x",
	},
	{
		name:    "lines of Windows, and blanks around the equals sign",
		files:   map[string]string{"etc/g.service": "[Service]\r\nExecStart = /x  run\r\nEnvironment =A=1\r\n"},
		unit:    "g",
		command: "/x|run",
		env:     "A=1",
	},
	{
		name:    "other sections",
		files:   map[string]string{"etc/g.service": "[Unit]\nExecStart=/no\n[Service]\nExecStart=/yes\n[X-Mine]\nExecStart=/no\n[Install]\nExecStart=/no\n"},
		unit:    "g",
		command: "/yes",
	},
	{
		name:    "quotes and escapes",
		files:   map[string]string{"etc/g.service": "[Service]\nExecStart=/x 'a b' \"c'd\" e\\x20f --moniker=\"g  h\" \\u00e9\\101\\t. \\;\nEnvironment=\"A=b c\" 'D=e f' G=\\x41 H=\"i\"j\n"},
		unit:    "g",
		command: "/x|a b|c'd|e f|--moniker=g  h|éA\t.|;",
		env:     "A=b c|D=e f|G=A|H=ij",
	},
	{
		name:    "an escape that systemd does not know stays in a command, and ends a list of variables",
		files:   map[string]string{"etc/g.service": "[Service]\nExecStart=/x a\\qb\nEnvironment=A=1 B=\\q C=1\n"},
		unit:    "g",
		command: `/x|a\qb`,
		env:     "A=1",
	},
	{
		name:    "what is no variable is ignored",
		files:   map[string]string{"etc/g.service": "[Service]\nExecStart=/x\nEnvironment=\"A=1\" # <-- a note\nEnvironment=1B=2 C-D=3 E\n"},
		unit:    "g",
		command: "/x",
		env:     "A=1",
	},
	{
		name:    "percent signs",
		files:   map[string]string{"etc/g.service": "[Service]\nExecStart=/x 100%% 5%/s 7%\nEnvironment=A=%%i\n"},
		unit:    "g",
		command: "/x|100%|5%/s|7%",
		env:     "A=%i",
	},
	{
		name:    "folders and the manager's user, whatever User= says",
		files:   map[string]string{"etc/g.service": "[Service]\nUser=daemon\nExecStart=/x %t %S %C %L %E %T %V %U %u %g %G\n"},
		unit:    "g",
		command: "/x|/run|/var/lib|/var/cache|/var/log|/etc|/tmp|/var/tmp|0|root|root|0",
	},
	{
		name:    "flags before the program",
		files:   map[string]string{"etc/g.service": "[Service]\nExecStart=-!/x $A ${B}\n"},
		unit:    "g",
		command: "/x|$A|${B}",
	},
	{
		name:    "the section is continued after another file",
		files:   map[string]string{"etc/g.service": gaiad, "etc/g.service.d/1.conf": "Environment=A=1\n[Service]\nEnvironment=B=1\n"},
		unit:    "g",
		command: "/bin/cosmovisor|run|start",
		env:     "B=1|DAEMON_NAME=gaiad",
		dropIns: "etc/g.service.d/1.conf",
	},
	{
		name:    "hidden files and other suffixes are no drop-ins",
		files:   map[string]string{"etc/g.service": gaiad, "etc/g.service.d/.a.conf": sets("A=1"), "etc/g.service.d/b.conf.bak": sets("B=1")},
		unit:    "g",
		command: "/bin/cosmovisor|run|start",
		env:     "DAEMON_NAME=gaiad",
	},
	{
		name:    "a folder of drop-ins may be a symlink",
		files:   map[string]string{"etc/g.service": gaiad, "elsewhere/1.conf": sets("A=1"), "etc/g.service.d": "->ROOT/elsewhere"},
		unit:    "g",
		command: "/bin/cosmovisor|run|start",
		env:     "A=1|DAEMON_NAME=gaiad",
		dropIns: "etc/g.service.d/1.conf",
	},
}
