package cli

import (
	"context"
	"crypto/x509"
	"errors"
	"io"
	"os"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"github.com/postern-net/postern/client"
)

// settings are the flags of every command.
type settings struct {
	api, tokenFile, caFile, organization string
	timeout                              time.Duration
	output                               format
}

func (s *settings) flags(root *cobra.Command) {
	f := root.PersistentFlags()
	f.StringVar(&s.api, "api", "", "`URL` of the API (POSTERN_API)")
	f.StringVar(&s.tokenFile, "token-file", "", "`FILE` that holds the token's secret (POSTERN_TOKEN_FILE; or POSTERN_TOKEN for the secret itself)")
	f.StringVar(&s.caFile, "ca-file", "", "PEM `FILE` of the authority that signed the API's certificate (POSTERN_CA_FILE)")
	f.StringVar(&s.organization, "organization", "", "`ID` of the organization that is meant (POSTERN_ORGANIZATION)")
	f.DurationVar(&s.timeout, "timeout", 30*time.Second, "how long one call of the API may take")
	s.output = text
	f.VarP(&s.output, "output", "o", "text for people, or json as the API answers")
	// The flag is defined in the line above, so that there is nothing to fail.
	_ = root.RegisterFlagCompletionFunc("output", cobra.FixedCompletions([]string{string(text), string(asJSON)}, cobra.ShellCompDirectiveNoFileComp))
}

// format is how results are printed.
type format string

const (
	text   format = "text"
	asJSON format = "json"
)

// String is the flag's value.
func (f *format) String() string { return string(*f) }

// Set takes text and json.
func (f *format) Set(v string) error {
	switch format(v) {
	case text, asJSON:
		*f = format(v)
		return nil
	default:
		return errors.New("use text or json")
	}
}

// Type names the value in help.
func (f *format) Type() string { return "text|json" }

// or returns a flag's value, or the environment's.
func (a *app) or(flag, variable string) string {
	if flag != "" {
		return flag
	}
	return a.Getenv(variable)
}

// askedOrganization is the organization that the caller names; "": none.
func (a *app) askedOrganization() string {
	return a.or(a.settings.organization, "POSTERN_ORGANIZATION")
}

// maxSettingFile bounds token and CA files, in bytes; a bundle of every public
// authority has a quarter of it.
const maxSettingFile = 1 << 20

// connect makes the client that the settings describe.
func (a *app) connect() (*client.Client, string, error) {
	address := a.or(a.settings.api, "POSTERN_API")
	if address == "" {
		return nil, "", settlef("no API address: set --api or POSTERN_API")
	}
	if a.settings.timeout <= 0 {
		return nil, "", settlef("--timeout %s is no time at all: give one such as 30s", a.settings.timeout)
	}
	token, err := a.secret()
	if err != nil {
		return nil, "", err
	}
	o := client.Options{Token: token, Timeout: a.settings.timeout}
	if file := a.or(a.settings.caFile, "POSTERN_CA_FILE"); file != "" {
		pem, err := readSetting(file, "CA file")
		if err != nil {
			return nil, "", err
		}
		o.CAs = x509.NewCertPool()
		if !o.CAs.AppendCertsFromPEM(pem) {
			return nil, "", settlef("the CA file %s holds no PEM certificate", file)
		}
	}
	c, err := client.New(address, o)
	if err != nil {
		return nil, "", settlef("%v", err)
	}
	return c, address, nil
}

// secret finds the token: what the command line names goes before the
// environment, and there the secret before a file.
func (a *app) secret() (string, error) {
	file := a.settings.tokenFile
	if file == "" {
		if token := strings.TrimSpace(a.Getenv("POSTERN_TOKEN")); token != "" {
			return token, checkToken(token, "POSTERN_TOKEN")
		}
		file = a.Getenv("POSTERN_TOKEN_FILE")
	}
	if file == "" {
		return "", settlef("no token: set --token-file, POSTERN_TOKEN_FILE or POSTERN_TOKEN")
	}
	b, err := readSetting(file, "token file")
	if err != nil {
		return "", err
	}
	token := strings.TrimSpace(string(b))
	return token, checkToken(token, "the token file "+file)
}

// checkToken keeps what is no token out of a header, without telling it.
func checkToken(token, from string) error {
	if token == "" {
		return settlef("%s is empty", from)
	}
	for _, r := range token {
		if r <= ' ' || r > '~' {
			return settlef("%s does not hold one token: there are blanks or other characters in it", from)
		}
	}
	return nil
}

func readSetting(file, what string) ([]byte, error) {
	f, err := os.Open(file)
	if err != nil {
		return nil, settlef("cannot read the %s %s: %s", what, file, plain(err))
	}
	defer f.Close()
	b, err := io.ReadAll(io.LimitReader(f, maxSettingFile+1))
	switch {
	case err != nil:
		return nil, settlef("cannot read the %s %s: %s", what, file, plain(err))
	case len(b) > maxSettingFile:
		return nil, settlef("the %s %s is larger than 1 MiB", what, file)
	}
	return b, nil
}

// session is a connected command: the client, and for whom.
type session struct {
	*client.Client
	app *app
}

// online runs what needs the API.
func (a *app) online(do func(ctx context.Context, s session, args []string) error) func(*cobra.Command, []string) error {
	return func(cmd *cobra.Command, args []string) error {
		c, address, err := a.connect()
		if err != nil {
			return err
		}
		defer c.Close()
		if err := do(cmd.Context(), session{Client: c, app: a}, args); err != nil {
			return &apiError{address: address, timeout: a.settings.timeout, cause: err}
		}
		return nil
	}
}

// once is online for what is done within one --timeout.
func (a *app) once(do func(ctx context.Context, s session, args []string) error) func(*cobra.Command, []string) error {
	return a.online(func(ctx context.Context, s session, args []string) error {
		ctx, cancel := context.WithTimeout(ctx, a.settings.timeout)
		defer cancel()
		return do(ctx, s, args)
	})
}

// organization is the one that is meant: named, or the token's own.
func (s session) organization(ctx context.Context) (string, error) {
	if o := s.app.askedOrganization(); o != "" {
		return o, nil
	}
	me, err := s.WhoAmI(ctx)
	if err != nil {
		return "", err
	}
	if me.Organization == "" {
		return "", settlef("no organization: set --organization or POSTERN_ORGANIZATION (the token is of none)")
	}
	return me.Organization, nil
}
