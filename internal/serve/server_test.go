package serve_test

import (
	"bufio"
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"io"
	"io/fs"
	"log/slog"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"sync"
	"testing"
	"time"

	"go.uber.org/goleak"

	"github.com/postern-net/postern"
	"github.com/postern-net/postern/internal/serve"
	"github.com/postern-net/postern/test/loopback"
)

// places are the parts of a server that the tests touch.
type places struct {
	config                      string // path of the config file
	state, token                string
	api, admin, private, public string // addresses
}

// lay writes a config whose listeners have free ports and whose AWS does not
// answer: Postern starts, serves what it knows and goes on asking. Extra is
// added to the file.
func lay(t *testing.T, extra string) places {
	t.Helper()
	p := places{api: free(t), admin: free(t), private: free(t), public: free(t)}
	p.config = write(t, strings.NewReplacer(
		"127.0.0.1:8080", p.api, "127.0.0.1:9090", p.admin, "127.0.0.1:8443", p.private, "127.0.0.1:8444", p.public,
	).Replace(good)+"aws: {endpoint_url: \"http://"+free(t)+"\", access_key_id: AKIAIOSFODNN7EXAMPLE, secret_access_key_file: aws.secret}\n"+
		"shutdown_timeout: 200ms\n"+extra)
	dir := filepath.Dir(p.config)
	p.state, p.token = filepath.Join(dir, "state"), filepath.Join(dir, "state", "admin.token")
	p.secret(t, strings.Repeat("s", 40)+"\n", 0o600)
	return p
}

// secret replaces the file with the AWS secret.
func (p places) secret(t *testing.T, text string, mode fs.FileMode) {
	t.Helper()
	put(t, filepath.Join(filepath.Dir(p.config), "aws.secret"), text, mode)
}

func put(t *testing.T, path, text string, mode fs.FileMode) {
	t.Helper()
	if err := errors.Join(os.MkdirAll(filepath.Dir(path), 0o700), os.WriteFile(path, []byte(text), mode), os.Chmod(path, mode)); err != nil {
		t.Fatal(err)
	}
}

// free is a loopback address with a port that nobody listens on now.
func free(t *testing.T) string { return loopback.Free(t).String() }

func listen(t *testing.T, addr string) net.Listener {
	t.Helper()
	ln, err := (&net.ListenConfig{}).Listen(t.Context(), "tcp", addr)
	if err != nil {
		t.Fatal(err)
	}
	return ln
}

// open tells whether somebody listens.
func open(t *testing.T, addr string) bool {
	t.Helper()
	c, err := (&net.Dialer{}).DialContext(t.Context(), "tcp", addr)
	if err == nil {
		c.Close()
	}
	return err == nil
}

// newServer makes a server from the config file; what it logs is returned by log.
func newServer(t *testing.T, p places) (s *serve.Server, log func() string) {
	t.Helper()
	c, platform, err := serve.LoadConfig(p.config)
	if err != nil {
		t.Fatal(err)
	}
	var b lockedBuffer
	s = serve.New(c, platform, serve.Options{Version: "test", Stdout: io.Discard, Logger: slog.New(slog.NewTextHandler(&b, nil))})
	return s, b.String
}

func started(t *testing.T, p places) (s *serve.Server, log func() string) {
	t.Helper()
	s, log = newServer(t, p)
	if err := s.Start(t.Context()); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(s.Stop)
	return s, log
}

type lockedBuffer struct {
	mu sync.Mutex
	b  bytes.Buffer
}

func (l *lockedBuffer) Write(p []byte) (int, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.b.Write(p)
}

func (l *lockedBuffer) String() string {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.b.String()
}

// get asks on a connection of its own.
func get(t *testing.T, url, token string) (status int, body string) {
	t.Helper()
	req, err := http.NewRequestWithContext(t.Context(), http.MethodGet, url, nil)
	if err != nil {
		t.Fatal(err)
	}
	if token != "" {
		req.Header.Set("Authorization", "Bearer "+token)
	}
	resp, err := (&http.Client{Timeout: 30 * time.Second, Transport: &http.Transport{DisableKeepAlives: true}}).Do(req)
	if err != nil {
		t.Fatal(err)
	}
	defer resp.Body.Close()
	b, err := io.ReadAll(resp.Body)
	if err != nil {
		t.Fatal(err)
	}
	return resp.StatusCode, string(b)
}

func TestStopIsSafeBeforeStartAndTwice(t *testing.T) {
	defer goleak.VerifyNone(t)
	p := lay(t, "")
	never, _ := newServer(t, p)
	never.Stop()
	never.Stop()

	s, _ := newServer(t, p)
	if err := s.Start(t.Context()); err != nil {
		t.Fatal(err)
	}
	var both sync.WaitGroup
	for range 2 {
		both.Go(s.Stop)
	}
	both.Wait()
	s.Stop()
	for _, addr := range []string{p.api, p.admin, p.private, p.public} {
		if open(t, addr) {
			t.Errorf("%s is open after Stop", addr)
		}
	}
	select {
	case err := <-s.Failed():
		t.Errorf("a stop is told as a failure: %v", err)
	default:
	}
}

func TestStartOpensEverything(t *testing.T) {
	defer goleak.VerifyNone(t)
	p := lay(t, "")
	s, _ := started(t, p)
	defer s.Stop()
	for _, addr := range []string{p.api, p.admin, p.private, p.public} {
		if !open(t, addr) {
			t.Errorf("%s is not open", addr)
		}
	}
	awaitReady(t, p)
	for path, want := range map[string]string{"/healthz": `"ok"`, "/readyz": `"ok"`, "/metrics": "go_goroutines"} {
		if status, body := get(t, "http://"+p.admin+path, ""); status != http.StatusOK || !strings.Contains(body, want) {
			t.Errorf("%s: %d %s", path, status, body)
		}
	}
	token := readToken(t, p)
	if status, body := get(t, "http://"+p.api+"/v1/organizations", token); status != http.StatusOK {
		t.Errorf("with the admin token: %d %s", status, body)
	}
	for name, wrong := range map[string]string{"no token": "", "another token": token[:len(token)-1] + "~"} {
		if status, body := get(t, "http://"+p.api+"/v1/organizations", wrong); status != http.StatusUnauthorized {
			t.Errorf("with %s: %d %s", name, status, body)
		}
	}
}

// awaitReady waits until the doors have routes, which the first round makes
// also while AWS does not answer.
func awaitReady(t *testing.T, p places) {
	t.Helper()
	deadline := time.After(30 * time.Second)
	tick := time.NewTicker(10 * time.Millisecond)
	defer tick.Stop()
	for {
		status, body := get(t, "http://"+p.admin+"/readyz", "")
		if status == http.StatusOK {
			return
		}
		select {
		case <-deadline:
			t.Fatalf("not ready: %d %s", status, body)
		case <-tick.C:
		}
	}
}

func readToken(t *testing.T, p places) string {
	t.Helper()
	b, err := os.ReadFile(p.token)
	if err != nil {
		t.Fatal(err)
	}
	return strings.TrimSpace(string(b))
}

// A port that is taken is an error of the start, which then leaves nothing
// behind: no listener, no lock, no goroutine.
func TestStartOpensNothingWhenAPortIsTaken(t *testing.T) {
	for _, what := range []string{"api", "admin", "private", "public"} {
		t.Run(what, func(t *testing.T) {
			defer goleak.VerifyNone(t)
			p := lay(t, "")
			all := map[string]string{"api": p.api, "admin": p.admin, "private": p.private, "public": p.public}
			taken := listen(t, all[what])
			s, _ := newServer(t, p)
			err := s.Start(t.Context())
			if err == nil || !strings.Contains(err.Error(), what) || !strings.Contains(err.Error(), "address already in use") {
				t.Errorf("Start: %v", err)
			}
			taken.Close()
			for name, addr := range all {
				if open(t, addr) {
					t.Errorf("%s is open", name)
				}
			}
			lock, err := serve.LockDir(p.state)
			if err != nil {
				t.Fatalf("the lock was kept: %v", err)
			}
			lock.Close()

			again, _ := started(t, p) // with the port free, the same state starts
			again.Stop()
		})
	}
}

func TestTwoProcessesDoNotShareAState(t *testing.T) {
	defer goleak.VerifyNone(t)
	p := lay(t, "")
	first, _ := started(t, p)
	defer first.Stop()
	second, _ := newServer(t, p)
	err := second.Start(t.Context())
	if postern.CodeOf(err) != postern.CodeConflict || !strings.Contains(err.Error(), "another process serves from it") {
		t.Errorf("Start: %v", err)
	}
	second.Stop()
	if status, _ := get(t, "http://"+p.admin+"/healthz", ""); status != http.StatusOK {
		t.Errorf("the first one answers %d", status)
	}
}

func TestLockDir(t *testing.T) {
	dir := t.TempDir()
	lock, err := serve.LockDir(dir)
	if err != nil {
		t.Fatal(err)
	}
	_, err = serve.LockDir(dir)
	var e *postern.Error
	if !errors.As(err, &e) || e.Code != postern.CodeConflict || e.Field != "state_dir" || e.Value != dir {
		t.Errorf("a second lock: %v", err)
	}
	if err := lock.Close(); err != nil {
		t.Fatal(err)
	}
	if lock, err = serve.LockDir(dir); err != nil {
		t.Fatalf("after the first was given back: %v", err)
	}
	lock.Close()
	if _, err := serve.LockDir(filepath.Join(dir, "absent")); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("of an absent folder: %v", err)
	}
}

// The admin token is made once, for its owner only, and good over restarts.
func TestAdminToken(t *testing.T) {
	defer goleak.VerifyNone(t)
	p := lay(t, "")
	s, log := started(t, p)
	s.Stop()
	info, err := os.Stat(p.token)
	if err != nil || info.Mode().Perm() != 0o600 {
		t.Fatalf("the token file: %v, %v", info, err)
	}
	token := readToken(t, p)
	if !regexp.MustCompile(`^postern_[A-Za-z0-9_-]{43}$`).MatchString(token) {
		t.Error("the token has another form than postern_ and 256 bits") // the token stays out of the log
	}
	if strings.Contains(log(), token) {
		t.Error("the token is in the log")
	}
	again, _ := started(t, p)
	defer again.Stop()
	if readToken(t, p) != token {
		t.Error("a restart made another token")
	}
	if status, body := get(t, "http://"+p.api+"/v1/organizations", token); status != http.StatusOK {
		t.Errorf("after a restart: %d %s", status, body)
	}
}

// Secrets that others may read, or that are none, stop the start.
func TestStartRefusesSecrets(t *testing.T) {
	long := strings.Repeat("s", 32)
	for _, tt := range []struct {
		name, text string
		mode       fs.FileMode
		want       string
	}{
		{"others read it", long, 0o604, "others may read the file"},
		{"the group reads it", long, 0o640, "others may read the file"},
		{"too short", long[1:], 0o600, "holds no secret of at least 32 characters"},
		{"empty", "\n", 0o600, "holds no secret of at least 32 characters"},
		{"its owner reads it", long + "\n", 0o600, ""},
		{"nobody writes it", long, 0o400, ""},
	} {
		t.Run(tt.name, func(t *testing.T) {
			defer goleak.VerifyNone(t)
			for file, write := range map[string]func(p places){
				"admin token":                func(p places) { put(t, p.token, tt.text, tt.mode) },
				"aws.secret_access_key_file": func(p places) { p.secret(t, tt.text, tt.mode) },
			} {
				p := lay(t, "")
				write(p)
				s, log := newServer(t, p)
				err := s.Start(t.Context())
				s.Stop()
				switch {
				case tt.want == "" && err != nil:
					t.Errorf("%s: %v", file, err)
				case tt.want != "" && (err == nil || !strings.Contains(err.Error(), tt.want) || !strings.Contains(err.Error(), file)):
					t.Errorf("%s: got %v, want %s", file, err, tt.want)
				}
				if err != nil && strings.Contains(err.Error(), long[1:]) || strings.Contains(log(), long[1:]) {
					t.Errorf("%s: the secret is told", file)
				}
			}
		})
	}
}

func TestStartWithoutTheAWSSecret(t *testing.T) {
	defer goleak.VerifyNone(t)
	p := lay(t, "")
	if err := os.Remove(filepath.Join(filepath.Dir(p.config), "aws.secret")); err != nil {
		t.Fatal(err)
	}
	s, _ := newServer(t, p)
	if err := s.Start(t.Context()); !errors.Is(err, fs.ErrNotExist) || !strings.Contains(err.Error(), "aws.secret_access_key_file") {
		t.Errorf("Start: %v", err)
	}
}

// A client that never finishes its request does not hold the process.
func TestStopCutsWhatDoesNotEnd(t *testing.T) {
	defer goleak.VerifyNone(t)
	p := lay(t, "")
	s, _ := started(t, p)
	c, err := (&net.Dialer{}).DialContext(t.Context(), "tcp", p.api)
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	if _, err := io.WriteString(c, "POST /v1/organizations HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer "+readToken(t, p)+"\r\nContent-Type: application/json\r\nContent-Length: 100\r\nExpect: 100-continue\r\n\r\n"); err != nil {
		t.Fatal(err)
	}
	// "100 Continue" tells that the handler waits for the body.
	if line, err := bufio.NewReader(c).ReadString('\n'); err != nil || !strings.Contains(line, "100 Continue") {
		t.Fatalf("%q, %v", line, err)
	}
	if _, err := io.WriteString(c, `{"id": "`); err != nil {
		t.Fatal(err)
	}
	begin := time.Now()
	s.Stop()
	if took := time.Since(begin); took < 150*time.Millisecond || took > 5*time.Second {
		t.Errorf("Stop took %s of a shutdown_timeout of 200ms", took)
	}
	if err := c.SetReadDeadline(time.Now().Add(30 * time.Second)); err != nil {
		t.Fatal(err)
	}
	if _, err := io.Copy(io.Discard, c); errors.Is(err, os.ErrDeadlineExceeded) {
		t.Error("the connection is still open")
	}
}

func TestStartHonoursItsContextOnlyWhileItStarts(t *testing.T) {
	defer goleak.VerifyNone(t)
	p := lay(t, "")
	s, _ := newServer(t, p)
	ctx, cancel := context.WithCancel(t.Context())
	if err := s.Start(ctx); err != nil {
		t.Fatal(err)
	}
	cancel() // Stop ends a server, not the context that it was started with
	defer s.Stop()
	awaitReady(t, p)
}

func TestNewLogger(t *testing.T) {
	for _, tt := range []struct {
		config serve.Log
		want   string
	}{
		{serve.Log{}, `^\{"time":"[^"]+","level":"INFO","msg":"told"\}\n$`},
		{serve.Log{Format: "json", Level: "debug"}, `"msg":"detail"`},
		{serve.Log{Format: "text", Level: "info"}, `^time=\S+ level=INFO msg=told\n$`},
		{serve.Log{Format: "text", Level: "error"}, `^$`},
	} {
		var b bytes.Buffer
		l := serve.NewLogger(&b, tt.config)
		l.Debug("detail")
		l.Info("told")
		if !regexp.MustCompile(tt.want).MatchString(b.String()) {
			t.Errorf("%+v: %q", tt.config, b.String())
		}
	}
}

func TestCommandChecksAConfig(t *testing.T) {
	run := func(args ...string) (string, error) {
		var out bytes.Buffer
		cmd := serve.Command("test")
		cmd.SetArgs(append([]string{}, args...)) // nil would be those of this process
		cmd.SetOut(&out)
		cmd.SetErr(&out)
		cmd.SilenceUsage, cmd.SilenceErrors = true, true
		err := cmd.ExecuteContext(t.Context())
		return out.String(), err
	}
	p := lay(t, "")
	if out, err := run("--config", p.config, "--check-config"); err != nil || out != "" {
		t.Errorf("a good one: %q, %v", out, err)
	}
	if _, err := os.Stat(p.state); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("a check opened the state: %v", err)
	}
	bad := write(t, "platfor: immuta\n")
	if _, err := run("--config", bad, "--check-config"); err == nil || !strings.Contains(err.Error(), bad+`:1:1: platfor: unknown key; did you mean "platform"?`) {
		t.Errorf("a bad one: %v", err)
	}
	if _, err := run(); err == nil || !strings.Contains(err.Error(), "config") {
		t.Errorf("without a config: %v", err)
	}
}

// The command serves until its context ends, and logs to standard error.
func TestCommandServes(t *testing.T) {
	defer goleak.VerifyNone(t)
	p := lay(t, "access_log: access.log\n")
	ctx, cancel := context.WithCancel(t.Context())
	defer cancel()
	var errs lockedBuffer
	ended := make(chan error, 1)
	cmd := serve.Command("test")
	cmd.SetArgs([]string{"--config", p.config})
	cmd.SetErr(&errs)
	go func() { ended <- cmd.ExecuteContext(ctx) }()
	tick := time.NewTicker(10 * time.Millisecond)
	defer tick.Stop()
	for !open(t, p.admin) {
		select {
		case err := <-ended:
			t.Fatalf("it ended: %v\n%s", err, errs.String())
		case <-tick.C:
		}
	}
	if status, body := get(t, "http://"+p.admin+"/healthz", ""); status != http.StatusOK || !json.Valid([]byte(body)) {
		t.Errorf("%d %s", status, body)
	}
	cancel()
	if err := <-ended; err != nil {
		t.Error(err)
	}
	if !strings.Contains(errs.String(), `"msg":"stopping"`) {
		t.Errorf("the log: %s", errs.String())
	}
	if info, err := os.Stat(filepath.Join(filepath.Dir(p.config), "access.log")); err != nil || info.Mode().Perm() != 0o600 {
		t.Errorf("the access log: %v, %v", info, err)
	}
}
