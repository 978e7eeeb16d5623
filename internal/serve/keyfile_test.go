package serve_test

import (
	"io/fs"
	"net"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"go.uber.org/goleak"

	"github.com/postern-net/postern"
	"github.com/postern-net/postern/internal/serve"
)

// A private key that everybody on the machine may use stops the start, wherever
// it is of.
func TestStartRefusesKeysThatEverybodyReads(t *testing.T) {
	defer goleak.VerifyNone(t)
	const says = "everybody on the machine may use the private key"
	for mode, refused := range map[fs.FileMode]bool{0o600: false, 0o400: false, 0o640: false, 0o644: true, 0o604: true, 0o602: true} {
		p := lay(t, "")
		dir := filepath.Dir(p.config)
		certificate(t, dir, net.IPv4(127, 0, 0, 1))
		cert, key := filepath.Join(dir, "api.crt"), filepath.Join(dir, "api.key")
		if err := os.Chmod(key, mode); err != nil {
			t.Fatal(err)
		}
		b, err := os.ReadFile(p.config)
		if err != nil {
			t.Fatal(err)
		}
		put(t, p.config, strings.Replace(string(b), "api:\n", "api:\n  certificate_file: api.crt\n  key_file: api.key\n", 1), 0o600)
		s, _ := newServer(t, p)
		api := s.Start(t.Context())
		s.Stop()
		c := serve.Config{SCIM: serve.SCIM{CertificateFile: cert, KeyFile: key}, Egress: []serve.Egress{{Region: "us-east-1", CertificateFile: cert, KeyFile: key}}}
		scim, egress := serve.OpenCertificates(c)
		for field, err := range map[string]error{"api.key_file": api, "scim.key_file": scim, "egress[].key_file": egress} {
			if !refused && err != nil || refused && (postern.CodeOf(err) != postern.CodeInvalid || !strings.Contains(err.Error(), field+": "+says)) {
				t.Errorf("%s of mode %04o: %v", field, mode, err)
			}
		}
	}
}
