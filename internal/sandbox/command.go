package sandbox

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net/netip"
	"net/url"
	"os"
	"os/signal"
	"path/filepath"
	"syscall"
	"time"

	"github.com/spf13/cobra"

	"github.com/postern-net/postern"
	"github.com/postern-net/postern/internal/platformfile"
)

// ErrFailed is what the command returns when a step of the story failed; the
// step was reported.
var ErrFailed = errors.New("the story did not pass")

type flags struct {
	stateDir, platform, output string
	pool, scimApp              string
	https, dns                 uint16
	check                      bool
}

// Command is `postern sandbox`.
func Command(version string) *cobra.Command {
	var f flags
	cmd := &cobra.Command{
		Use:   "sandbox",
		Short: "Run the whole world on this machine: AWS's stand-in, the platform, Postern",
		Long: `Run the whole world on this machine: a stand-in for AWS with the accounts of a
vendor and of several customers, the platform's apps, and Postern between them,
wired as in production. No AWS account and no privilege is needed; connections
are real and stay on this machine's loopback addresses, or on those of --pool.

Each organization comes up connected: its account is proven, and a VPC endpoint
of it is accepted. What is where stands in sandbox.json in the state directory.
Ctrl-C stops everything; a second start with the same state continues.

With --check the story of the product is played instead, from an account that
nobody knows to bytes that only the right endpoint gets, one line per step. The
exit status is 0 if every step passed, else 1.`,
		Example: `  postern sandbox
  postern sandbox --check
  postern sandbox --state-dir ./world --https-port 8443 -o json`,
		Args: cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			ctx, stop := signal.NotifyContext(cmd.Context(), syscall.SIGINT, syscall.SIGTERM)
			defer stop()
			return f.run(ctx, cmd, version)
		},
	}
	cmd.Flags().StringVar(&f.stateDir, "state-dir", "", "where the world is kept (default: "+defaultStateDir()+"; with --check a new one that is removed)")
	cmd.Flags().StringVar(&f.platform, "platform", "immuta", "the platform: a built-in name or a file")
	cmd.Flags().Uint16Var(&f.https, "https-port", defaultHTTPS, "port of endpoints and ingresses, or else 8443; 0: any that is free")
	cmd.Flags().Uint16Var(&f.dns, "dns-port", defaultDNS, "port of the resolvers, or else 8053; 0: any that is free")
	cmd.Flags().StringVar(&f.pool, "pool", "", "the `NETWORK` that all addresses are taken from, which this machine must have (default: loopback)")
	cmd.Flags().StringVar(&f.scimApp, "scim-app", "", "the `URL` of a SCIM server on this machine, plain HTTP, that answers /scim/v2 for every tenant's app (default: a small stand-in)")
	cmd.Flags().BoolVar(&f.check, "check", false, "play the story and exit")
	cmd.Flags().StringVarP(&f.output, "output", "o", "text", "text or json")
	return cmd
}

// defaultStateDir follows the XDG base directory specification.
func defaultStateDir() string {
	base := os.Getenv("XDG_STATE_HOME")
	if base == "" {
		home, err := os.UserHomeDir()
		if err != nil {
			return "postern-sandbox"
		}
		base = filepath.Join(home, ".local", "state")
	}
	return filepath.Join(base, "postern", "sandbox")
}

func (f flags) run(ctx context.Context, cmd *cobra.Command, version string) error {
	if f.output != "text" && f.output != "json" {
		return fmt.Errorf("--output: %q is neither text nor json", f.output)
	}
	p, err := platformfile.Load(f.platform)
	if err != nil {
		return err
	}
	o := Options{Platform: p, StateDir: f.stateDir, Version: version}
	if cmd.Flags().Changed("https-port") {
		o.HTTPSPort = &f.https
	}
	if cmd.Flags().Changed("dns-port") {
		o.DNSPort = &f.dns
	}
	if f.pool != "" {
		if o.Pool, err = netip.ParsePrefix(f.pool); err != nil {
			return postern.Invalid("--pool", f.pool, "not a network", "write it as 198.18.0.0/15")
		}
	}
	if f.scimApp != "" {
		u, err := url.Parse(f.scimApp)
		if err != nil || u.Scheme != "http" || u.Host == "" || f.check {
			return postern.Invalid("--scim-app", f.scimApp, "not the URL of a server on this machine, or with --check", "write it as http://127.0.0.1:8000; the story needs the stand-in")
		}
		o.SCIMApp = u
	}
	passing := false
	if o.StateDir == "" && f.check {
		if o.StateDir, err = os.MkdirTemp("", "postern-sandbox-"); err != nil {
			return err
		}
		defer func() {
			if passing {
				_ = os.RemoveAll(o.StateDir) // a temporary directory
			}
		}()
	} else if o.StateDir == "" {
		o.StateDir = defaultStateDir()
	}
	log, err := openLog(o.StateDir)
	if err != nil {
		return err
	}
	defer log.Close()
	o.Logger = slog.New(slog.NewTextHandler(log, nil))

	s, err := Start(ctx, o)
	if err != nil {
		return err
	}
	defer s.Stop()
	say := teller{w: cmd.OutOrStdout(), json: f.output == "json"}
	for _, n := range s.Notes {
		fmt.Fprintln(cmd.ErrOrStderr(), "postern: "+n)
	}
	if f.check {
		passing = s.check(ctx, say)
		if !passing {
			return fmt.Errorf("%w; the logs are in %s", ErrFailed, s.dir)
		}
		return nil
	}
	return s.live(ctx, say)
}

func openLog(dir string) (*os.File, error) {
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return nil, fmt.Errorf("the state directory: %w", err)
	}
	return os.OpenFile(filepath.Join(dir, "sandbox.log"), os.O_CREATE|os.O_APPEND|os.O_WRONLY, 0o600)
}

// check plays the story and tells each step as it ends.
func (s *Sandbox) check(ctx context.Context, say teller) bool {
	start, steps := time.Now(), 0
	passed := s.Check(ctx, func(step Step) { steps++; say.step(step) })
	say.summary(passed, steps, time.Since(start))
	return passed
}

// live connects everybody, tells what can be tried, and waits.
func (s *Sandbox) live(ctx context.Context, say teller) error {
	starting, cancel := context.WithTimeout(ctx, time.Minute)
	defer cancel()
	var all []Connected
	err := s.Connect(starting, func(c Connected) { all = append(all, c); say.connected(c) })
	switch {
	case ctx.Err() != nil:
		return nil // stopped by a person while it was starting
	case err != nil:
		return err
	}
	say.ready(s, all)
	<-ctx.Done()
	say.line("stopping")
	return nil
}

// teller writes for a person, or one JSON object a line for a program.
type teller struct {
	w    io.Writer
	json bool
}

func (t teller) object(v any) {
	b, err := json.Marshal(v)
	if err == nil {
		fmt.Fprintln(t.w, string(b))
	}
}

func (t teller) line(text string) {
	if !t.json {
		fmt.Fprintln(t.w, text)
	}
}

func (t teller) step(s Step) {
	if t.json {
		t.object(s)
		return
	}
	mark := "ok  "
	if !s.Passed {
		mark = "FAIL"
	}
	fmt.Fprintf(t.w, "%s %7s  %-20s %s\n", mark, s.Duration.Round(time.Millisecond), s.Name, s.Title)
	if s.Detail != "" {
		fmt.Fprintf(t.w, "                                  %s\n", s.Detail)
	}
}

func (t teller) summary(passed bool, steps int, took time.Duration) {
	if t.json {
		t.object(map[string]any{"passed": passed, "steps": steps, "duration_ns": took})
		return
	}
	if passed {
		fmt.Fprintf(t.w, "the story passed: %d steps in %s\n", steps, took.Round(time.Millisecond))
	}
}

func (t teller) connected(c Connected) {
	t.line(fmt.Sprintf("%-13s is connected by %s (%s)", c.Organization, c.EndpointID, c.Address))
}

func (t teller) ready(s *Sandbox, all []Connected) {
	if t.json {
		t.object(s.File())
		return
	}
	first, other := all[0], all[1]
	get := func(c Connected, tenant string) string {
		return fmt.Sprintf("curl --cacert %s --interface %s --connect-to ::%s:%d https://%s:%d/", s.path("ca.pem"), s.places.source(c.Network), c.Address, s.httpsPort, s.platform.Host(tenant), s.httpsPort)
	}
	vpc := s.places.networks[first.Network]
	fmt.Fprintf(t.w, `
The world runs. Everything's place: %s

Its own endpoint reaches the tenant, with the certificate verified:
  %s
Another organization's endpoint does not (one TLS alert):
  %s
From outside of the VPC the endpoint does not answer at all:
  curl --interface %s --connect-to ::%s:%d https://%s:%d/
The endpoint's name, by the VPC's resolver:
  dig @%s -p %d -b %s +short %s
What was refused, and what happened:
  postern --api %s --token-file %s denials
  postern --api %s --token-file %s events

Ctrl-C stops it; the next start continues.
`,
		s.path(fileName), get(first, first.Tenant), get(other, first.Tenant),
		s.ground.client, first.Address, s.httpsPort, s.platform.Host(first.Tenant), s.httpsPort,
		vpc.Resolver(), s.dnsPort, s.places.source(first.Network), first.EndpointHost,
		s.apiURL, s.path("admin.token"), s.apiURL, s.path("admin.token"))
}
