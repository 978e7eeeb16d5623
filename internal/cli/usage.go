package cli

import (
	"fmt"
	"slices"
	"strings"

	"github.com/spf13/cobra"
)

// usageError is a command line that cannot mean anything: exit status 2.
type usageError struct{ message string }

func (e *usageError) Error() string { return e.message }

// usagef says what is wrong with a command line and where its help is.
func usagef(cmd *cobra.Command, format string, args ...any) error {
	return &usageError{fmt.Sprintf(format, args...) + `; see "` + cmd.CommandPath() + ` --help"`}
}

// settle is usagef without a command: a setting is missing.
func settlef(format string, args ...any) error {
	return &usageError{fmt.Sprintf(format, args...)}
}

// noSuchCommand is for commands that only hold others.
func noSuchCommand(cmd *cobra.Command, args []string) error {
	if len(args) == 0 {
		return nil
	}
	hint := `; see "` + cmd.CommandPath() + ` --help"`
	if near := cmd.SuggestionsFor(args[0]); len(near) > 0 {
		hint = `; did you mean "` + near[0] + `"?`
	}
	return &usageError{fmt.Sprintf(`no command %q in "%s"%s`, args[0], cmd.CommandPath(), hint)}
}

// takes checks the number of arguments: each name is one, and a last name that
// ends with … stands for one or more, one in brackets for one or none.
func takes(names ...string) cobra.PositionalArgs {
	least, most := len(names), len(names)
	if least > 0 {
		switch last := names[least-1]; {
		case strings.HasSuffix(last, "…"):
			most = 1 << 20
		case strings.HasPrefix(last, "["):
			least--
		}
	}
	return func(cmd *cobra.Command, args []string) error {
		switch {
		case len(args) < least:
			return usagef(cmd, "%s is missing", strings.TrimSuffix(names[len(args)], "…"))
		case len(args) > most:
			return usagef(cmd, "%q is one argument too many", args[most])
		}
		for i, a := range args {
			if a == "" {
				return usagef(cmd, "%s is empty", strings.TrimSuffix(names[min(i, len(names)-1)], "…"))
			}
		}
		return nil
	}
}

func joined(args []string) string { return strings.Join(args, " ") }

// oneOf refuses a command line without any of the flags.
func oneOf(cmd *cobra.Command, flags ...string) {
	also(cmd, func(cmd *cobra.Command) error {
		if slices.ContainsFunc(flags, func(f string) bool { return given(cmd, f) }) {
			return nil
		}
		return usagef(cmd, "--%s is missing", strings.Join(flags, " or --"))
	})
}

// notBoth refuses a command line with two flags that contradict each other.
func notBoth(cmd *cobra.Command, one, other string) {
	also(cmd, func(cmd *cobra.Command) error {
		if given(cmd, one) && given(cmd, other) {
			return usagef(cmd, "--%s and --%s do not go together", one, other)
		}
		return nil
	})
}

func given(cmd *cobra.Command, flag string) bool {
	f := cmd.Flags().Lookup(flag)
	return f != nil && f.Changed && f.Value.String() != ""
}

// also adds a check to those of a command's arguments.
func also(cmd *cobra.Command, check func(*cobra.Command) error) {
	before := cmd.Args
	cmd.Args = func(cmd *cobra.Command, args []string) error {
		if err := before(cmd, args); err != nil {
			return err
		}
		return check(cmd)
	}
}

// strict makes what cobra finds wrong with the command lines of others' commands
// the usage errors that they are.
func strict(cmds []*cobra.Command) {
	for _, c := range cmds {
		before := c.Args
		c.Args = func(cmd *cobra.Command, args []string) error {
			if before != nil {
				if err := before(cmd, args); err != nil {
					return usagef(cmd, "%v", err)
				}
			}
			if err := cmd.ValidateRequiredFlags(); err != nil {
				return usagef(cmd, "%v", err)
			}
			if err := cmd.ValidateFlagGroups(); err != nil {
				return usagef(cmd, "%v", err)
			}
			return nil
		}
		strict(c.Commands())
	}
}
