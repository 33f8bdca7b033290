package main

import (
	"cmp"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"unicode/utf8"

	"github.com/spf13/cobra"
	"github.com/spf13/pflag"
)

// manCommand writes the manual that the packages install. Nobody else needs it.
func manCommand() *cobra.Command {
	return &cobra.Command{
		Use:    "man DIR",
		Short:  "Write the manual pages of all commands into a folder that exists",
		Hidden: true,
		Args:   usage(cobra.ExactArgs(1)),
		RunE: func(cmd *cobra.Command, args []string) error {
			return writeManual(cmd.Root(), args[0])
		},
	}
}

// writeManual writes the page of a command and those of the commands below it.
func writeManual(cmd *cobra.Command, dir string) error {
	path := filepath.Join(dir, manName(cmd)+".1")
	if err := os.WriteFile(path, []byte(manPage(cmd)), 0o644); err != nil {
		return err
	}
	for _, c := range documented(cmd) {
		if err := writeManual(c, dir); err != nil {
			return err
		}
	}
	return nil
}

// documented are the commands below a command that have a page: not those that cobra adds.
func documented(cmd *cobra.Command) (commands []*cobra.Command) {
	for _, c := range cmd.Commands() {
		if c.IsAvailableCommand() && c.Name() != "help" && c.Name() != "completion" {
			commands = append(commands, c)
		}
	}
	return commands
}

func manName(cmd *cobra.Command) string { return strings.ReplaceAll(cmd.CommandPath(), " ", "-") }

// manPage is a command's page in the language of man(7).
func manPage(cmd *cobra.Command) string {
	var text strings.Builder
	_, when := origin()
	day, _, _ := strings.Cut(when, "T")
	fmt.Fprintf(&text, ".TH %q 1 %q %q \"Solstice\"\n", strings.ToUpper(manName(cmd)), day, "solstice "+ownVersion())
	fmt.Fprintf(&text, ".SH NAME\n%s \\- %s\n", roff(manName(cmd)), roff(cmd.Short))
	fmt.Fprintf(&text, ".SH SYNOPSIS\n.nf\n\\fB%s\\fR\n.fi\n", roff(cmd.UseLine()))
	text.WriteString(".SH DESCRIPTION\n")
	manText(&text, cmp.Or(cmd.Long, cmd.Short+"."))
	if cmd.Example != "" {
		text.WriteString(".SH EXAMPLES\n.nf\n" + roff(cmd.Example) + "\n.fi\n")
	}
	manFlags(&text, "OPTIONS", cmd.NonInheritedFlags())
	manFlags(&text, "OPTIONS OF ALL COMMANDS", cmd.InheritedFlags())
	if below := documented(cmd); len(below) > 0 {
		text.WriteString(".SH COMMANDS\n")
		for _, c := range below {
			fmt.Fprintf(&text, ".TP\n\\fB%s\\fR(1)\n%s\n", roff(manName(c)), roff(c.Short))
		}
	}
	if cmd.HasParent() {
		fmt.Fprintf(&text, ".SH SEE ALSO\n\\fB%s\\fR(1)\n", roff(manName(cmd.Parent())))
	}
	return text.String()
}

// manText writes paragraphs. What is indented keeps its lines.
func manText(text *strings.Builder, long string) {
	asIs := false
	for line := range strings.Lines(strings.TrimSpace(long)) {
		line = strings.TrimRight(line, "\n")
		switch indented := strings.HasPrefix(line, "  "); {
		case line == "":
			text.WriteString(".PP\n")
			continue
		case indented && !asIs:
			text.WriteString(".nf\n")
			asIs = true
		case !indented && asIs:
			text.WriteString(".fi\n")
			asIs = false
		}
		text.WriteString(roff(line) + "\n")
	}
	if asIs {
		text.WriteString(".fi\n")
	}
}

func manFlags(text *strings.Builder, title string, flags *pflag.FlagSet) {
	flags.VisitAll(func(f *pflag.Flag) {
		if f.Hidden || f.Name == "help" {
			return
		}
		if title != "" {
			text.WriteString(".SH " + title + "\n")
			title = ""
		}
		value, about := pflag.UnquoteUsage(f)
		names := `\fB` + roff("--"+f.Name) + `\fR`
		if f.Shorthand != "" {
			names = `\fB` + roff("-"+f.Shorthand) + `\fR, ` + names
		}
		switch {
		case f.NoOptDefVal != "" && f.Value.Type() != "bool":
			names += `[=\fI` + roff(value) + `\fR]`
		case value != "":
			names += ` \fI` + roff(value) + `\fR`
		}
		switch f.DefValue {
		case "", "false", "0", "0s", "[]":
		default:
			about += " (default " + f.DefValue + ")"
		}
		fmt.Fprintf(text, ".TP\n%s\n%s\n", names, roff(about))
	})
}

// roff is text as man(7) prints it unchanged: no line is taken for a command of its own, and a hyphen can be copied.
func roff(text string) string {
	var lines []string
	for line := range strings.Lines(text) {
		line = strings.NewReplacer(`\`, `\e`, "-", `\-`, "'", `\(aq`).Replace(line)
		if strings.HasPrefix(line, ".") {
			line = `\&` + line
		}
		lines = append(lines, line)
	}
	out := strings.Join(lines, "")
	if utf8.RuneCountInString(out) == len(out) {
		return out
	}
	var ascii strings.Builder
	for _, r := range out {
		if r < utf8.RuneSelf {
			ascii.WriteRune(r)
		} else {
			fmt.Fprintf(&ascii, `\[u%04X]`, r)
		}
	}
	return ascii.String()
}
