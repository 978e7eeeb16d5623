package serve_test

import (
	"errors"
	"net/netip"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/google/go-cmp/cmp/cmpopts"

	"github.com/postern-net/postern"
	"github.com/postern-net/postern/internal/serve"
	"github.com/postern-net/postern/internal/strictyaml"
)

// platform is a platform with a door, in one region of two.
const platform = `name: acme
title: Acme
domains:
  hosted: hosted.acme.example
  privatelink: privatelink.acme.example
segments:
  - id: na
    title: NA
    regions:
      - id: us-east-1
        title: Virginia
        vpc_endpoint_service_name: com.amazonaws.vpce.us-east-1.vpce-svc-0123456789abcdef0
        availability_zone_ids: [use1-az1]
        backends:
          web: ["127.0.0.1:9443"]
        load_balancer_sources: [127.0.0.0/8]
      - id: us-west-2
        title: Oregon
        vpc_endpoint_service_name: com.amazonaws.vpce.us-west-2.vpce-svc-0123456789abcdef1
        availability_zone_ids: [usw2-az1]
        backends:
          web: ["127.0.0.1:9444"]
apps:
  - id: web
    title: Web
    port: 443
`

// good is a config file; its lines are numbered in the tests below.
const good = `platform: platform.yaml
state_dir: state
roles: [control, ingress]
api:
  listen: 127.0.0.1:8080
admin:
  listen: 127.0.0.1:9090
ingress:
  - region: us-east-1
    private: 127.0.0.1:8443
    public: 127.0.0.1:8444
`

// write puts a config file and its platform into a folder.
func write(t *testing.T, config string) (path string) {
	t.Helper()
	dir := t.TempDir()
	for name, text := range map[string]string{"serve.yaml": config, "platform.yaml": platform} {
		if err := os.WriteFile(filepath.Join(dir, name), []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	return filepath.Join(dir, "serve.yaml")
}

func replaced(t *testing.T, old, with string) string {
	t.Helper()
	if !strings.Contains(good, old) {
		t.Fatalf("the file has no %q to replace", old)
	}
	return strings.Replace(good, old, with, 1)
}

func TestLoadConfigCompletes(t *testing.T) {
	path := write(t, good)
	dir := filepath.Dir(path)
	c, p, err := serve.LoadConfig(path)
	if err != nil {
		t.Fatal(err)
	}
	if p.Name != "acme" {
		t.Errorf("platform %q", p.Name)
	}
	for what, d := range map[string]string{
		"platform":         cmp.Diff(filepath.Join(dir, "platform.yaml"), c.Platform),
		"state_dir":        cmp.Diff(filepath.Join(dir, "state"), c.StateDir),
		"admin_token_file": cmp.Diff(filepath.Join(dir, "state", "admin.token"), c.API.AdminTokenFile),
		"approval":         cmp.Diff("operator", c.Approval),
		"resync":           cmp.Diff(time.Minute, c.Resync),
		"settle":           cmp.Diff(2*time.Second, c.Settle),
		"shutdown_timeout": cmp.Diff(30*time.Second, c.ShutdownTimeout),
		"log":              cmp.Diff(serve.Log{Format: "json", Level: "info"}, c.Log),
	} {
		if d != "" {
			t.Errorf("%s (-want +got):\n%s", what, d)
		}
	}
}

func TestLoadConfigMakesPathsAbsolute(t *testing.T) {
	path := write(t, replaced(t, "  listen: 127.0.0.1:8080\n", `  listen: 127.0.0.1:8080
  certificate_file: tls/api.crt
  key_file: /etc/postern/api.key
  admin_token_file: ../admin.token
aws:
  access_key_id: AKIAIOSFODNN7EXAMPLE
  secret_access_key_file: aws.secret
  ca_file: ca.pem
access_log: access.log
`))
	dir := filepath.Dir(path)
	c, _, err := serve.LoadConfig(path)
	if err != nil {
		t.Fatal(err)
	}
	got := []string{c.API.CertificateFile, c.API.KeyFile, c.API.AdminTokenFile, c.AWS.SecretAccessKeyFile, c.AWS.CAFile, c.AccessLog}
	want := []string{
		filepath.Join(dir, "tls/api.crt"), "/etc/postern/api.key", filepath.Join(filepath.Dir(dir), "admin.token"),
		filepath.Join(dir, "aws.secret"), filepath.Join(dir, "ca.pem"), filepath.Join(dir, "access.log"),
	}
	if d := cmp.Diff(want, got); d != "" {
		t.Errorf("(-want +got):\n%s", d)
	}
}

// Every refusal has its line, and what to do.
func TestLoadConfigRefuses(t *testing.T) {
	for _, tt := range []struct {
		name, old, with string
		want            string
	}{
		{"empty file", good, "", `: an empty file; docs/serve.md describes its keys`},
		{"unknown key", "state_dir", "statedir", `:2:1: statedir: unknown key; did you mean "state_dir"?`},
		{"unknown inner key", "    public:", "    publik:", `:11:5: ingress[0].publik: unknown key; did you mean "public"?`},
		{"two problems of form", "roles: [control, ingress]\napi:\n  listen: 127.0.0.1:8080", "roles: control\napi:\n  listen: 8080", ":5:11: api.listen: a number, not an address with a port"},
		{"duration", "roles:", "resync: 60\nroles:", `:3:9: resync: a number, not a duration such as "30s" or "5m" (got "60")`},
		{"malformed", "platform:", "platform: !0\n0", `:1:11: anchors, aliases, merge keys, tags and directives are not part of a config file`},

		{"no platform", "platform: platform.yaml\n", "", `:1:1: platform: missing; name a platform file, or the built-in immuta`},
		{"absent platform", "platform.yaml", "other.yaml", `:1:11: platform: no such platform file`},
		{"platform without a door", "platform.yaml", "immuta", `:9:13: ingress[0].region: the platform lists no load_balancer_sources for this region`},
		{"backends", "platform.yaml", "immuta", `:1:11: platform: region us-east-1 has no backends for app govern`},
		{"no state_dir", "state_dir: state\n", "", `:1:1: state_dir: missing; name a directory`},
		{"unknown role", "[control, ingress]", "[control, ingress, egres]", `: roles: no such role (got "egres")`},
		{"approval", "roles:", "approval: everybody\nroles:", `:3:11: approval: unknown (got "everybody"); use "operator" or "policy"`},
		{"rate of the log", "roles:", "access_log_rate: -1\nroles:", `:3:18: access_log_rate: negative (got "-1"); give the records per second that the access log may take`},
		{"engine", "roles:", "engine: magic\nroles:", `:3:9: engine: unknown (got "magic"); use "auto", "epoll" on Linux, or "goroutine"`},
		{"log format", "roles:", "log: {format: xml}\nroles:", `:3:15: log.format: unknown (got "xml")`},
		{"log level", "roles:", "log: {level: loud}\nroles:", `:3:14: log.level: unknown (got "loud")`},
		{"negative resync", "roles:", "resync: -1s\nroles:", `:3:9: resync: negative (got "-1s"); give a duration such as 30s`},
		{"negative settle", "roles:", "settle: -1s\nroles:", `:3:9: settle: negative`},
		{"negative shutdown_timeout", "roles:", "shutdown_timeout: -1s\nroles:", `:3:19: shutdown_timeout: negative`},

		{"no api", "api:\n  listen: 127.0.0.1:8080\n", "", `api.listen: missing; give an address and port`},
		{"empty api.listen", "127.0.0.1:8080", `""`, `:5:11: api.listen: missing; give an address and port`},
		{"api in clear text", "127.0.0.1:8080", "10.0.0.1:8080", `:5:11: api.listen: would take tokens in clear text from a network (got "10.0.0.1:8080")`},
		{"api in clear text everywhere", "127.0.0.1:8080", "0.0.0.0:8080", `:5:11: api.listen: would take tokens in clear text`},
		{"certificate without key", "listen: 127.0.0.1:8080", "listen: 127.0.0.1:8080\n  certificate_file: a.crt", `:6:21: api.certificate_file: half of a pair`},
		{"key without certificate", "listen: 127.0.0.1:8080", "listen: 127.0.0.1:8080\n  key_file: a.key", `:4:1: api.certificate_file: missing; set both certificate_file and key_file`},
		{"public admin", "127.0.0.1:9090", "203.0.113.1:9090", `:7:11: admin.listen: not a loopback or private address (got "203.0.113.1:9090")`},
		{"admin everywhere", "127.0.0.1:9090", "0.0.0.0:9090", `:7:11: admin.listen: not a loopback or private address`},
		{"access key alone", "roles:", "aws: {access_key_id: AKIAIOSFODNN7EXAMPLE}\nroles:", `:3:22: aws.access_key_id: half of a pair`},
		{"secret alone", "roles:", "aws: {secret_access_key_file: s}\nroles:", `aws.access_key_id: missing; set both`},

		{"role ingress without ingress", good[strings.Index(good, "ingress:\n"):], "", `:1:1: ingress: missing; list the regions' doors where roles has ingress`},
		{"ingress without its role", "[control, ingress]", "[control]", `:8:1: ingress: goes with the role ingress`},
		{"foreign region", "us-east-1", "eu-west-1", `:9:13: ingress[0].region: not a region of the platform (got "eu-west-1"); use one of us-east-1, us-west-2`},
		{"region twice", "    public:", "  - region: us-east-1\n    private: 127.0.0.1:8445\n    public:", `:11:13: ingress[1].region: named twice`},
		{"no private", "    private: 127.0.0.1:8443\n", "", `:9:5: ingress[0].private: missing; give the address and port that the load balancer forwards to`},
		{"no sources", "us-east-1", "us-west-2", `:9:13: ingress[0].region: the platform lists no load_balancer_sources`},
	} {
		t.Run(tt.name, func(t *testing.T) {
			path := write(t, replaced(t, tt.old, tt.with))
			_, _, err := serve.LoadConfig(path)
			if err == nil {
				t.Fatal("accepted")
			}
			if got := err.Error(); !strings.Contains(got, tt.want) || !strings.HasPrefix(got, path+":") {
				t.Errorf("got\n%v\nwant\n%s", got, tt.want)
			}
			if code := postern.CodeOf(err); code != postern.CodeInvalid {
				t.Errorf("code %s", code)
			}
		})
	}
}

// The other side of what is refused above.
func TestLoadConfigAdmits(t *testing.T) {
	for _, tt := range []struct{ name, old, with string }{
		{"as it is", good, good},
		{"built-in platform, no door", good, "platform: immuta\nstate_dir: state\nroles: [control]\napi: {listen: \"127.0.0.1:8080\"}\n"},
		{"policy", "roles:", "approval: policy\nroles:"},
		{"engine", "roles:", "engine: goroutine\nroles:"},
		{"logs", "roles:", "log: {format: text, level: debug}\nroles:"},
		{"api on IPv6 loopback", "127.0.0.1:8080", `"[::1]:8080"`},
		{"api on a network with TLS", "listen: 127.0.0.1:8080", "listen: 10.0.0.1:8080\n  certificate_file: a.crt\n  key_file: a.key"},
		{"admin on the vendor's network", "127.0.0.1:9090", "10.0.0.1:9090"},
		{"no admin", "admin:\n  listen: 127.0.0.1:9090\n", ""},
		{"no public door", "    public: 127.0.0.1:8444\n", ""},
		{"empty public door", "127.0.0.1:8444", `""`},
		{"zero durations are defaults", "roles:", "resync: 0s\nroles:"},
		{"AWS keys", "roles:", "aws: {access_key_id: AKIAIOSFODNN7EXAMPLE, secret_access_key_file: s}\nroles:"},
		{"limits", "roles:", "limits: {hello_timeout: 5s, idle_timeout: 1h, dial_timeout: 2s, max_connections: 1000}\nroles:"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			if _, _, err := serve.LoadConfig(write(t, replaced(t, tt.old, tt.with))); err != nil {
				t.Error(err)
			}
		})
	}
}

func TestLoadConfigTellsAllProblemsOfAFile(t *testing.T) {
	text := strings.NewReplacer("state_dir: state\n", "approval: all\n", "127.0.0.1:9090", "0.0.0.0:9090", "us-east-1", "mars").Replace(good)
	_, _, err := serve.LoadConfig(write(t, text))
	var e *strictyaml.Error
	if !errors.As(err, &e) {
		t.Fatalf("got %v", err)
	}
	var fields []string
	for _, p := range e.Problems {
		fields = append(fields, p.Field)
	}
	if d := cmp.Diff([]string{"state_dir", "approval", "admin.listen", "ingress[0].region"}, fields); d != "" {
		t.Errorf("(-want +got):\n%s\n%v", d, err)
	}
}

// A platform's own problems are shown in the platform's file.
func TestLoadConfigShowsProblemsOfThePlatform(t *testing.T) {
	path := write(t, good)
	file := filepath.Join(filepath.Dir(path), "platform.yaml")
	if err := os.WriteFile(file, []byte(strings.Replace(platform, "use1-az1", "us-east-1a", 1)), 0o600); err != nil {
		t.Fatal(err)
	}
	_, _, err := serve.LoadConfig(path)
	if err == nil || !strings.HasPrefix(err.Error(), file+":13:33: segments[0].regions[0].availability_zone_ids[0]: ") {
		t.Errorf("got %v", err)
	}
}

func TestLoadConfigCannotRead(t *testing.T) {
	dir := t.TempDir()
	for _, path := range []string{dir, filepath.Join(dir, "absent.yaml")} {
		_, _, err := serve.LoadConfig(path)
		var e *postern.Error
		if !errors.As(err, &e) || e.Field != "--config" || e.Value != path || e.Code != postern.CodeInvalid {
			t.Errorf("%s: %v", path, err)
		}
	}
}

// What a program writes, as the sandbox does, is read back the same.
func TestConfigRoundTrip(t *testing.T) {
	path := write(t, good)
	dir := filepath.Dir(path)
	base, _, err := serve.LoadConfig(path) // completed with what is the default of each key
	if err != nil {
		t.Fatal(err)
	}
	base.Admin.Listen, base.Ingress[0].Public = netip.AddrPort{}, netip.AddrPort{}
	base.Approval, base.Log = "policy", serve.Log{Format: "text", Level: "warn"}
	base.Resync, base.Settle, base.ShutdownTimeout = 1500*time.Millisecond, 20*time.Millisecond, 500*time.Millisecond
	full := base
	full.API.CertificateFile, full.API.KeyFile = filepath.Join(dir, "a.crt"), filepath.Join(dir, "a.key")
	full.Admin.Listen = netip.MustParseAddrPort("[::1]:9090")
	full.AWS = serve.AWS{EndpointURL: "http://127.0.0.1:4566", AccessKeyID: "AKIAIOSFODNN7EXAMPLE", SecretAccessKeyFile: filepath.Join(dir, "s"), CAFile: filepath.Join(dir, "ca")}
	full.Ingress = []serve.Ingress{{Region: "us-east-1", Private: base.Ingress[0].Private, Public: netip.MustParseAddrPort("127.0.0.1:8444")}}
	full.Limits = serve.Limits{HelloTimeout: time.Second, IdleTimeout: time.Hour, DialTimeout: time.Minute, MaxConnections: 7}
	full.AccessLog = filepath.Join(dir, "access.log")
	full.Node = serve.Node{ID: "node-a", ControlURL: "https://postern.acme.example:8443", TokenFile: filepath.Join(dir, "t"), CAFile: filepath.Join(dir, "ca")}
	for name, c := range map[string]serve.Config{"little": base, "everything": full} {
		t.Run(name, func(t *testing.T) {
			text, err := strictyaml.Encode(c)
			if err != nil {
				t.Fatal(err)
			}
			if err := os.WriteFile(path, text, 0o600); err != nil {
				t.Fatal(err)
			}
			got, _, err := serve.LoadConfig(path)
			if err != nil {
				t.Fatalf("%v\n%s", err, text)
			}
			if d := cmp.Diff(c, got, cmpopts.EquateComparable(netip.AddrPort{}), cmpopts.EquateEmpty()); d != "" {
				t.Errorf("(-written +read):\n%s\n%s", d, text)
			}
		})
	}
}

// FuzzLoadConfig: no config file makes the process panic, whatever the YAML
// library makes of it.
func FuzzLoadConfig(f *testing.F) {
	f.Add([]byte(good))
	f.Add([]byte("roles: !0\n000000000"))
	f.Add([]byte("platform: immuta\ningress:\n- region: us-east-1\n"))
	dir := f.TempDir()
	path := filepath.Join(dir, "serve.yaml")
	if err := os.WriteFile(filepath.Join(dir, "platform.yaml"), []byte(platform), 0o600); err != nil {
		f.Fatal(err)
	}
	f.Fuzz(func(t *testing.T, b []byte) {
		if err := os.WriteFile(path, b, 0o600); err != nil {
			t.Fatal(err)
		}
		c, p, err := serve.LoadConfig(path)
		if err == nil && (p == nil || c.StateDir == "" || len(c.Roles) == 0) {
			t.Errorf("admitted without what it needs: %+v", c)
		}
	})
}
