package e2e_test

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"log/slog"
	"math/rand/v2"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/postern-net/postern/client"
	"github.com/postern-net/postern/internal/platformfile"
	"github.com/postern-net/postern/internal/sandbox"
)

// kills is how often the server is killed; the issue of a lost write shows in
// far fewer.
const kills = 20

// TestKill kills `postern serve` at random moments while drivers write: the
// control plane or one of its nodes, each a process of its own. The drivers
// make objects, prove an account, claim endpoints and take claims back; they
// and the stand-in for AWS live on. Whatever the API acknowledged must exist
// afterwards, what it acknowledged as taken back must stay so, and the story
// must pass on what is left.
func TestKill(t *testing.T) {
	if os.Getenv("POSTERN_E2E") == "" {
		t.Skip("kills a server twenty times; run it with `make e2e`")
	}
	binary := build(t)
	dir := t.TempDir()
	p, err := platformfile.Load("immuta")
	if err != nil {
		t.Fatal(err)
	}
	log, err := os.Create(filepath.Join(dir, "sandbox.log"))
	if err != nil {
		t.Fatal(err)
	}
	defer log.Close()
	servers := &children{t: t, binary: binary, log: log}
	var anyPort uint16
	world, err := sandbox.Start(t.Context(), sandbox.Options{
		StateDir: dir, Platform: p, HTTPSPort: &anyPort, DNSPort: &anyPort,
		Logger: slog.New(slog.NewTextHandler(log, nil)), Serve: servers.serve,
	})
	if err != nil {
		t.Fatal(err)
	}
	stopped := false
	defer func() {
		if !stopped {
			world.Stop()
		}
	}()

	j := newJournal(t, filepath.Join(dir, "acknowledged"))
	f := world.File()
	driving, stopDriving := context.WithCancel(t.Context())
	defer stopDriving()
	var drivers sync.WaitGroup
	for n := range 4 {
		drivers.Go(func() { drive(driving, t, newClient(t, f), j, n) })
	}
	engineer := newCustomer(t, f, p)
	drivers.Go(func() { engineer.drive(driving, j) })
	admins := []string{f.API.AdminURL}
	for _, n := range f.Nodes {
		admins = append(admins, n.AdminURL)
	}
	killed := map[string]int{}
	for n := range kills {
		pause := time.Duration(rand.IntN(700)) * time.Millisecond // at any moment, the start included
		wait(t, pause)
		victim := servers.any()
		victim.kill()
		victim.start()
		killed[filepath.Base(victim.config)]++
		if n%5 == 4 {
			awaitReady(t, admins)
		}
	}
	t.Logf("killed: %v", killed)
	awaitReady(t, admins)
	stopDriving()
	drivers.Wait()

	lost, total := j.missing(t, newClient(t, f))
	t.Logf("%d kills; %d acknowledged objects, %d lost", kills, total, len(lost))
	if len(lost) > 0 {
		t.Fatalf("lost: %v", lost)
	}
	if total < kills {
		t.Fatalf("only %d writes were acknowledged: the test proves nothing", total)
	}
	engineer.check(j)
	world.Stop()
	stopped = true

	out, err := exec.CommandContext(t.Context(), binary, "sandbox", "--check", "--state-dir", dir, "--https-port", "0", "--dns-port", "0").CombinedOutput()
	if err != nil {
		t.Fatalf("the story does not pass on what is left: %v\n%s", err, out)
	}
	t.Logf("%s", out)
}

// drive writes organizations, tenants and tokens until ctx ends, and notes
// each that was acknowledged.
func drive(ctx context.Context, t *testing.T, c *client.Client, j *journal, driver int) {
	for n := 0; ctx.Err() == nil; n++ {
		org := fmt.Sprintf("driver-%d-%d", driver, n)
		if _, err := c.CreateOrganization(ctx, client.Organization{ID: org}); err != nil {
			wait(t, 20*time.Millisecond)
			continue
		}
		j.note("organization", org)
		tenant, err := c.CreateTenant(ctx, client.Tenant{ID: "t-" + org, Spec: client.TenantSpec{Organization: org, Region: "us-east-1"}})
		if err == nil {
			j.note("tenant", tenant.ID)
		}
		token, err := c.CreateToken(ctx, client.TokenSpec{Name: org, Role: "organization-viewer", Organization: org})
		if err == nil {
			j.note("token", token.ID)
		}
	}
}

func newClient(t *testing.T, f sandbox.File) *client.Client {
	t.Helper()
	secret, err := os.ReadFile(f.API.AdminTokenFile)
	if err != nil {
		t.Fatal(err)
	}
	c, err := client.New(f.API.URL, client.Options{Token: strings.TrimSpace(string(secret)), Timeout: 5 * time.Second})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(c.Close)
	return c
}

// journal notes what was acknowledged, on disk before it goes on.
type journal struct {
	t    *testing.T
	mu   sync.Mutex
	file *os.File
}

func newJournal(t *testing.T, path string) *journal {
	f, err := os.Create(path)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { f.Close() })
	return &journal{t: t, file: f}
}

func (j *journal) note(kind, id string) {
	j.mu.Lock()
	defer j.mu.Unlock()
	if _, err := fmt.Fprintln(j.file, kind, id); err != nil {
		j.t.Error(err)
	}
	if err := j.file.Sync(); err != nil {
		j.t.Error(err)
	}
}

// missing asks for every organization, tenant and token in the journal.
func (j *journal) missing(t *testing.T, c *client.Client) (lost []string, total int) {
	t.Helper()
	have := map[string]bool{}
	organizations, err1 := c.Organizations(t.Context())
	tenants, err2 := c.Tenants(t.Context(), "")
	tokens, err3 := c.Tokens(t.Context())
	if err := errors.Join(err1, err2, err3); err != nil {
		t.Fatal(err)
	}
	for _, o := range organizations {
		have["organization "+o.ID] = true
	}
	for _, v := range tenants {
		have["tenant "+v.ID] = true
	}
	for _, v := range tokens {
		have["token "+v.ID] = true
	}
	for _, line := range j.lines(t) {
		if kind, _, _ := strings.Cut(line, " "); kind != "organization" && kind != "tenant" && kind != "token" {
			continue
		}
		total++
		if !have[line] {
			lost = append(lost, line)
		}
	}
	return lost, total
}

// lines reads the journal back.
func (j *journal) lines(t *testing.T) (out []string) {
	t.Helper()
	f, err := os.Open(j.file.Name())
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	lines := bufio.NewScanner(f)
	for lines.Scan() {
		out = append(out, lines.Text())
	}
	return out
}

// children are the processes of a sandbox: the control plane and its nodes.
type children struct {
	t      *testing.T
	binary string
	log    *os.File
	all    []*child
}

func (cs *children) serve(_ context.Context, config string) (func(), error) {
	c := &child{t: cs.t, binary: cs.binary, config: config, log: cs.log}
	cs.all = append(cs.all, c)
	c.start()
	return func() {
		c.mu.Lock()
		defer c.mu.Unlock()
		_ = c.cmd.Process.Signal(syscall.SIGTERM) // it may have ended
		_ = c.cmd.Wait()
	}, nil
}

// any is a random one.
func (cs *children) any() *child { return cs.all[rand.IntN(len(cs.all))] }

// child is `postern serve` as a process of its own.
type child struct {
	t              *testing.T
	binary, config string
	log            *os.File
	mu             sync.Mutex
	cmd            *exec.Cmd
}

func (c *child) start() {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.cmd = exec.Command(c.binary, "serve", "--config", c.config)
	c.cmd.Stdout, c.cmd.Stderr = c.log, c.log
	if err := c.cmd.Start(); err != nil {
		c.t.Fatal(err)
	}
}

func (c *child) kill() {
	c.mu.Lock()
	defer c.mu.Unlock()
	if err := c.cmd.Process.Kill(); err != nil {
		c.t.Errorf("the server had ended before it was killed: %v", err)
	}
	_ = c.cmd.Wait() // "signal: killed"
}

// awaitReady waits until every process says that it can do its work.
func awaitReady(t *testing.T, admins []string) {
	t.Helper()
	deadline := time.Now().Add(time.Minute)
	for _, admin := range admins {
		for {
			out, err := exec.CommandContext(t.Context(), "curl", "-fsS", "-m", "2", admin+"/readyz").CombinedOutput()
			if err == nil {
				break
			}
			if time.Now().After(deadline) {
				t.Fatalf("%s did not get ready: %s", admin, out)
			}
			wait(t, 50*time.Millisecond)
		}
	}
}

func build(t *testing.T) string {
	t.Helper()
	out := filepath.Join(t.TempDir(), "postern")
	if b, err := exec.CommandContext(t.Context(), "go", "build", "-o", out, "../../cmd/postern").CombinedOutput(); err != nil {
		t.Fatalf("go build: %v\n%s", err, b)
	}
	return out
}

// wait lets time pass: here it is the input, not a guess.
func wait(t *testing.T, d time.Duration) {
	timer := time.NewTimer(d)
	defer timer.Stop()
	select {
	case <-t.Context().Done():
	case <-timer.C:
	}
}
