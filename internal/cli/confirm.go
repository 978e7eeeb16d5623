package cli

import (
	"bufio"
	"errors"
	"strings"

	"github.com/spf13/cobra"
)

// yesFlag adds --yes to a command that asks.
func yesFlag(cmd *cobra.Command, yes *bool) {
	cmd.Flags().BoolVar(yes, "yes", false, "do not ask, even if traffic is cut off")
}

// confirm asks before something that carries traffic is taken away. Where
// nobody can answer, it refuses: silence is no consent.
func (a *app) confirm(yes bool, what string) error {
	switch {
	case yes:
		return nil
	case !a.Interactive:
		return errors.New(what + "; nobody can be asked here: give --yes if that is meant")
	}
	if err := write(a.Err, clean(what)+". Go on? [y/N] "); err != nil {
		return err
	}
	answer, err := bufio.NewReader(a.In).ReadString('\n')
	if err != nil && answer == "" {
		return errors.New("no answer: nothing was changed")
	}
	switch strings.ToLower(strings.TrimSpace(answer)) {
	case "y", "yes":
		return nil
	}
	return errors.New("nothing was changed")
}
