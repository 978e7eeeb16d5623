package cli

import (
	"io"
	"os"
	"time"

	"github.com/mattn/go-isatty"
	"github.com/spf13/cobra"
)

// IO is what a command line has to do with the world.
type IO struct {
	In       io.Reader
	Out, Err io.Writer
	Getenv   func(string) string
	// Interactive: a person reads Err and can answer on In.
	Interactive bool
}

// System is the process's own.
func System() IO {
	return IO{
		In: os.Stdin, Out: os.Stdout, Err: os.Stderr, Getenv: os.Getenv,
		Interactive: isatty.IsTerminal(os.Stdin.Fd()) && isatty.IsTerminal(os.Stderr.Fd()),
	}
}

// app is what the commands share.
type app struct {
	IO
	settings settings
	build    Build
	now      func() time.Time
}

// The groups of the first page of help.
const (
	groupCustomer = "customer"
	groupOperator = "operator"
	groupLocal    = "local"
)

// New makes the whole command. The extra ones, which run servers, come from
// packages that this one does not know; they take none of the flags that say
// where the API is.
func New(streams IO, build Build, extra ...*cobra.Command) *cobra.Command {
	a := &app{IO: streams, build: build, now: time.Now}
	root := &cobra.Command{
		Use:   "postern",
		Short: "The private door of a SaaS platform",
		Long: `Postern lets a SaaS platform's customers reach it over AWS PrivateLink only, by self-service.

A customer proves an AWS account, creates a VPC endpoint there, and claims it for tenants. Postern
checks the claim, has AWS accept the connection, and from then on lets that endpoint reach the
organization's own tenants and nothing else.

Every command that talks to the API needs its address and a token:

  --api            POSTERN_API           address, such as https://postern.example.com
  --token-file     POSTERN_TOKEN_FILE    file that holds the token's secret
                   POSTERN_TOKEN         the secret itself, where a file is not possible
  --ca-file        POSTERN_CA_FILE       PEM file of the authority that signed the API's certificate
  --organization   POSTERN_ORGANIZATION  whose things are meant, for tokens that see several

Exit status: 0 done, 1 refused or failed, 2 wrong usage.`,
		Example: `  postern account prove                              # 1. this AWS account is ours
  postern regions --tenant example                   # 2. where to create the VPC endpoint
  postern endpoint claim vpce-0d363d9ea82658bec --tenant example --wait   # 3. let it in
  postern dns example                                # 4. which records your own DNS needs
  postern tenant probe example                       # 5. prove the path
  postern cutover start example --watch              # 6. rehearse, then close the public side`,
		Version:       build.Version,
		SilenceErrors: true, // Execute prints them
		SilenceUsage:  true,
		Args:          noSuchCommand,
		RunE:          func(cmd *cobra.Command, _ []string) error { return cmd.Help() },
	}
	root.SuggestionsMinimumDistance = 2
	root.SetIn(streams.In)
	root.SetOut(streams.Out)
	root.SetErr(streams.Err)
	root.SetVersionTemplate(build.String() + "\n")
	root.SetFlagErrorFunc(func(cmd *cobra.Command, err error) error { return usagef(cmd, "%v", err) })
	root.SetUsageTemplate(usageTemplate)
	root.AddGroup(
		&cobra.Group{ID: groupCustomer, Title: "For a customer's organization:"},
		&cobra.Group{ID: groupOperator, Title: "For the platform's operators:"},
		&cobra.Group{ID: groupLocal, Title: "On this machine:"},
	)
	a.settings.flags(root)
	add(root, groupCustomer, a.whoami(), a.regions(), a.tenant(), a.account(), a.endpoint(), a.cutover(), a.dns(), a.app(), a.connections(), a.workloadToken(), a.denials(), a.events())
	add(root, groupOperator, a.organization(), a.token(), a.node(), a.plan())
	strict(extra)
	onThisMachine := append([]*cobra.Command{a.platform(), a.version()}, extra...)
	withoutAPI(onThisMachine)
	add(root, groupLocal, onThisMachine...)
	root.SetHelpCommand(help())
	root.SetHelpCommandGroupID(groupLocal)
	root.SetCompletionCommandGroupID(groupLocal)
	root.InitDefaultCompletionCmd()
	if c, _, err := root.Find([]string{"completion"}); err == nil {
		c.Short = "Print the completion script of a shell"
		c.Args = noSuchCommand
		c.RunE = func(cmd *cobra.Command, _ []string) error { return cmd.Help() }
		withoutAPI([]*cobra.Command{c})
	}
	return root
}

func add(root *cobra.Command, group string, cmds ...*cobra.Command) {
	for _, c := range cmds {
		c.GroupID = group
		root.AddCommand(c)
	}
}

// offline marks commands whose help does not list the flags of the API.
const offline = "offline"

func withoutAPI(cmds []*cobra.Command) {
	for _, c := range cmds {
		if c.Annotations == nil {
			c.Annotations = map[string]string{}
		}
		c.Annotations[offline] = "true"
		withoutAPI(c.Commands())
	}
}

// help is cobra's, but an unknown topic is an error.
func help() *cobra.Command {
	return &cobra.Command{
		Use:     "help [COMMAND]",
		Short:   "Tell about a command",
		Long:    "Help prints what a command does, its flags, and examples. It is the same as COMMAND --help.",
		Example: `  postern help endpoint claim`,
		RunE: func(cmd *cobra.Command, args []string) error {
			topic, rest, err := cmd.Root().Find(args)
			if err != nil || len(rest) > 0 {
				return usagef(cmd.Root(), "no command %q", joined(args))
			}
			topic.InitDefaultHelpFlag()
			topic.InitDefaultVersionFlag()
			return topic.Help()
		},
	}
}

// group makes a command that only holds others.
func group(use, short, long, example string, cmds ...*cobra.Command) *cobra.Command {
	g := &cobra.Command{
		Use: use, Short: short, Long: long, Example: example,
		Args: noSuchCommand,
		RunE: func(cmd *cobra.Command, _ []string) error { return cmd.Help() },

		SuggestionsMinimumDistance: 2,
	}
	g.AddCommand(cmds...)
	return g
}

// usageTemplate is cobra's own, with aligned groups, and without the API's
// flags where they do nothing.
const usageTemplate = `Usage:
{{- if .Runnable}}{{if not .HasAvailableSubCommands}}
  {{.UseLine}}{{end}}{{end}}
{{- if .HasAvailableSubCommands}}
  {{.CommandPath}} COMMAND{{end}}
{{- if .HasExample}}

Examples:
{{.Example}}{{end}}
{{- if .HasAvailableSubCommands}}{{$cmds := .Commands}}
{{- if eq (len .Groups) 0}}

Commands:
{{- range $cmds}}{{if (or .IsAvailableCommand (eq .Name "help"))}}
  {{rpad .Name 14}} {{.Short}}{{end}}{{end}}
{{- else}}{{range $group := .Groups}}

{{.Title}}
{{- range $cmds}}{{if (and (eq .GroupID $group.ID) (or .IsAvailableCommand (eq .Name "help")))}}
  {{rpad .Name 14}} {{.Short}}{{end}}{{end}}{{end}}{{end}}{{end}}
{{- if .HasAvailableLocalFlags}}

Flags:
{{.LocalFlags.FlagUsages | trimTrailingWhitespaces}}{{end}}
{{- if and .HasAvailableInheritedFlags (not (index .Annotations "offline"))}}

Flags of every command:
{{.InheritedFlags.FlagUsages | trimTrailingWhitespaces}}{{end}}
{{- if .HasAvailableSubCommands}}

"{{.CommandPath}} COMMAND --help" tells more about a command.{{end}}
`
