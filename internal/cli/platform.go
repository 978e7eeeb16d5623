package cli

import (
	"fmt"
	"strings"

	"github.com/spf13/cobra"

	"github.com/postern-net/postern"
	"github.com/postern-net/postern/internal/platformfile"
)

func (a *app) platform() *cobra.Command {
	return group("platform", "Show and check platform files",
		`A platform file says what the platform is: its domains, its global segments and their regions with
the endpoint service and Availability Zone IDs of each, its apps, and what a cutover cuts off.
These commands read files on this machine and need no API.`,
		"  postern platform show > platform.yaml\n  postern platform validate platform.yaml",
		a.platformShow(), a.platformValidate())
}

func (a *app) platformShow() *cobra.Command {
	return &cobra.Command{
		Use:   "show [NAME]",
		Short: "Print a built-in platform, or a file, in full",
		Long: `Show prints a platform as a platform file: a built-in one by its name, or a file by its path.
Without a name it prints the built-in one. The output is a good start for a file of your own.

Built in: ` + comma(platformfile.BuiltinNames()) + ".",
		Example: "  postern platform show\n  postern platform show immuta -o json\n  postern platform show ./platform.yaml",
		Args:    takes("[NAME]"),
		RunE: func(cmd *cobra.Command, args []string) error {
			names := platformfile.BuiltinNames()
			switch {
			case len(args) > 0:
				names = args
			case len(names) > 1:
				return usagef(cmd, "NAME is missing: one of %s", comma(names))
			}
			p, err := platformfile.Load(names[0])
			if err != nil {
				return err
			}
			file, err := platformfile.Marshal(p)
			if err != nil {
				return err
			}
			return a.print(p, func() string { return string(file) })
		},
		ValidArgs: platformfile.BuiltinNames(),
	}
}

// validation is what "platform validate" prints about a file that is good.
type validation struct {
	File     string `json:"file"`
	Platform string `json:"platform"`
	Segments int    `json:"segments"`
	Regions  int    `json:"regions"`
	Apps     int    `json:"apps"`
}

func (a *app) platformValidate() *cobra.Command {
	return &cobra.Command{
		Use:   "validate FILE",
		Short: "Check a platform file",
		Long: `Validate reads a platform file as strictly as "postern serve" does and prints every problem that it
finds, with its line and column. Unknown keys, duplicates and Availability Zone names in place of IDs
are problems.`,
		Example: "  postern platform validate platform.yaml",
		Args:    takes("FILE"),
		RunE: func(_ *cobra.Command, args []string) error {
			p, err := platformfile.Load(args[0])
			if err != nil {
				return err
			}
			v := validation{File: args[0], Platform: p.Name, Segments: len(p.Segments), Regions: len(p.RegionIDs()), Apps: len(p.Apps)}
			return a.print(v, func() string {
				return clean(fmt.Sprintf("%s: platform %s is valid: %s", v.File, v.Platform, strings.Join([]string{
					count(v.Segments, "segment"), count(v.Regions, "region"), count(v.Apps, "app"),
				}, ", "))) + "\n" + apps(p)
			})
		},
	}
}

func apps(p *postern.Platform) string {
	var b block
	b.add("Tenants' hosts", p.Host("TENANT"))
	b.add("In the customer's DNS", p.PrivateLinkHost("TENANT"))
	for _, app := range p.Apps {
		if !app.PerTenant() {
			b.add(app.Title, app.Hosts...)
		}
	}
	return b.text()
}

func count(n int, noun string) string {
	if n == 1 {
		return "1 " + noun
	}
	return fmt.Sprintf("%d %ss", n, noun)
}
