package serve

import (
	"cmp"
	"fmt"
	"net/url"
	"strconv"
	"time"

	"github.com/postern-net/postern"
	"github.com/postern-net/postern/internal/scim"
)

// SCIM is what the SCIM-only ingress needs, at which TLS ends. One of the two
// ways to certificates is required: files, or ACME.
type SCIM struct {
	CertificateFile string `yaml:"certificate_file,omitempty"` // PEM chain for every SCIM host, a wildcard mostly; read again when it changes
	KeyFile         string `yaml:"key_file,omitempty"`
	ACME            ACME   `yaml:"acme,omitempty"`
	// BackendCAFile holds who may sign the backends' certificates, in PEM;
	// default: the system's roots.
	BackendCAFile string `yaml:"backend_ca_file,omitempty"`

	MaxBody           int64         `yaml:"max_body,omitempty"`            // bytes of one request; default 1 MiB
	RequestTimeout    time.Duration `yaml:"request_timeout,omitempty"`     // default 60s
	MaxConnections    int           `yaml:"max_connections,omitempty"`     // of one door; default 2000
	MaxRequests       int           `yaml:"max_requests,omitempty"`        // of one tenant under way; default 256, or half of max_connections
	RequestsPerSecond int           `yaml:"requests_per_second,omitempty"` // of one client to one tenant; a tenant has four times as many, an address eight times; default 100
}

// ACME is a certificate authority that certificates are obtained from.
type ACME struct {
	DirectoryURL string `yaml:"directory_url,omitempty"`
	CAFile       string `yaml:"ca_file,omitempty"` // PEM; who may sign the directory's own certificate; default: the system's roots
	Email        string `yaml:"email,omitempty"`   // who the authority tells of trouble
	AgreeToTerms bool   `yaml:"agree_to_terms,omitempty"`
	Storage      string `yaml:"storage,omitempty"` // a directory that nodes may share; default: acme in state_dir
}

// hasSCIM tells whether a door of this process serves SCIM.
func (c *Config) hasSCIM() bool {
	for _, in := range c.Ingress {
		if in.SCIM.IsValid() {
			return true
		}
	}
	return false
}

func (c *Config) validateSCIM(es *postern.Errors, p *postern.Platform) {
	if !c.hasSCIM() {
		if c.SCIM != (SCIM{}) {
			es.Add(postern.Invalid("scim", "", "goes with a door that serves it", "give an entry of ingress an address for scim, or leave this out"))
		}
		return
	}
	for i, in := range c.Ingress {
		at := fmt.Sprintf("ingress[%d].scim", i)
		switch r, _, _ := p.Region(in.Region); {
		case !in.SCIM.IsValid():
		case p.Domains.SCIM == "":
			es.Add(postern.Invalid(at, in.SCIM.String(), "the platform names no domain for SCIM hosts", "add domains.scim to the platform file"))
		case len(r.SCIMIngress) == 0:
			es.Add(postern.Invalid(at, in.SCIM.String(), "the platform lists no scim_ingress for this region, so that no tenant of it can ask for one", "add the door's public addresses to the region in the platform file"))
		case in.SCIM == in.Public || in.SCIM == in.Private:
			es.Add(postern.Invalid(at, in.SCIM.String(), "is another door's address", "give the SCIM ingress, at which TLS ends, one of its own"))
		}
	}
	files := c.SCIM.CertificateFile != "" || c.SCIM.KeyFile != ""
	switch acme := c.SCIM.ACME; {
	case files && acme != (ACME{}), !files && acme == (ACME{}):
		es.Add(postern.Invalid("scim.certificate_file", c.SCIM.CertificateFile, "one way to certificates is needed", "set certificate_file and key_file, or acme"))
	case files && (c.SCIM.CertificateFile == "" || c.SCIM.KeyFile == ""):
		es.Add(postern.Invalid("scim.certificate_file", c.SCIM.CertificateFile, "half of a pair", "set both certificate_file and key_file"))
	case !files:
		if u, err := url.Parse(acme.DirectoryURL); err != nil || u.Scheme != "https" || u.Host == "" {
			es.Add(postern.Invalid("scim.acme.directory_url", acme.DirectoryURL, "not an https URL", `give the authority's directory, such as "https://acme-v02.api.letsencrypt.org/directory"`))
		}
		if !acme.AgreeToTerms {
			es.Add(postern.Invalid("scim.acme.agree_to_terms", "false", "the authority's terms are not agreed to", "read them, and set agree_to_terms: true"))
		}
	}
	if connections, requests := cmp.Or(c.SCIM.MaxConnections, scim.DefaultMaxConnections), c.SCIM.MaxRequests; connections > 0 && requests > connections/2 {
		es.Add(postern.Invalid("scim.max_requests", strconv.Itoa(requests), fmt.Sprintf("more than half of scim.max_connections (%d)", connections),
			"a tenant has half of the connections, and requests must not be able to fill them: give at most "+strconv.Itoa(connections/2)))
	}
	for field, v := range map[string]int64{
		"scim.max_body": c.SCIM.MaxBody, "scim.request_timeout": int64(c.SCIM.RequestTimeout), "scim.max_connections": int64(c.SCIM.MaxConnections), "scim.max_requests": int64(c.SCIM.MaxRequests), "scim.requests_per_second": int64(c.SCIM.RequestsPerSecond),
	} {
		if v < 0 {
			es.Add(postern.Invalid(field, fmt.Sprint(v), "negative", "leave it out for the default, or give what is meant"))
		}
	}
}
