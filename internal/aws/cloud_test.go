package aws_test

import (
	"fmt"
	"log/slog"
	"net"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"go.uber.org/goleak"

	"github.com/postern-net/postern"
	"github.com/postern-net/postern/internal/aws"
)

func TestConfig(t *testing.T) {
	for _, c := range []struct {
		name   string
		change func(*aws.Config)
		want   string // of the error; "": none
	}{
		{"AWS itself", func(c *aws.Config) { c.EndpointURL = "" }, ""},
		{"the stand-in", func(c *aws.Config) { c.EndpointURL = "http://127.0.0.1:4566" }, ""},
		{"the stand-in in a namespace", func(c *aws.Config) { c.EndpointURL = "http://198.18.0.1:4566/" }, ""},
		{"IPv6", func(c *aws.Config) { c.EndpointURL = "http://[::1]:4566" }, ""},
		{"another server over https", func(c *aws.Config) { c.EndpointURL = "https://aws.example" }, ""},
		{"public and in clear text", func(c *aws.Config) { c.EndpointURL = "http://aws.example" }, "use https"},
		{"public address in clear text", func(c *aws.Config) { c.EndpointURL = "http://8.8.8.8" }, "use https"},
		{"a path", func(c *aws.Config) { c.EndpointURL = "https://aws.example/x" }, "aws.endpoint_url"},
		{"a user", func(c *aws.Config) { c.EndpointURL = "https://u@aws.example" }, "aws.endpoint_url"},
		{"another scheme", func(c *aws.Config) { c.EndpointURL = "ftp://127.0.0.1" }, "aws.endpoint_url"},
		{"not a URL", func(c *aws.Config) { c.EndpointURL = "127.0.0.1:4566" }, "aws.endpoint_url"},
		{"no region", func(c *aws.Config) { c.Regions = nil }, "regions: no region"},
		{"a zone for a region", func(c *aws.Config) { c.Regions = []string{"us-east-1a"} }, "leave out the last letter"},
		{"no certificate", func(c *aws.Config) { c.CABundle = []byte("words") }, "holds no PEM certificate"},
	} {
		t.Run(c.name, func(t *testing.T) {
			conf := aws.Config{Regions: []string{"us-east-1"}, Credentials: aws.Credentials{AccessKeyID: "AKIAIOSFODNN7EXAMPLE", SecretAccessKey: "s"}}
			c.change(&conf)
			cloud, err := aws.New(conf)
			switch {
			case c.want == "" && err != nil:
				t.Error(err)
			case c.want != "" && (err == nil || !strings.Contains(err.Error(), c.want) || postern.CodeOf(err) != postern.CodeInvalid):
				t.Errorf("got %v, want %q", err, c.want)
			}
			if cloud != nil {
				cloud.Close()
			}
		})
	}
}

// Only the explicit override counts; whoever sets the environment of the
// process does not choose who proves accounts and lists connections.
func TestAnInheritedEndpointIsIgnored(t *testing.T) {
	trap := httptest.NewServer(http.HandlerFunc(func(http.ResponseWriter, *http.Request) { t.Error("the inherited endpoint was called") }))
	t.Cleanup(trap.Close)
	for _, k := range []string{"AWS_ENDPOINT_URL", "AWS_ENDPOINT_URL_EC2", "AWS_ENDPOINT_URL_STS"} {
		t.Setenv(k, trap.URL)
	}
	cloud, _ := newWire(t, map[string][]reply{describe: {listing("", one+" available")}})
	if _, err := cloud.Connections(t.Context(), service); err != nil {
		t.Error(err)
	}
}

func TestCredentialsKeepTheirSecret(t *testing.T) {
	c := aws.Credentials{AccessKeyID: "AKIAIOSFODNN7EXAMPLE", SecretAccessKey: "secret-words", SessionToken: "session-words"}
	var log strings.Builder
	slog.New(slog.NewJSONHandler(&log, nil)).InfoContext(t.Context(), "x", slog.Any("credentials", c))
	for _, text := range []string{fmt.Sprint(c), fmt.Sprintf("%+v", c), fmt.Sprintf("%#v", c), log.String()} {
		if strings.Contains(text, "words") || !strings.Contains(text, "AKIAIOSFODNN7EXAMPLE") {
			t.Errorf("prints %s", text)
		}
	}
}

// Connections are kept open between calls, and not beyond Close.
func TestCloseLeavesNoConnection(t *testing.T) {
	defer goleak.VerifyNone(t, goleak.IgnoreCurrent())
	var open atomic.Int32
	srv := httptest.NewUnstartedServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		w.WriteHeader(http.StatusBadRequest)
	}))
	srv.Config.ConnState = func(_ net.Conn, s http.ConnState) {
		switch s {
		case http.StateNew:
			open.Add(1)
		case http.StateClosed, http.StateHijacked:
			open.Add(-1)
		case http.StateActive, http.StateIdle:
		}
	}
	srv.Start()
	defer srv.Close()
	cloud := newCloud(t, srv.URL, nil)
	if _, err := cloud.Connections(t.Context(), service); err == nil {
		t.Fatal("an answer of status 400 is no error")
	}
	if n := open.Load(); n != 1 {
		t.Fatalf("%d connections are open between calls, want 1", n)
	}
	cloud.Close()
	deadline := time.After(30 * time.Second)
	for open.Load() > 0 {
		select {
		case <-deadline:
			t.Fatal("a connection is open after Close")
		case <-time.After(time.Millisecond):
		}
	}
}
