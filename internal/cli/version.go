package cli

import (
	"fmt"
	"runtime"
	"runtime/debug"

	"github.com/spf13/cobra"
)

// Build is which program this is.
type Build struct {
	Version  string `json:"version"`            // of the module; "(devel)" for a build of a checkout
	Revision string `json:"revision,omitempty"` // of the version control, with "+dirty" for a changed tree
	Time     string `json:"time,omitempty"`     // of that revision
	Go       string `json:"go"`
	Platform string `json:"platform"`
}

// ReadBuild reads what the Go tool put into the program.
func ReadBuild() Build {
	b := Build{Version: "(devel)", Go: runtime.Version(), Platform: runtime.GOOS + "/" + runtime.GOARCH}
	info, ok := debug.ReadBuildInfo()
	if !ok {
		return b
	}
	if info.Main.Version != "" {
		b.Version = info.Main.Version
	}
	for _, s := range info.Settings {
		switch s.Key {
		case "vcs.revision":
			b.Revision = s.Value[:min(12, len(s.Value))] + b.Revision
		case "vcs.time":
			b.Time = s.Value
		case "vcs.modified":
			if s.Value == "true" {
				b.Revision += "+dirty"
			}
		}
	}
	return b
}

// String is the line that "postern version" prints.
func (b Build) String() string {
	s := "postern " + b.Version
	if b.Revision != "" {
		s += fmt.Sprintf(" (%s, %s)", b.Revision, b.Time)
	}
	return s + " " + b.Go + " " + b.Platform
}

func (a *app) version() *cobra.Command {
	return &cobra.Command{
		Use:     "version",
		Short:   "Print which program this is",
		Long:    "Version prints the version of this program, the revision that it was built from, and for what. Give it with every report of a defect.",
		Example: "  postern version\n  postern version -o json",
		Args:    takes(),
		RunE: func(*cobra.Command, []string) error {
			return a.print(a.build, func() string { return a.build.String() + "\n" })
		},
	}
}
