package cli_test

import (
	"bytes"
	"context"
	"errors"
	"io"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/spf13/cobra"

	"github.com/postern-net/postern/internal/cli"
)

// terminal is a command line that a person sits at.
type terminal struct {
	env      map[string]string
	in       string
	alone    bool // nobody sits there
	out, err screen
}

// screen may be read while it is written to.
type screen struct {
	mu sync.Mutex
	b  bytes.Buffer
}

func (s *screen) Write(p []byte) (int, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.b.Write(p)
}

func (s *screen) String() string {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.b.String()
}

func (c *terminal) run(ctx context.Context, args ...string) int {
	root := cli.New(cli.IO{
		In: strings.NewReader(c.in), Out: &c.out, Err: &c.err, Interactive: !c.alone,
		Getenv: func(k string) string { return c.env[k] },
	}, cli.Build{Version: "v1.2.3"})
	root.SetArgs(args)
	return cli.Execute(ctx, root)
}

// Help is the manual: every command has a sentence, a text and an example, and
// its flags say what they take.
func TestEveryCommandIsDocumented(t *testing.T) {
	root := cli.New(cli.IO{Getenv: func(string) string { return "" }}, cli.Build{})
	var walk func(*cobra.Command)
	walk = func(c *cobra.Command) {
		if c.Name() == "completion" {
			return // cobra's own
		}
		if c.Short == "" || strings.HasSuffix(c.Short, ".") {
			t.Errorf("%s: its short text is no short phrase: %q", c.CommandPath(), c.Short)
		}
		if !strings.HasSuffix(strings.TrimSpace(c.Long), ".") || !strings.Contains(c.Example, "postern ") {
			t.Errorf("%s: no text or no example", c.CommandPath())
		}
		for line := range strings.SplitSeq(c.Long, "\n") {
			if len(line) > 140 {
				t.Errorf("%s: a line of %d bytes: %s", c.CommandPath(), len(line), line)
			}
		}
		for _, sub := range c.Commands() {
			walk(sub)
		}
	}
	walk(root)
}

// An extra command is listed, its help does not speak of the API, and wrong
// usage of it is wrong usage.
func TestExtraCommands(t *testing.T) {
	for _, c := range []struct {
		args   string
		status int
		says   string
	}{
		{"--help", 0, "serve          Run it"},
		{"serve --help", 0, "--config string"},
		{"serve --config x", 0, "ran"},
		{"serve", 2, `postern: required flag(s) "config" not set; see "postern serve --help"`},
		{"serve --config x y", 2, `unknown command "y"`},
		{"serve --bogus", 2, "unknown flag: --bogus"},
	} {
		extra := &cobra.Command{
			Use: "serve", Short: "Run it", Args: cobra.NoArgs,
			RunE: func(cmd *cobra.Command, _ []string) error {
				_, err := io.WriteString(cmd.OutOrStdout(), "ran\n")
				return err
			},
		}
		extra.Flags().String("config", "", "the config file")
		if err := extra.MarkFlagRequired("config"); err != nil {
			t.Fatal(err)
		}
		var out bytes.Buffer
		root := cli.New(cli.IO{Out: &out, Err: &out, Getenv: func(string) string { return "" }}, cli.Build{}, extra)
		root.SetArgs(strings.Fields(c.args))
		if status := cli.Execute(t.Context(), root); status != c.status || !strings.Contains(out.String(), c.says) {
			t.Errorf("%s: ended with %d: %s", c.args, status, out.String())
		}
		if strings.HasPrefix(c.args, "serve") && strings.Contains(out.String(), "token-file") {
			t.Errorf("%s: speaks of the API: %s", c.args, out.String())
		}
	}
}

type brokenPipe struct{}

func (brokenPipe) Write([]byte) (int, error) { return 0, errors.New("no space left on device") }

func TestOutputThatCannotBeWritten(t *testing.T) {
	var stderr bytes.Buffer
	root := cli.New(cli.IO{Out: brokenPipe{}, Err: &stderr, Getenv: func(string) string { return "" }}, cli.Build{})
	root.SetArgs([]string{"version"})
	if status := cli.Execute(t.Context(), root); status != 1 || stderr.String() != "postern: write the output: no space left on device\n" {
		t.Errorf("ended with %d: %s", status, stderr.String())
	}
}

// What would cut traffic off is asked about where somebody can answer.
func TestConfirmation(t *testing.T) {
	w := startWorld(t, true)
	as := func(name string) *terminal {
		return &terminal{env: map[string]string{"POSTERN_API": w.url, "POSTERN_TOKEN": w.tokens[name]}}
	}
	customer := w.customers["example-corp"].AccessKeys[0]
	t.Setenv("AWS_ACCESS_KEY_ID", customer.ID)
	t.Setenv("AWS_SECRET_ACCESS_KEY", customer.Secret)
	mustRun(t, as("admin"), "tenant", "create", "example", "--organization", "example-corp", "--region", virginia)
	mustRun(t, as("example-corp"), "account", "prove")
	id, err := w.createEndpoint(t.Context(), "example-corp")
	if err != nil {
		t.Fatal(err)
	}
	mustRun(t, as("example-corp"), "endpoint", "claim", id, "--wait")

	for _, c := range []struct {
		answer, says string
		alone        bool
		args         []string
	}{
		{"n\n", "nothing was changed", false, []string{"endpoint", "remove", id}},
		{"\n", "nothing was changed", false, []string{"endpoint", "remove", id}},
		{"", "no answer: nothing was changed", false, []string{"endpoint", "remove", id}},
		{"y\n", "nobody can be asked here: give --yes", true, []string{"endpoint", "remove", id}},
		{"n\n", "nothing was changed", false, []string{"tenant", "delete", "example"}},
		{"n\n", "nothing was changed", false, []string{"account", "remove", w.customers["example-corp"].ID}},
	} {
		term := as("admin")
		term.in, term.alone = c.answer, c.alone
		status := term.run(t.Context(), c.args...)
		if status != 1 || !strings.Contains(term.err.String(), c.says) || !strings.Contains(term.err.String(), "carries traffic") && !c.alone {
			t.Errorf("%v, answer %q: ended with %d: %s", c.args, c.answer, status, term.err.String())
		}
	}
	term := as("example-corp")
	if mustRun(t, term, "endpoint", "show", id); !strings.Contains(term.out.String(), "ready") {
		t.Fatalf("something was changed: %s", term.out.String())
	}
	term = as("example-corp")
	term.in = "y\n"
	mustRun(t, term, "endpoint", "remove", id)
	if !strings.HasSuffix(term.err.String(), "carries traffic of example.hosted.immutacloud.com, which ends. Go on? [y/N] ") {
		t.Errorf("asked: %s", term.err.String())
	}
}

func mustRun(t *testing.T, c *terminal, args ...string) {
	t.Helper()
	if status := c.run(t.Context(), args...); status != 0 {
		t.Fatalf("postern %s ended with %d: %s", strings.Join(args, " "), status, c.err.String())
	}
}

// Following prints what was and what happens, and an interrupt is its end.
func TestEventsFollow(t *testing.T) {
	w := startWorld(t, true)
	env := map[string]string{"POSTERN_API": w.url, "POSTERN_TOKEN": w.tokens["admin"]}
	mustRun(t, &terminal{env: env}, "organization", "create", "before")

	for _, format := range []string{"text", "json"} {
		term := &terminal{env: env}
		ctx, cancel := context.WithCancel(t.Context())
		done := make(chan int, 1)
		go func() { done <- term.run(ctx, "events", "--follow", "-o", format) }()
		sees := func(what string) {
			t.Helper()
			if err := until(ctx, func() (bool, error) { return strings.Contains(term.out.String(), what), nil }); err != nil {
				t.Errorf("%s: no %q in %s", format, what, term.out.String())
			}
		}
		sees("before")
		mustRun(t, &terminal{env: env}, "organization", "create", "after-"+format)
		sees("after-" + format)
		cancel()
		if status := <-done; status != 0 || term.err.String() != "" {
			t.Errorf("%s: ended with %d: %s", format, status, term.err.String())
		}
		for line := range strings.SplitSeq(strings.TrimSpace(term.out.String()), "\n") {
			if format == "json" && (!strings.HasPrefix(line, `{"seq":`) || !strings.HasSuffix(line, "}")) {
				t.Errorf("not an event a line: %s", line)
			}
		}
	}
}

// An interrupt ends a wait at once, with a word and a status.
func TestWaitIsInterrupted(t *testing.T) {
	w := startWorld(t, false)
	admin := map[string]string{"POSTERN_API": w.url, "POSTERN_TOKEN": w.tokens["admin"]}
	env := map[string]string{"POSTERN_API": w.url, "POSTERN_TOKEN": w.tokens["example-corp"]}
	customer := w.customers["example-corp"].AccessKeys[0]
	t.Setenv("AWS_ACCESS_KEY_ID", customer.ID)
	t.Setenv("AWS_SECRET_ACCESS_KEY", customer.Secret)
	mustRun(t, &terminal{env: admin}, "tenant", "create", "example", "--organization", "example-corp", "--region", virginia)
	mustRun(t, &terminal{env: env}, "account", "prove")
	id, err := w.createEndpoint(t.Context(), "example-corp")
	if err != nil {
		t.Fatal(err)
	}
	term := &terminal{env: env}
	ctx, cancel := context.WithCancel(t.Context())
	defer cancel()
	done := make(chan int, 1)
	go func() { done <- term.run(ctx, "endpoint", "claim", id, "--wait") }()
	if err := until(ctx, func() (bool, error) { return strings.Contains(term.err.String(), id+": requested"), nil }); err != nil {
		t.Fatal(err)
	}
	cancel()
	select {
	case status := <-done:
		if status != 1 || !strings.HasSuffix(term.err.String(), "\npostern: interrupted\n") {
			t.Errorf("ended with %d: %s", status, term.err.String())
		}
	case <-time.After(30 * time.Second):
		t.Error("it goes on")
	}
}
