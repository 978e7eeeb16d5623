package serve_test

import (
	"net/netip"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/google/go-cmp/cmp/cmpopts"

	"github.com/postern-net/postern/internal/serve"
	"github.com/postern-net/postern/internal/strictyaml"
)

// scimPlatform has a SCIM ingress in the region with the door.
var scimPlatform = strings.NewReplacer(
	"  privatelink: privatelink.acme.example\n", "  privatelink: privatelink.acme.example\n  scim: scim.acme.example\n",
	"        load_balancer_sources: [127.0.0.0/8]\n", "        load_balancer_sources: [127.0.0.0/8]\n        scim_ingress: [192.0.2.20]\n",
).Replace(platform)

const scimConfig = good + `    scim: 127.0.0.1:8445
scim:
  certificate_file: scim.crt
  key_file: scim.key
`

// writeSCIM writes a config beside a platform.
func writeSCIM(t *testing.T, platform, config string) string {
	t.Helper()
	path := write(t, config)
	if err := os.WriteFile(filepath.Join(filepath.Dir(path), "platform.yaml"), []byte(platform), 0o600); err != nil {
		t.Fatal(err)
	}
	return path
}

func TestSCIMConfig(t *testing.T) {
	path := writeSCIM(t, scimPlatform, scimConfig)
	dir := filepath.Dir(path)
	c, _, err := serve.LoadConfig(path)
	if err != nil {
		t.Fatal(err)
	}
	want := serve.SCIM{CertificateFile: filepath.Join(dir, "scim.crt"), KeyFile: filepath.Join(dir, "scim.key")}
	if diff := cmp.Diff(want, c.SCIM); diff != "" || c.Ingress[0].SCIM != netip.MustParseAddrPort("127.0.0.1:8445") {
		t.Errorf("%v %s", c.Ingress[0].SCIM, diff)
	}
	c.SCIM = serve.SCIM{
		ACME:          serve.ACME{DirectoryURL: "https://ca.acme.example/directory", CAFile: filepath.Join(dir, "ca"), Email: "ops@acme.example", AgreeToTerms: true, Storage: filepath.Join(dir, "shared")},
		BackendCAFile: filepath.Join(dir, "backends"), MaxBody: 7, RequestTimeout: time.Second, MaxConnections: 20, MaxRequests: 10, RequestsPerSecond: 9,
	}
	text, err := strictyaml.Encode(c)
	if err != nil {
		t.Fatal(err)
	}
	again, _, err := serve.LoadConfig(writeSCIM(t, scimPlatform, string(text)))
	if err != nil {
		t.Fatalf("%v\n%s", err, text)
	}
	if diff := cmp.Diff(c.SCIM, again.SCIM, cmpopts.EquateEmpty()); diff != "" {
		t.Error(diff)
	}
}

func TestSCIMConfigRefuses(t *testing.T) {
	const files = "  certificate_file: scim.crt\n  key_file: scim.key\n"
	acme := func(lines string) string { return strings.Replace(scimConfig, files, "  acme:\n"+lines, 1) }
	for name, tc := range map[string]struct{ platform, config, says string }{
		"no SCIM domain":         {platform, scimConfig, "ingress[0].scim: the platform names no domain"},
		"no address":             {strings.Replace(scimPlatform, "        scim_ingress: [192.0.2.20]\n", "", 1), scimConfig, "ingress[0].scim: the platform lists no scim_ingress"},
		"the public address":     {scimPlatform, strings.Replace(scimConfig, "8445", "8444", 1), "ingress[0].scim: is another door's address"},
		"no certificate":         {scimPlatform, strings.Replace(scimConfig, "scim:\n"+files, "", 1), "scim.certificate_file: missing; set certificate_file and key_file, or acme"},
		"half a certificate":     {scimPlatform, strings.Replace(scimConfig, "  key_file: scim.key\n", "", 1), "half of a pair"},
		"two ways":               {scimPlatform, scimConfig + "  acme:\n    directory_url: https://ca.example/\n    agree_to_terms: true\n", "one way to certificates is needed"},
		"no door":                {scimPlatform, strings.Replace(scimConfig, "    scim: 127.0.0.1:8445\n", "", 1), "scim: goes with a door"},
		"terms":                  {scimPlatform, acme("    directory_url: https://ca.example/dir\n"), "scim.acme.agree_to_terms: the authority's terms"},
		"a directory in clear":   {scimPlatform, acme("    directory_url: http://ca.example/dir\n    agree_to_terms: true\n"), "scim.acme.directory_url: not an https URL"},
		"no directory":           {scimPlatform, acme("    agree_to_terms: true\n"), "scim.acme.directory_url: missing"},
		"a negative limit":       {scimPlatform, scimConfig + "  max_body: -1\n", "scim.max_body: negative"},
		"too many requests":      {scimPlatform, scimConfig + "  max_connections: 20\n  max_requests: 11\n", `scim.max_requests: more than half of scim.max_connections (20) (got "11")`},
		"an unknown key":         {scimPlatform, scimConfig + "  max_bodies: 1\n", "scim.max_bodies: unknown key; the keys here are acme, "},
		"an unknown key of ACME": {scimPlatform, acme("    url: x\n"), "scim.acme.url: unknown key"},
	} {
		if _, _, err := serve.LoadConfig(writeSCIM(t, tc.platform, tc.config)); err == nil || !strings.Contains(err.Error(), tc.says) {
			t.Errorf("%s: %v; want %q", name, err, tc.says)
		}
	}
	// Few connections by themselves are no contradiction: the default follows.
	if _, _, err := serve.LoadConfig(writeSCIM(t, scimPlatform, scimConfig+"  max_connections: 20\n")); err != nil {
		t.Error(err)
	}
}
